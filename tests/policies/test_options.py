"""Options as a config gives them, and a baseline made with them or tuned beside them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from recsys.errors import UserError
from recsys.evaluation.cold_start import cold_cases
from recsys.logs.prepared import Role, training_histories
from recsys.mdp.state import empty_history
from recsys.policies.choice import chosen_policy, popularity_of
from recsys.policies.item_knn import ItemKnn, ItemKnnOptions
from recsys.policies.options import options_of
from recsys.policies.popularity import Popularity, PopularityOptions
from recsys.policies.spaces import AXES, Bench, cold_bench
from recsys.policies.storage import KINDS
from tests.memory_log import memory_log, taken

NOBODY = empty_history(np.array([0], np.int32))
SEQUENCE = {"features": 8, "hidden": 8, "epochs": 1, "negatives": 8, "batch_size": 8}


def bench(cold: bool = True) -> Bench:
    chance = np.random.default_rng(0)
    told = [taken(*chance.permutation(8).tolist()) for _ in range(24)]
    if cold:
        told += [taken(*chance.permutation(8).tolist(), role=Role.COLD_VALIDATION) for _ in range(6)]
    log = memory_log(told, items=8)
    cases = cold_cases(log, Role.COLD_VALIDATION, 3, 100, np.random.default_rng(0))
    return cold_bench(log, cases, (0, 3), 10, seed=7)


def test_options_are_read_as_a_command_line_gives_them() -> None:
    given = {"neighbours": "50", "identified_only": "false", "popularity": {"half_life_days": "30"}}
    expected = ItemKnnOptions(
        neighbours=50, identified_only=False, popularity=PopularityOptions(half_life_days=30.0)
    )
    assert options_of("item_knn", given) == expected
    assert options_of("item_knn", {}) == ItemKnnOptions()
    assert options_of("popularity", {"half_life_days": None}) == PopularityOptions()


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (
            "item_knn",
            {"neighbour": 5},
            r"unknown option baseline.options.neighbour; did you mean neighbours\?",
        ),
        ("als", {"zzz": 5}, "unknown option baseline.options.zzz; it takes: features, unobserved, l2"),
        (
            "ease",
            {"popularity": {"wind": 5}},
            r"unknown option baseline.options.popularity.wind; .*window_days",
        ),
        (
            "item_knn",
            {"neighbours": "many"},
            r"baseline.options.neighbours is 'many': .*integer; set it with",
        ),
        ("vsknn", {"decay": "odd"}, r"baseline.options.decay is 'odd': .*'linear'"),
        ("item_knn", {"neighbours": -1}, "baseline.options.neighbours is -1, must be .*not negative"),
        ("als", {"features": 0}, "baseline.options.features is 0, must be at least 1"),
        ("als", {"l2": 0.0}, "baseline.options.l2 is 0, must be above 0"),
        ("als", {"l2": float("nan")}, "baseline.options.l2 is nan"),
        ("als", {"unobserved": float("inf")}, "baseline.options.unobserved is inf"),
        ("sequence", {"dropout": 1.0}, "baseline.options.dropout is 1, must be below 1"),
        ("ease", {"popularity": {"half_life_days": 0}}, "popularity.half_life_days is 0, must be above 0"),
        ("ease", {"popularity": "odd"}, "baseline.options.popularity is 'odd'"),
    ],
)
def test_what_is_refused_is_one_line(kind: str, given: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        options_of(kind, given)
    assert "\n" not in str(error.value)


def test_every_kind_has_axes() -> None:
    assert set(AXES) == set(KINDS)


@pytest.mark.parametrize("trials", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_made_with_or_without_trials(kind: str, trials: int) -> None:
    desk = bench()
    given = {name: value for name, value in SEQUENCE.items() if name not in AXES[kind] or not trials}
    tuned = chosen_policy(desk, kind, given if kind == "sequence" else {}, trials)
    assert tuned.trials == trials
    assert 0 < tuned.quality <= 1
    assert tuned.policy.scores([NOBODY]).shape == (1, 8)
    assert popularity_of(desk, tuned.policy).popularity_.shape == (8,)
    if kind == "sequence":
        assert tuned.policy.options.features == 8


def test_options_as_given_are_those_of_a_plain_fit() -> None:
    desk = bench()
    given = {"shrinkage": 3.0, "popularity": {"count": "events"}}
    tuned = chosen_policy(desk, "item_knn", given, 0)
    options = ItemKnnOptions(shrinkage=3.0, popularity=PopularityOptions(count="events"))
    plain = ItemKnn(options).fit(desk.log, training_histories(desk.log))
    np.testing.assert_array_equal(tuned.policy.scores([NOBODY]), plain.scores([NOBODY]))
    expected = Popularity(options.popularity).fit(desk.log, training_histories(desk.log))
    np.testing.assert_array_equal(popularity_of(desk, tuned.policy).popularity_, expected.popularity_)


def test_what_is_not_searched_is_held_and_what_is_searched_is_refused() -> None:
    held = chosen_policy(bench(), "als", {"seed": 5}, 2)
    assert held.policy.options.seed == 5
    with pytest.raises(UserError, match=r"baseline.options.sweeps is given, but baseline.trials searches it"):
        chosen_policy(bench(), "als", {"sweeps": 5}, 2)
    with pytest.raises(UserError, match=r"baseline.options.popularity is given, but"):
        chosen_policy(bench(), "als", {"popularity": {"count": "events"}}, 2)


def test_without_validation_users_there_is_nothing_to_try_on() -> None:
    assert np.isnan(chosen_policy(bench(cold=False), "item_knn", {}, 0).quality)
    with pytest.raises(UserError, match=r"baseline.trials is 4, but the log has no validation users"):
        chosen_policy(bench(cold=False), "item_knn", {}, 4)

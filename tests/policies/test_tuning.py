"""The search finds what is best for the cases it is shown, within its budget, the same every time."""

from dataclasses import dataclass

import numpy as np
import pytest

from recsys.evaluation.cold_start import cold_cases
from recsys.logs.prepared import PreparedLog, Role
from recsys.policies.baselines import ItemKnnOptions, Popularity, PopularityOptions
from recsys.policies.tuning import mean_ndcg, search, tune_item_knn, tune_popularity
from tests.memory_log import Event, Told, memory_log, taken

DAY = 86_400
SHOTS = (0, 1, 2)


def changing_fashion() -> PreparedLog:
    """Long ago everybody took 0 and 1, lately 8 and 9; validation users take what is new."""
    old = [Told([Event(item, day * DAY) for item in (0, 1)]) for day in range(10) for _ in range(3)]
    new = [Told([Event(item, day * DAY) for item in (8, 9)]) for day in range(190, 200)]
    cold = [taken(2 + place % 5, 3 + place % 4, 8, 9, role=Role.COLD_VALIDATION) for place in range(12)]
    return memory_log([*old, *new, *cold])


def aisles() -> PreparedLog:
    """Users keep to one aisle of four; only what goes together says what comes next."""
    aisle = [[4 * place + item for item in range(4)] for place in range(5)]
    train = [taken(*np.roll(aisle[place % 5], place).tolist()) for place in range(40)]
    cold = [
        taken(*np.roll(aisle[place % 5], place + 1).tolist(), role=Role.COLD_VALIDATION)
        for place in range(20)
    ]
    return memory_log([*train, *cold], items=20)


def cases_of(log: PreparedLog):
    return cold_cases(log, Role.COLD_VALIDATION, 2, 100, np.random.default_rng(0))


def test_popularity_learns_that_fashion_changes() -> None:
    log = changing_fashion()
    tuned = tune_popularity(log, cases_of(log), SHOTS, 2, seed=1)
    assert tuned.policy.options.half_life_days is not None
    assert tuned.quality == pytest.approx(1.0)
    plain = Popularity().fit(log, log.with_role(Role.TRAIN))
    assert mean_ndcg(plain, cases_of(log), SHOTS, 2) < 0.5


def test_item_knn_learns_what_goes_together() -> None:
    log = aisles()
    tuned = tune_item_knn(log, cases_of(log), (1, 2), 2, seed=1, trials=8)
    assert tuned.quality == pytest.approx(1.0)
    assert tune_popularity(log, cases_of(log), (1, 2), 2, seed=1).quality < 0.6


def test_a_report_says_what_was_chosen_and_how() -> None:
    log = changing_fashion()
    one, other = (tune_item_knn(log, cases_of(log), SHOTS, 2, seed=4, trials=5) for _ in range(2))
    assert one.report() == other.report()
    assert one.report()["trials"] == 5
    assert one.report()["validation_ndcg"] == round(one.quality, 4)
    assert set(one.report()["settings"]) == set(ItemKnnOptions.__dataclass_fields__)


def test_without_validation_users_the_default_is_what_is_returned() -> None:
    log = memory_log([taken(1, 2), taken(2, 3)])
    popularity = tune_popularity(log, cases_of(log), SHOTS, 2, seed=0)
    assert popularity.policy.options == PopularityOptions()
    assert popularity.report()["validation_ndcg"] is None
    assert tune_item_knn(log, cases_of(log), SHOTS, 2, seed=0).policy.options == ItemKnnOptions()


@dataclass(frozen=True)
class Asked:
    """A policy that is nothing but its options."""

    options: ItemKnnOptions


def test_the_search_climbs_to_the_best_within_its_budget() -> None:
    axes = {"exponent": (0.1, 0.2, 0.3, 0.4, 0.5), "shrinkage": (0.0, 1.0, 2.0, 3.0, 10.0)}
    asked: list[ItemKnnOptions] = []

    def quality(policy: Asked) -> float:
        asked.append(policy.options)
        return -abs(policy.options.exponent - 0.3) - abs(policy.options.shrinkage - 2.0)

    found = search(ItemKnnOptions(), axes, Asked, quality, 25, np.random.default_rng(0))
    assert (found.policy.options.exponent, found.policy.options.shrinkage) == (0.3, 2.0)
    assert found.quality == 0.0
    assert found.trials == len(asked) == len(set(asked)) <= 25
    asked.clear()
    assert (
        search(ItemKnnOptions(), axes, Asked, quality, 6, np.random.default_rng(0)).trials == len(asked) == 6
    )
    asked.clear()
    search(ItemKnnOptions(), axes, Asked, quality, 1, np.random.default_rng(0))
    assert asked == [ItemKnnOptions()]

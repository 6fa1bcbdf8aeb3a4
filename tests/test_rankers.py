"""Baselines inside the served object: the order of their scores, what never appears, exact propensities."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.artifacts.bundle import PolicyBundle, load_bundle
from recsys.evaluation.ranking import tie_order
from recsys.live_catalogue import LiveCatalogue
from recsys.logs.prepared import training_histories
from recsys.mdp.state import History, empty_history
from recsys.policies.exploration import spread
from recsys.policies.policy import KeptPolicy
from recsys.policies.popularity import Popularity
from recsys.policies.storage import kind_of
from recsys.ranker import Allowed, Depth
from recsys.rankers import PolicyRanker
from recsys.recommender import LoggedEvent, Recommender, load_recommender
from recsys.types import FloatArray
from tests.factories import write_policy_bundle
from tests.memory_log import memory_log, random_history, random_told
from tests.policies.made import MADE

ITEMS = 14
UNAVAILABLE = (2, 9)
NOBODY = empty_history(np.array([0], np.int32))


def some_people() -> list[History]:
    generator = np.random.default_rng(2)
    return [random_history(generator, events, ITEMS) for events in (0, 1, 3, 6)]


def by_hand(scores: FloatArray, banned: set[int]) -> list[int]:
    """Return the allowed items by score, equal ones in the fixed order."""
    ties = tie_order(len(scores), seed=0)
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], ties[item]))
    return [item for item in order if item not in banned]


@pytest.mark.parametrize("made", MADE.values(), ids=MADE.keys())
def test_the_served_list_is_the_order_of_the_scores(made: Callable[[], KeptPolicy], tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    log = memory_log([random_told(generator, 12, ITEMS) for _ in range(25)], items=ITEMS)
    policy = made().fit(log, training_histories(log))  # type: ignore[attr-defined]
    folder = write_policy_bundle(tmp_path / "v1", policy, ITEMS, unavailable=UNAVAILABLE, candidates=5)
    recommender = load_recommender(folder)
    for person in some_people():
        scores = policy.scores([person])[0]
        for seen in (True, False):
            banned = {*UNAVAILABLE, 0, *(person.item.tolist() if seen else ())}
            expected = by_hand(scores, banned)
            for n in (1, 4, ITEMS + 1):
                given = recommender.recommend(person, n, seed=0, exclude={0}, exclude_seen=seen, greedy=True)
                assert given.items.tolist() == expected[:n]
                np.testing.assert_array_equal(given.scores, scores[given.items])
                assert given.candidates.tolist() == expected[: max(n, 5)]
                assert given.propensities.tolist() == [1.0] * len(given.items)
                assert (given.served_by, given.support_events) == ("policy", len(person))
                assert given.policy == f"{kind_of(policy)}/greedy"


class Told:
    """A policy that says what it is told."""

    options = None

    def __init__(self, scores: Sequence[float]) -> None:
        self.told = np.array(scores, np.float32)

    def scores(self, histories: Sequence[History]) -> FloatArray:
        return np.tile(self.told, (len(histories), 1))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> PolicyBundle:
    log = memory_log([random_told(np.random.default_rng(0), 9, ITEMS)], items=ITEMS)
    policy = Popularity().fit(log, training_histories(log))
    bundle = load_bundle(write_policy_bundle(tmp_path_factory.mktemp("bundles") / "v1", policy, ITEMS))
    assert isinstance(bundle, PolicyBundle)
    return bundle


def telling(bundle: PolicyBundle, scores: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> Recommender:
    monkeypatch.setattr("recsys.rankers.kind_of", lambda policy: "told")
    return Recommender(replace(bundle, policy=Told(scores)))


@given(data=st.data())
def test_equal_scores_come_in_the_fixed_order_wherever_the_cut_falls(
    loaded: PolicyBundle, data: st.DataObject
) -> None:
    scores = data.draw(st.lists(st.integers(0, 3), min_size=ITEMS, max_size=ITEMS))
    available = np.array(data.draw(st.lists(st.booleans(), min_size=ITEMS, max_size=ITEMS)))
    banned = data.draw(st.sets(st.integers(0, ITEMS - 1)))
    n, wanted = data.draw(st.integers(0, ITEMS + 2)), data.draw(st.integers(1, ITEMS + 2))
    bundle = replace(
        loaded,
        info=replace(loaded.info, candidates=wanted),
        catalogue=replace(loaded.catalogue, available=available),
    )
    ranker = PolicyRanker(bundle, LiveCatalogue(bundle.catalogue))
    ranker._policy = Told(scores)
    ranking = ranker.ranked(
        NOBODY, n, np.array(sorted(banned), np.int32), Allowed(bundle.catalogue.available), Depth()
    )
    gone = banned | set(np.flatnonzero(~available).tolist())
    expected = by_hand(np.array(scores), gone)[: max(n, wanted)]
    assert ranking.items.tolist() == expected
    assert ranking.scores.tolist() == [scores[item] for item in expected]


def test_propensities_are_exact_in_units_of_the_spread(
    loaded: PolicyBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [0.0, 3.0, 1.0, 2.0, 8.0]
    bundle = replace(loaded, info=replace(loaded.info, candidates=4))
    recommender = telling(bundle, [*told, *[-50.0] * (ITEMS - 5)], monkeypatch)
    weight = {item: np.exp(told[item] / (0.5 * (8.0 - 1.0))) for item in (4, 1, 3, 2)}  # the four candidates
    exact: dict[tuple[int, ...], list[float]] = {}
    for order in permutations(weight, 3):
        left = [sum(weight.values()) - sum(weight[above] for above in order[:place]) for place in range(3)]
        exact[order] = [weight[item] / rest for item, rest in zip(order, left, strict=True)]
    assert sum(float(np.prod(propensities)) for propensities in exact.values()) == pytest.approx(1.0)
    seen = set()
    for seed in range(400):
        given = recommender.recommend(NOBODY, 3, seed=seed)
        order = tuple(given.items.tolist())
        assert given.propensities.tolist() == pytest.approx(exact[order], rel=1e-5)
        assert given.policy == "told/plackett_luce(temperature=0.5)"
        seen.add(order)
    assert len(seen) > 15


@given(
    scores=st.lists(st.integers(-1000, 1000), min_size=ITEMS, max_size=ITEMS),
    power=st.integers(-60, 60),
    seed=st.integers(0, 50),
)
def test_the_scale_of_scores_changes_no_list(
    loaded: PolicyBundle, scores: list[int], power: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        one = telling(loaded, scores, patch).recommend(NOBODY, 6, seed=seed)
        scaled = [score * 2.0**power for score in scores]
        other = telling(loaded, scaled, patch).recommend(NOBODY, 6, seed=seed)
    assert one.items.tolist() == other.items.tolist()
    np.testing.assert_array_equal(one.propensities, other.propensities)
    assert ((one.propensities > 0) & (one.propensities <= 1)).all()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], 1.0),
        ([5.0], 1.0),
        ([3.0] * 12, 1.0),
        ([3.0, 2.5, 1.0], 2.0),
        ([20.0 - place for place in range(15)], 9.0),
        ([3.0] * 10 + [1.0], 2.0),  # ten are equal
        ([1.0, 1.0 - 1e-8], 1.0),  # noise
        ([float("nan"), 1.0], 1.0),
    ],
)
def test_the_spread_is_between_the_first_and_the_tenth(scores: list[float], expected: float) -> None:
    assert spread(np.array(scores, np.float32)) == pytest.approx(expected)


def test_a_baseline_has_nothing_to_adapt_and_falls_to_popular_items(loaded: PolicyBundle) -> None:
    recommender = Recommender(loaded)
    assert recommender.ladder == ("policy", "popular")
    person = recommender.history([LoggedEvent("i3", "purchase", None, 0.0, None)], {"country": "UK"})
    one, other = (recommender.recommend(person, 5, seed=3, adapt=adapt) for adapt in (True, False))
    assert one.items.tolist() == other.items.tolist()
    assert recommender.popular(3, seed=0).items.tolist() == [0, 1, 2]

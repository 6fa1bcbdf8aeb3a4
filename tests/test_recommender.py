"""The served object: exact retrieval, what must never be shown, the same seed the same list."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.adaptation import adapt_to_first
from recsys.artifacts.bundle import Bundle, load_bundle
from recsys.candidates.index import build_index
from recsys.config import ExplorationConfig, IndexConfig
from recsys.mdp.state import History, encode_states
from recsys.recommender import LoggedEvent, Recommender, load_recommender
from tests.factories import write_tiny_bundle

ITEMS = 40
EVENTS = [
    LoggedEvent("i3", "purchase", None, 0.0, None),
    LoggedEvent("i7", "click", None, 60.0, None),
    LoggedEvent("i3", "cancellation", None, 90_000.0, None),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "v1", items=ITEMS))


@pytest.fixture
def recommender(bundle: Bundle) -> Recommender:
    return Recommender(bundle)


def all_q(bundle: Bundle, history: History, *, adapt: bool = True) -> np.ndarray:
    """Return Q of the whole catalogue from the definition, without an index."""
    with torch.no_grad():
        batch = encode_states([history], bundle.info.state.max_events)
        states, last = bundle.student.state_vectors(batch), int(batch.lengths[0])
        fast = bundle.prior.mean
        if adapt:
            fast = adapt_to_first(batch, states, bundle.table, bundle.prior, batch.lengths, 0.5).mean[0]
        table = bundle.table
        q = (
            states.value[0, last]
            + table.vectors @ states.advantage[0, last]
            + table.bias
            + table.features @ fast
        )
        return q.numpy()


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("events", [0, 1, 3])
def test_a_greedy_list_is_the_order_of_q_over_the_catalogue(
    bundle: Bundle, recommender: Recommender, events: int, adapt: bool
) -> None:
    history = recommender.history(EVENTS[:events], {"country": "France"})
    given = recommender.recommend(history, 15, seed=0, greedy=True, exclude_seen=False, adapt=adapt)
    q = all_q(bundle, history, adapt=adapt)
    assert given.items.tolist() == np.argsort(-q)[:15].tolist()
    np.testing.assert_allclose(given.scores, q[given.items], rtol=1e-4, atol=1e-5)
    assert given.propensities.tolist() == [1.0] * 15
    assert given.policy == "greedy"
    assert given.support_events == (events if adapt else 0)
    assert given.served_by == ("adapted" if adapt and events else "unadapted")


def test_events_change_the_list_and_adaptation_changes_it_further(recommender: Recommender) -> None:
    history = recommender.history(EVENTS)
    before = recommender.recommend(recommender.history([]), 15, seed=0, greedy=True)
    adapted = recommender.recommend(history, 15, seed=0, greedy=True)
    unadapted = recommender.recommend(history, 15, seed=0, greedy=True, adapt=False)
    lists = {tuple(given.items.tolist()) for given in (before, adapted, unadapted)}
    assert len(lists) == 3


def test_what_is_excluded_seen_or_unavailable_never_appears(bundle: Bundle) -> None:
    available = np.ones(ITEMS, bool)
    available[[10, 11, 12]] = False
    recommender = Recommender(replace(bundle, catalogue=replace(bundle.catalogue, available=available)))
    history = recommender.history(EVENTS)
    for greedy in (True, False):
        for seed in range(10):
            given = recommender.recommend(history, ITEMS, seed=seed, exclude={0, 39}, greedy=greedy)
            assert not set(given.items.tolist()) & {0, 39, 3, 7, 10, 11, 12}
            assert len(given.items) == ITEMS - 7
            assert set(given.items.tolist()) <= set(given.candidates.tolist())
    assert not set(recommender.popular(ITEMS, seed=0, exclude={0}).items.tolist()) & {0, 10, 11, 12}


def test_seen_items_may_be_shown_again_if_asked_for(recommender: Recommender) -> None:
    given = recommender.recommend(recommender.history(EVENTS), ITEMS, seed=0, exclude_seen=False)
    assert sorted(given.items.tolist()) == list(range(ITEMS))


@pytest.mark.parametrize("n", [0, 1, 40, 1000])
def test_a_list_is_as_long_as_asked_for_or_as_the_catalogue_allows(recommender: Recommender, n: int) -> None:
    given = recommender.recommend(recommender.history([]), n, seed=3)
    assert len(given.items) == len(given.scores) == len(given.propensities) == min(n, ITEMS)
    assert len(set(given.items.tolist())) == len(given.items)
    assert len(recommender.popular(n, seed=3).items) == min(n, ITEMS)


def test_everything_excluded_leaves_an_empty_list(recommender: Recommender) -> None:
    assert len(recommender.recommend(recommender.history([]), 5, seed=0, exclude=range(ITEMS)).items) == 0
    assert len(recommender.popular(5, seed=0, exclude=range(ITEMS)).items) == 0


def test_exclusions_never_make_a_list_short_while_there_is_more(recommender: Recommender) -> None:
    """The index is asked for 20 candidates; 30 of the best are excluded."""
    best = recommender.recommend(recommender.history([]), 30, seed=0, greedy=True).items
    given = recommender.recommend(recommender.history([]), 10, seed=0, exclude=best.tolist(), greedy=True)
    assert len(given.items) == 10


def test_a_narrow_catalogue_is_searched_further_down(bundle: Bundle, recommender: Recommender) -> None:
    """The best 30 of 40 cannot be had, and the index is asked for 20 candidates at first."""
    order = recommender.recommend(recommender.history([]), ITEMS, seed=0, greedy=True).items
    available = np.ones(ITEMS, bool)
    available[order[:30]] = False
    narrow = Recommender(replace(bundle, catalogue=replace(bundle.catalogue, available=available)))
    given = narrow.recommend(narrow.history([]), 10, seed=0, greedy=True)
    assert given.items.tolist() == order[30:].tolist()


def test_the_same_history_and_seed_give_the_same_list(recommender: Recommender, bundle: Bundle) -> None:
    history = recommender.history(EVENTS)
    one = recommender.recommend(history, 10, seed=5)
    again = Recommender(bundle).recommend(history, 10, seed=5)
    assert one.items.tolist() == again.items.tolist()
    assert one.propensities.tolist() == again.propensities.tolist()
    assert (
        len({tuple(recommender.recommend(history, 10, seed=seed).items.tolist()) for seed in range(10)}) > 1
    )


def test_propensities_are_those_of_the_candidates_that_could_have_been_shown(
    bundle: Bundle, recommender: Recommender
) -> None:
    history = recommender.history(EVENTS)
    given = recommender.recommend(history, 6, seed=1)
    q = all_q(bundle, history)
    assert (
        given.candidates.tolist() == [i for i in np.argsort(-q) if i not in (3, 7)][: len(given.candidates)]
    )
    left, expected = given.candidates.tolist(), []
    for item in given.items.tolist():
        weight = np.exp((q[left] - q.max()) / 0.05)
        expected.append(weight[left.index(item)] / weight.sum())
        left.remove(item)
    assert given.propensities.tolist() == pytest.approx(expected, rel=1e-3)
    assert given.policy == "plackett_luce(temperature=0.05)"


def test_ties_come_in_one_fixed_order_that_is_not_the_catalogues(bundle: Bundle) -> None:
    flat = replace(bundle, popularity=np.zeros(ITEMS, np.float32))
    one, other = (Recommender(flat).popular(ITEMS, seed=seed).items.tolist() for seed in (0, 1))
    assert one == other != list(range(ITEMS))


def test_popular_items_come_by_popularity(recommender: Recommender) -> None:
    given = recommender.popular(4, seed=0)
    assert given.items.tolist() == [0, 1, 2, 3]
    assert given.scores.tolist() == [40.0, 39.0, 38.0, 37.0]
    assert given.served_by == "popular"


def test_only_the_newest_events_are_adapted_to(recommender: Recommender) -> None:
    many = [LoggedEvent(f"i{place % 30}", "click", None, 60.0 * place, None) for place in range(50)]
    given = recommender.recommend(recommender.history(many), 5, seed=0)
    assert given.support_events == 20  # what the bundle's state reads
    assert not set(given.items.tolist()) & set(range(30))  # but all of them were seen


def test_unknown_items_types_and_attributes_are_left_out(recommender: Recommender) -> None:
    strange = [LoggedEvent("nowhere", "click", None, 0.0, None), LoggedEvent("i1", "sneeze", None, 1.0, None)]
    history = recommender.history([*strange, EVENTS[0]], {"country": "Atlantis", "planet": "Mars"})
    assert history.item.tolist() == [3]
    assert history.attributes.tolist() == [0]
    assert len(recommender.history(strange)) == 0
    assert recommender.history([], {"country": "France"}).attributes.tolist() == [2]


def test_a_value_that_training_called_rare_is_rare_live(bundle: Bundle) -> None:
    """The log's rare values share one code; a value it never saw is one of them."""
    info = replace(bundle.info, attribute_values=(("UK", "other"),))
    recommender = Recommender(replace(bundle, info=info))
    coded = [
        recommender.history([], attributes).attributes.tolist()
        for attributes in ({"country": "UK"}, {"country": "Malta"}, {"planet": "Mars"}, None)
    ]
    assert coded == [[1], [2], [0], [0]]


def test_types_whose_reward_hangs_on_a_value_are_named(bundle: Bundle, recommender: Recommender) -> None:
    assert recommender.needs_value == frozenset()
    slopes = {"purchase": 0.3, "click": 0.0, "impression": 1.0}
    priced = replace(bundle.info, reward=bundle.info.reward.model_copy(update={"per_log_value": slopes}))
    assert Recommender(replace(bundle, info=priced)).needs_value == {"purchase"}


def test_a_live_session_ends_where_the_caller_says_or_after_a_silence(recommender: Recommender) -> None:
    def sessions(*events: tuple[float, str | None]) -> list[int]:
        told = [LoggedEvent("i1", "click", None, time, session) for time, session in events]
        return recommender.history(told).session.tolist()

    assert sessions((0, None), (1800, None), (3601, None)) == [0, 0, 1]  # half an hour is no silence yet
    assert sessions((0, "a"), (9e6, "a"), (9e6, "b")) == [0, 0, 1]
    assert sessions((0, "a"), (1, None), (2, "a")) == [0, 1, 2]


def test_an_approximate_index_serves_the_exact_order_of_what_it_finds(tmp_path: Path) -> None:
    exact = load_bundle(write_tiny_bundle(tmp_path / "v1", items=ITEMS))
    near = IndexConfig(kind="hnsw", candidates=20)
    index = build_index(exact.table.index_vectors().numpy(), near)
    recommender = Recommender(replace(exact, index=index, info=replace(exact.info, index=near)))
    given = recommender.recommend(recommender.history(EVENTS), 10, seed=0, greedy=True)
    q = all_q(exact, recommender.history(EVENTS))
    np.testing.assert_allclose(given.scores, q[given.items], rtol=1e-4, atol=1e-5)
    assert (np.diff(given.scores) <= 0).all()
    assert recommender.recommend(recommender.history([]), 1000, seed=0).items.size == ITEMS


def test_a_recommender_knows_its_version(tmp_path: Path) -> None:
    hot = ExplorationConfig(temperature=2.0)
    recommender = load_recommender(write_tiny_bundle(tmp_path / "v7", exploration=hot))
    assert recommender.version == "v7"
    assert "temperature=2" in recommender.recommend(recommender.history([]), 1, seed=0).policy

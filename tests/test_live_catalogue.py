"""Items that change and items that come after the bundle, filters, diversity and draws of the posterior, as served."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.adaptation import adapt_to_first
from recsys.artifacts.bundle import QBundle, load_bundle
from recsys.candidates.filters import CategoryFilter, ItemFilter, PriceRange
from recsys.candidates.index import build_index
from recsys.config import ExplorationConfig, IndexConfig
from recsys.live_catalogue import LiveCatalogue
from recsys.logs.prepared import training_histories
from recsys.mdp.state import encode_states
from recsys.policies.item_knn import ItemKnn
from recsys.ranker import Depth
from recsys.recommender import LoggedEvent, Recommender
from tests.factories import write_policy_bundle, write_tiny_bundle
from tests.memory_log import memory_log, random_told

ITEMS = 40
EVENTS = [LoggedEvent(f"i{item}", "purchase", None, 60.0 * item, None) for item in (3, 7, 11)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> QBundle:
    loaded = load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "v1", items=ITEMS))
    assert isinstance(loaded, QBundle)
    return loaded


@pytest.fixture(params=["student", "baseline"])
def recommender(request: pytest.FixtureRequest, bundle: QBundle, tmp_path: Path) -> Recommender:
    if request.param == "student":
        return Recommender(bundle)
    generator = np.random.default_rng(1)
    log = memory_log([random_told(generator, 12, ITEMS) for _ in range(40)], items=ITEMS)
    policy = ItemKnn().fit(log, training_histories(log))
    return Recommender(load_bundle(write_policy_bundle(tmp_path / "p1", policy, ITEMS)))


def change(recommender: Recommender, item_id: str, **fields: object) -> int:
    revision = recommender.catalogue.revision + 1
    recommender.change(revision, item_id, fields, recommender.likeness(item_id, fields))
    return recommender.catalogue.index_of[item_id]


def all_ids(recommender: Recommender, **options: object) -> list[str]:
    given_list = recommender.recommend(recommender.history(EVENTS), 2_000, seed=0, greedy=True, **options)
    return recommender.catalogue.ids(given_list.items)


def test_a_new_item_is_ranked_as_the_mean_of_what_it_is_like(bundle: QBundle) -> None:
    recommender = Recommender(bundle)
    new = change(recommender, "new", title="Item 5", categories=["group 2"])
    like = recommender.content.like("Item 5", ["group 2"])
    assert like.items[0] == 5  # the same words
    given_list = recommender.recommend(recommender.history([]), 1_000, seed=0, greedy=True)
    score = dict(zip(given_list.items.tolist(), given_list.scores.tolist(), strict=True))
    assert score[new] == pytest.approx(
        sum(w * score[i] for i, w in zip(like.items, like.weights, strict=True)), abs=1e-5
    )
    assert bundle.student.vectors.shape[0] == ITEMS  # the bundle itself stays as it was


def test_a_new_item_is_shown_can_be_had_and_is_then_known(recommender: Recommender) -> None:
    change(recommender, "new", title="Item 3", categories=["group 0"])
    assert "new" in all_ids(recommender)
    had = recommender.history([*EVENTS, LoggedEvent("new", "purchase", None, 1e4, None)])
    after = recommender.recommend(had, 1_000, seed=0)
    assert "new" not in recommender.catalogue.ids(after.items)
    assert after.support_events == 4
    assert np.isfinite(after.scores).all()
    assert "new" in recommender.catalogue.ids(recommender.popular(1_000, seed=0).items)


def test_many_new_items_are_all_found_among_many(bundle: QBundle) -> None:
    recommender = Recommender(bundle)
    for number in range(1_100):  # beyond the room that is made at first
        change(recommender, f"n{number}", title=f"Item {number % ITEMS}")
    assert len(all_ids(recommender)) == ITEMS + 1_100 - 3


def test_what_cannot_be_had_vanishes_at_once_and_returns(recommender: Recommender) -> None:
    change(recommender, "i20", title="Item 20", available=False)
    assert "i20" not in all_ids(recommender)
    assert "i20" not in recommender.catalogue.ids(recommender.popular(1_000, seed=0).items)
    assert "i20" in all_ids(recommender, allowed=recommender.allowed(ItemFilter(available=False)))
    change(recommender, "i20", title="Item 20")
    assert "i20" in all_ids(recommender)
    change(recommender, "i20", deleted=True)
    assert "i20" not in all_ids(recommender, allowed=recommender.allowed(ItemFilter(available=False)))
    assert recommender.catalogue.fields("i20") is None


def test_a_list_is_the_order_of_all_scores_whatever_the_filter_and_the_index(bundle: QBundle) -> None:
    for config in (IndexConfig(candidates=5), IndexConfig(kind="hnsw", candidates=5, hnsw_ef=8)):
        index = build_index(bundle.table.index_vectors().numpy(), config)
        recommender = Recommender(replace(bundle, index=index, info=replace(bundle.info, index=config)))
        whole = recommender.recommend(recommender.history(EVENTS), ITEMS, seed=0, greedy=True).items.tolist()
        for wanted in (
            ItemFilter(price=PriceRange(min=9.5)),  # three items
            ItemFilter(categories=("group 1",)),
            ItemFilter(include=tuple(f"i{item}" for item in range(30))),
        ):
            allowed = recommender.allowed(wanted)
            given_list = recommender.recommend(
                recommender.history(EVENTS), 8, seed=0, greedy=True, allowed=allowed
            )
            expected = [item for item in whole if allowed.mask[item]][:8]
            assert given_list.items.tolist() == expected


NAMES = st.sampled_from(["red", "green", "blue"])


@pytest.mark.filterwarnings("error:overflow")
@settings(max_examples=150, deadline=None)
@given(
    items=st.lists(
        st.tuples(st.sets(NAMES), st.none() | st.integers(0, 5), st.booleans(), NAMES),
        min_size=1,
        max_size=12,
    ),
    any_of=st.sets(NAMES),
    all_of=st.sets(NAMES),
    none_of=st.sets(NAMES, max_size=1),
    low=st.none() | st.integers(0, 3),
    high=st.none() | st.integers(3, 5) | st.just(1e300),  # the last is beyond float32
    colour=st.none() | NAMES,
    available=st.booleans(),
)
def test_a_mask_is_what_the_conditions_say_item_by_item(
    bundle, items, any_of, all_of, none_of, low, high, colour, available
) -> None:
    catalogue = LiveCatalogue(bundle.catalogue)
    for number, (categories, price, there, shade) in enumerate(items):
        catalogue.put(
            f"x{number}",
            {
                "categories": sorted(categories),
                "price": price,
                "available": there,
                "attributes": {"shade": shade},
            },
        )
    wanted = ItemFilter(
        categories=CategoryFilter(any=tuple(any_of), all=tuple(all_of), none=tuple(none_of)),
        price=PriceRange(min=low, max=high),
        attributes={} if colour is None else {"shade": colour},
        available=available,
        include=tuple(f"x{number}" for number in range(len(items))),
    )
    recommender = Recommender(bundle)
    recommender.catalogue = catalogue
    found = {catalogue.item_ids[item] for item in recommender.allowed(wanted).items}
    expected = {
        f"x{number}"
        for number, (categories, price, there, shade) in enumerate(items)
        if (not any_of or categories & any_of)
        and all_of <= categories
        and not (categories & none_of)
        and (low is None or (price is not None and price >= low))
        and (high is None or (price is not None and price <= high))
        and colour in (None, shade)
        and (there or not available)
    }
    assert found == expected


def test_the_callers_own_candidates_are_ranked_whether_they_can_be_had_or_not(
    recommender: Recommender,
) -> None:
    change(recommender, "i20", title="Item 20", available=False)
    own = ["i20", "i30", "nowhere", "i5"]
    assert set(all_ids(recommender, allowed=recommender.allowed(None, own))) == {"i20", "i30", "i5"}
    assert set(all_ids(recommender, allowed=recommender.allowed(ItemFilter(), own))) == {"i30", "i5"}


def test_draws_of_the_posterior_have_its_mean_and_variance(bundle: QBundle) -> None:
    """Held against the closed form of FastWeights, over all candidates."""
    recommender = Recommender(bundle)
    history = recommender.history(EVENTS)
    many = ExplorationConfig(kind="thompson", samples=256)
    draws, ranking = [], None
    for seed in range(40):
        ranking = recommender.ranker.ranked(
            history,
            ITEMS,
            np.empty(0, np.int32),
            recommender.allowed(),
            Depth(samples=many.samples, seed=seed),
        )
        draws.append(ranking.samples)
    told = np.concatenate(draws)
    with torch.no_grad():
        batch = encode_states([history], bundle.info.state.max_events)
        states = bundle.student.state_vectors(batch)
        fast = adapt_to_first(batch, states, bundle.table, bundle.prior, batch.lengths, 0.5)
        variance = fast.variance(bundle.table.features)[0].numpy()[ranking.items]
    deviation = np.sqrt(variance)
    assert (np.abs(told.mean(axis=0) - ranking.scores) < 5 * deviation / np.sqrt(len(told))).all()
    np.testing.assert_allclose(told.std(axis=0), deviation, rtol=0.05)


def test_every_policy_serves_lists_that_its_seed_alone_decides(recommender: Recommender) -> None:
    history = recommender.history(EVENTS)
    for kind in ("greedy", "epsilon", "plackett_luce", "thompson"):
        for diversity in (0.0, 0.2):
            exploration = ExplorationConfig(kind=kind, diversity=diversity, temperature=0.3)
            one, same = (
                recommender.recommend(history, 10, seed=4, exploration=exploration) for _ in range(2)
            )
            assert one.items.tolist() == same.items.tolist()
            assert one.propensities.tolist() == same.propensities.tolist()
            assert ((one.propensities > 0) & (one.propensities <= 1 + 1e-6)).all()
            assert len(set(one.items.tolist())) == 10
            assert kind in one.policy or (kind == "thompson" and "epsilon" in one.policy)


def test_what_is_similar_shares_what_the_ranker_knows(recommender: Recommender) -> None:
    for item in range(ITEMS):
        change(recommender, f"i{item}", title=f"Item {item}", categories=[f"group {item % 3}", "all"])
    items, likeness = recommender.similar(5, 7)
    assert len(items) == 7
    assert 5 not in items
    assert (np.diff(likeness) <= 1e-6).all()
    twin = change(recommender, "twin", title="Item 5", categories=["group 2", "all"])
    assert len(recommender.similar(twin, 1_000)[0]) == ITEMS


def test_what_is_like_nothing_known_is_like_no_item(recommender: Recommender) -> None:
    for item in range(ITEMS):
        change(recommender, f"i{item}", title=f"Item {item}", categories=[f"group {item % 3}"])
    toy, slash = (change(recommender, name, title=name) for name in ("toy", "slash"))
    for item in range(ITEMS):
        assert not {toy, slash} & set(recommender.similar(item, 1_000)[0].tolist())
    assert len(recommender.similar(toy, 1_000)[0]) == 0
    assert "toy" in all_ids(recommender)  # it is scored as the mean of all, and shown
    change(recommender, "toy", title="toy", categories=["group 1"])
    assert toy in recommender.similar(1, 1_000)[0]
    for number in range(1_100):  # beyond the room that is made at first
        change(recommender, f"n{number}", title=f"Item {number % ITEMS}", categories=["group 1"])
    found = recommender.similar(1, 2_000)[0].tolist()
    assert slash not in found
    assert {toy, recommender.catalogue.index_of["n1099"]} <= set(found)


def test_reasons_name_what_the_user_had(bundle: QBundle) -> None:
    recommender = Recommender(bundle)
    history = recommender.history(EVENTS)
    given_list = recommender.recommend(history, 20, seed=0)
    reasons = recommender.reasons(history, given_list.items)
    assert len(reasons) == 20
    similar = [reason for each in reasons for reason in each if reason["kind"] == "similar_to"]
    assert similar
    assert {reason["item_id"] for reason in similar} <= {"i3", "i7", "i11"}
    assert all(each for each in recommender.reasons(recommender.history([]), given_list.items))

"""Explanations say what leaving an event out would do, and agree with what is served."""

import numpy as np
import pytest

from recsys.explanation import explain, newest_items, strongest
from recsys.logs.prepared import training_histories
from recsys.policies.item_knn import ItemKnn
from recsys.ranker import Depth
from recsys.recommender import LoggedEvent, Recommender, load_recommender
from tests.factories import write_policy_bundle, write_tiny_bundle
from tests.memory_log import memory_log, random_told


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return load_recommender(write_tiny_bundle(tmp_path_factory.mktemp("explained") / "v1"))


def history_of(recommender: Recommender, *items: str):
    return recommender.history([LoggedEvent(item, "purchase", None, 60.0, "s") for item in items])


def test_the_score_explained_is_the_score_served(recommender):
    history = history_of(recommender, "i3", "i8", "i3")
    served = recommender.recommend(history, 10, seed=1)
    why = explain(recommender.ranker, history, served.items)
    np.testing.assert_allclose(why.score, served.scores, atol=1e-5)
    plain = recommender.recommend(history, 40, seed=1, adapt=False, greedy=True)
    base = dict(zip(plain.items.tolist(), plain.scores.tolist(), strict=True))
    for item, told in zip(served.items.tolist(), why.base, strict=True):
        if item in base:
            assert told == pytest.approx(base[item], abs=1e-5)


def test_a_pull_is_what_leaving_everything_done_with_an_item_out_takes_away(recommender):
    items = np.arange(20, 30, dtype=np.int32)
    why = explain(recommender.ranker, history_of(recommender, "i3", "i8", "i3"), items)
    assert why.sources.tolist() == [8, 3]  # the newest last
    for place, left in enumerate((("i3", "i3"), ("i8",))):
        without = explain(recommender.ranker, history_of(recommender, *left), items).score
        np.testing.assert_allclose(why.pulls[place], why.score - without, atol=1e-5)
    assert np.abs(why.pulls).max() > 1e-3


def test_before_any_event_nothing_is_learnt_and_every_event_takes_doubt_away(recommender):
    items = np.arange(12, dtype=np.int32)
    before = explain(recommender.ranker, history_of(recommender), items)
    np.testing.assert_allclose(before.score, before.base, atol=1e-5)
    np.testing.assert_array_equal(before.deviation, before.prior_deviation)
    assert before.pulls.shape == (0, 12)
    one = explain(recommender.ranker, history_of(recommender, "i3"), items).deviation
    two = explain(recommender.ranker, history_of(recommender, "i3", "i8"), items).deviation
    assert (one <= before.deviation + 1e-6).all()
    assert one[3] < before.deviation[3] - 1e-3
    assert two[8] < one[8] - 1e-3


def test_the_deviation_is_that_of_the_draws_of_the_posterior(recommender):
    """Thompson sampling scores candidates by draws of the same posterior."""
    history, items = history_of(recommender, "i3", "i8"), np.arange(40, dtype=np.int32)
    ranker = recommender.ranker
    ranking = ranker.ranked(
        history, 40, np.empty(0, np.int32), recommender.allowed(), Depth(samples=20_000, seed=3)
    )
    told = explain(recommender.ranker, history, ranking.items).deviation
    np.testing.assert_allclose(told, ranking.samples.std(axis=0), rtol=0.03)
    assert len(ranking.items) >= len(items) // 2


def test_a_baseline_has_pulls_but_no_posterior(tmp_path):
    generator = np.random.default_rng(1)
    log = memory_log([random_told(generator, 12, 20) for _ in range(30)], items=20)
    policy = ItemKnn().fit(log, training_histories(log))
    recommender = load_recommender(write_policy_bundle(tmp_path / "v1", policy, 20))
    history = history_of(recommender, "i3", "i8")
    served = recommender.recommend(history, 5, seed=1)
    why = explain(recommender.ranker, history, served.items)
    np.testing.assert_allclose(why.score, served.scores, rtol=1e-5)
    assert why.base is why.deviation is why.prior_deviation is None
    assert why.pulls.shape == (2, 5)
    assert np.abs(why.pulls).max() > 0


def test_sources_are_the_newest_different_items_and_pulls_are_told_by_size():
    assert newest_items(np.array([4, 1, 4, 2, 1], np.int32), 2).tolist() == [2, 1]
    assert newest_items(np.array([], np.int32), 2).tolist() == []
    assert list(strongest(np.array([0.1, -0.5, 0.0, 0.2], np.float32), 3, 0.05)) == [1, 3, 0]

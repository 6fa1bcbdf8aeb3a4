"""The ladder from adapted to unadapted, and a swap of bundles under load."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from recsys.artifacts.bundle import load_bundle
from recsys.recommender import LoggedEvent, Recommender
from serving.engine import Ask, answer, rank
from serving.fleet import Fleet
from serving.settings import Settings


class Wrapped:
    """A recommender whose answers, or adapted answers only, are spoilt."""

    def __init__(self, recommender, spoil, version="spoilt", adapted_only=True):
        self._recommender = recommender
        self._spoil = spoil
        self._adapted_only = adapted_only
        self.catalogue = recommender.catalogue
        self.event_types = recommender.event_types
        self.version = version
        self.reads_impressions = recommender.reads_impressions
        self.attributes = recommender.attributes
        self.feedback_types = recommender.feedback_types
        self.ladder = recommender.ladder
        self.allowed = recommender.allowed

    def history(self, events, attributes=None):
        return self._recommender.history(events, attributes)

    def recommend(self, history, n, **options):
        recommendation = self._recommender.recommend(history, n, **options)
        return self._spoil(recommendation) if options["adapt"] or not self._adapted_only else recommendation

    def popular(self, n, **options):
        return self._recommender.popular(n, **options)


def ask(recommender, events=3) -> Ask:
    ids, kind = recommender.catalogue.item_ids, recommender.event_types[-1]
    support = [LoggedEvent(ids[item], kind, None, 100.0 * item, None) for item in range(events)]
    return Ask("u", None, 5, 11, support, {}, (), True)


def _breaks_down(_):
    raise np.linalg.LinAlgError("singular")


SPOILT = [
    (_breaks_down, "adapted_failed"),
    (lambda r: replace(r, scores=np.full_like(r.scores, np.nan)), "adapted_unsound"),
    (lambda r: replace(r, propensities=np.zeros_like(r.propensities)), "adapted_unsound"),
]


@pytest.mark.parametrize(("spoil", "reason"), SPOILT)
def test_where_adaptation_fails_the_unadapted_list_is_served_and_says_why(recommender, spoil, reason):
    spoilt = Wrapped(recommender, spoil)
    served = answer(spoilt, ask(recommender))
    unadapted = replace(ask(recommender), rung="unadapted")
    assert served.fallback == reason
    assert served.ask == unadapted  # so that the line replays what was served
    np.testing.assert_array_equal(served.recommendation.items, rank(recommender, unadapted).items)


@pytest.mark.parametrize(("spoil", "reason"), SPOILT)
def test_where_the_network_fails_altogether_popular_unseen_items_are_served(recommender, spoil, reason):
    spoilt = Wrapped(recommender, spoil, adapted_only=False)
    asked = ask(recommender)
    served = answer(spoilt, asked)
    assert (served.recommendation.served_by, served.fallback) == ("popular", reason)
    shown = recommender.catalogue.ids(served.recommendation.items)
    assert len(shown) == 5
    assert not set(shown) & {event.item_id for event in asked.events}
    np.testing.assert_array_equal(rank(recommender, served.ask).items, served.recommendation.items)


def test_a_sound_answer_is_served_as_it_is(recommender):
    served = answer(recommender, ask(recommender))
    assert served.fallback is None
    assert served.recommendation.support_events == 3


def test_the_same_ask_gives_the_same_list_and_another_seed_may_not(recommender):
    one, same = rank(recommender, ask(recommender)), rank(recommender, ask(recommender))
    np.testing.assert_array_equal(one.items, same.items)
    np.testing.assert_array_equal(one.propensities, same.propensities)
    lists = {tuple(rank(recommender, replace(ask(recommender), seed=seed)).items) for seed in range(30)}
    assert len(lists) > 1


def test_events_of_types_or_items_the_bundle_does_not_know_are_left_out(recommender):
    known = ask(recommender)
    foreign = [
        LoggedEvent(recommender.catalogue.item_ids[0], "type of an older bundle", None, 1.0, None),
        LoggedEvent("item of an older bundle", recommender.event_types[-1], None, 2.0, None),
    ]
    mixed = rank(recommender, replace(known, events=[*foreign, *known.events]))
    assert mixed.support_events == 3


@pytest.mark.parametrize("impressions", ["apart", "actions"])
@pytest.mark.parametrize("rung", ["adapted", "popular"])
def test_what_was_merely_shown_may_be_shown_again(bundle, impressions, rung):
    loaded = load_bundle(bundle)
    reader = Recommender(replace(loaded, info=replace(loaded.info, impressions=impressions)))
    ids = reader.catalogue.item_ids
    events = [
        LoggedEvent(ids[3], "impression", None, 100.0, None),
        LoggedEvent(ids[5], "click", None, 200.0, None),
        LoggedEvent(ids[7], "click", None, 300.0, None),
        LoggedEvent(ids[7], "impression", None, 400.0, None),  # shown again, and had
    ]
    everything = Ask("u", None, len(ids), 11, events, {}, (), True, rung=rung)
    served = rank(reader, everything)
    assert set(served.items.tolist()) == set(range(len(ids))) - {5, 7}
    if rung == "adapted":
        assert served.support_events == (4 if impressions == "actions" else 2)


def test_a_swap_under_load_never_mixes_versions(recommender, tmp_path):
    """Each version puts its own mark into its answers: the mark must be that of the version read."""
    marked = {
        name: Wrapped(recommender, lambda r, name=name: replace(r, policy=name), version=name)
        for name in ("v1", "v2")
    }
    fleet = Fleet(Settings(auth="off", bundle=tmp_path), lambda folder: recommender, None)
    fleet.put_in_use(marked["v1"])
    done = threading.Event()

    def swap():
        while not done.wait(0.0001):
            for each in marked.values():
                fleet.put_in_use(each)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(50):
            current = fleet.ready().champion
            assert answer(current, ask(recommender)).recommendation.policy == current.version
    finally:
        done.set()
        swapper.join()


def test_the_endpoint_counts_fallbacks_and_activations(client, recommender, click):
    client.service.fleet.put_in_use(Wrapped(recommender, _breaks_down))
    client.post("/v1/events", json=click("a"))
    body = client.post("/v1/recommend", json={"user": "a"}).json()
    assert (body["model"], len(body["items"])) == ("spoilt", 10)
    metrics = client.get("/metrics").text
    assert 'recsys_fallbacks_total{reason="adapted_failed"} 1.0' in metrics

"""The endpoint on a baseline: what it says served the list, what it falls to, and that its lines replay."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys.artifacts.bundle import PolicyBundle, load_bundle
from recsys.logs.prepared import training_histories
from recsys.mdp.state import History
from recsys.policies.item_knn import ItemKnn
from recsys.recommender import LoggedEvent, Recommender
from recsys.types import FloatArray
from serving.engine import Ask, answer, rank, warm_up
from serving.event_log import from_row, impression_of, replay, to_row
from tests.factories import write_policy_bundle
from tests.memory_log import memory_log, random_told
from tests.serving.app_client import AppClient

ITEMS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(1)
    log = memory_log([random_told(generator, 12, ITEMS) for _ in range(30)], items=ITEMS)
    policy = ItemKnn().fit(log, training_histories(log))
    return write_policy_bundle(tmp_path_factory.mktemp("policy") / "v1", policy, ITEMS)


@pytest.fixture
def loaded(folder: Path) -> PolicyBundle:
    bundle = load_bundle(folder)
    assert isinstance(bundle, PolicyBundle)
    return bundle


def some_ask(**changes: object) -> Ask:
    events = [LoggedEvent(f"i{item}", "purchase", None, 100.0 * item, None) for item in (3, 7)]
    return replace(Ask("u", None, 5, 11, events, {}, (), True), **changes)


class Broken:
    """A baseline that fails, or scores with what is no number."""

    options = None

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def scores(self, histories: Sequence[History]) -> FloatArray:
        if self.error is not None:
            raise self.error
        return np.full((len(histories), ITEMS), np.nan, np.float32)


def test_a_list_says_that_a_baseline_served_it_and_replays_exactly(loaded: PolicyBundle) -> None:
    recommender = Recommender(loaded)
    warm_up(recommender)
    served = answer(recommender, some_ask())
    assert (served.recommendation.served_by, served.fallback) == ("policy", None)
    assert served.recommendation.support_events == 2
    assert served.ask.rung == "policy"
    line = from_row(to_row(impression_of("r", 0, recommender, served)))
    again = replay(recommender, line)
    np.testing.assert_array_equal(again.items, served.recommendation.items)
    np.testing.assert_array_equal(again.propensities, served.recommendation.propensities)
    assert line.policy == "item_knn/plackett_luce(temperature=0.5)"


@pytest.mark.filterwarnings("ignore:invalid value")  # of what is no number
@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Broken(RuntimeError("out of memory")), "policy_failed"),
        (Broken(np.linalg.LinAlgError("singular")), "policy_failed"),
        (Broken(), "policy_unsound"),
    ],
)
def test_where_the_baseline_fails_popular_unseen_items_are_served_once_asked(
    loaded: PolicyBundle, policy: Broken, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.rankers.kind_of", lambda policy: "broken")
    recommender = Recommender(replace(loaded, policy=policy))
    served = answer(recommender, some_ask())
    assert (served.recommendation.served_by, served.fallback) == ("popular", reason)
    assert served.recommendation.items.tolist() == [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(rank(recommender, served.ask).items, served.recommendation.items)


def test_the_endpoint_serves_it(make_client: Callable[..., AppClient], folder: Path) -> None:
    client = make_client(bundle=folder)
    first = client.post("/v1/recommend", json={"user": "a", "n": 4}).json()
    assert (first["served_by"], first["support_events"], len(first["items"])) == ("policy", 0, 4)
    event = {"user": "a", "item_id": "i3", "event_type": "purchase"}
    assert client.post("/v1/events", json=event).json()["accepted"] == 1
    second = client.post("/v1/recommend", json={"user": "a", "n": ITEMS}).json()
    assert (second["served_by"], second["support_events"]) == ("policy", 1)
    assert "i3" not in [item["item_id"] for item in second["items"]]
    assert second["items"][-1]["propensity"] == pytest.approx(1.0)  # only one item was left
    assert 'recsys_recommendations_total{served_by="policy"} 2.0' in client.get("/metrics").text
    answers = client.get("/openapi.json").json()["components"]["schemas"]["RecommendAnswer"]
    assert answers["properties"]["served_by"]["enum"] == ["adapted", "unadapted", "policy", "popular"]

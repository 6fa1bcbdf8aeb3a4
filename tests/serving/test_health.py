"""Health, readiness, metrics, and an OpenAPI document that keeps its word."""

import json
import re

import pytest

from serving.admin_schemas import (
    ExperimentsAnswer,
    ItemAnswer,
    ItemChangedAnswer,
    ItemsAnswer,
    ModelsAnswer,
)
from serving.experiments import EXAMPLE, ExperimentBody
from serving.list_schemas import (
    RANK_EXAMPLE,
    RECOMMEND_EXAMPLE,
    SESSION_EXAMPLE,
    OnboardingAnswer,
    RankRequest,
    RecommendAnswer,
    RecommendRequest,
    SessionRequest,
    SimilarAnswer,
)
from serving.schemas import (
    EVENT_EXAMPLE,
    IMPRESSION_EXAMPLE,
    ITEM_EXAMPLE,
    Event,
    EventsAnswer,
    ForgottenAnswer,
    ImpressionEvent,
    ItemFields,
    MergedAnswer,
    UserAnswer,
    UserEventsAnswer,
)


def value(client, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def test_a_started_app_is_alive_and_ready(client, recommender):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/livez").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "model": recommender.version, "store": "ready"}
    assert client.get("/").json()["docs"] == "/docs"
    assert client.get("/docs").status_code == 200


def test_without_a_bundle_it_is_alive_but_not_ready(client, click):
    client.service.fleet.put_in_use(None)
    assert client.get("/healthz").status_code == 200
    for answer in (
        client.get("/readyz"),
        client.post("/v1/recommend", json={"user": "a"}),
        client.post("/v1/events", json=click("a")),
    ):
        assert answer.status_code == 503
        assert answer.json()["error"] == {
            "code": "not_ready",
            "message": "waiting for a bundle; try again shortly",
        }
        assert answer.headers["retry-after"] == "1"


def test_without_an_answering_store_it_is_not_ready(client):
    client.service.store.backend.reader.close()
    assert client.get("/readyz").status_code == 503
    assert client.get("/readyz").json()["error"]["message"] == "waiting for the store; try again shortly"
    assert client.post("/v1/recommend", json={"user": "a"}).json()["error"]["code"] == "store_unavailable"


def test_metrics_move_and_name_no_user(client, click, recommender):
    user = "user-that-must-not-be-a-label"
    client.post("/v1/events", json=[click(user, event_id="e"), click(user, event_id="e"), {"user": user}])
    client.post("/v1/recommend", json={"user": user})
    client.post("/v1/recommend", json={"user": "nobody"})
    assert [
        value(client, f'recsys_events_total{{outcome="{outcome}"}}')
        for outcome in ("accepted", "duplicate", "rejected")
    ] == [1, 1, 1]
    assert value(client, "recsys_adaptations_total") == 1
    assert value(client, 'recsys_recommendations_total{served_by="adapted"}') == 1
    for stage in ("read", "rank", "log", "total"):
        assert value(client, f'recsys_recommendation_duration_seconds_count{{stage="{stage}"}}') == 2
        assert value(client, f'recsys_recommendation_duration_seconds_sum{{stage="{stage}"}}') > 0
    assert value(client, f'recsys_bundle_info{{role="champion",version="{recommender.version}"}}') == 1
    assert user not in client.get("/metrics").text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/v1/events", 405)])
def test_what_does_not_exist_is_refused_in_the_one_shape(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}


def test_a_fault_of_the_server_is_answered_in_the_one_shape(client):
    client.service.fleet.put_in_use(object())
    answer = client.post("/v1/recommend", json={"user": "a"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"


def test_every_route_declares_its_answers_errors_and_body(client):
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            assert operation["summary"], path
            assert next(iter(answers)).startswith("2"), path
            if path.startswith("/v1/"):
                assert {"401", "403", "429", "500", "503"} <= set(answers), (method, path)
                assert operation["security"] == [{"key": []}, {"bearer": []}]
                refusals = [
                    answers[status]["content"]["application/json"]["schema"] for status in ("500", "503")
                ]
                assert refusals == [{"$ref": "#/components/schemas/ErrorAnswer"}] * 2
            if "requestBody" in operation:
                assert {"400", "413", "422"} <= set(answers), path
                assert operation["requestBody"]["content"]["application/json"]["schema"]
    assert "HTTPValidationError" not in str(document)


def test_the_documented_examples_are_valid():
    for model, example in {
        RecommendRequest: RECOMMEND_EXAMPLE,
        SessionRequest: SESSION_EXAMPLE,
        RankRequest: RANK_EXAMPLE,
        Event: EVENT_EXAMPLE,
        ImpressionEvent: IMPRESSION_EXAMPLE,
        ItemFields: ITEM_EXAMPLE,
        ExperimentBody: EXAMPLE,
    }.items():
        model.model_validate_json(json.dumps(example))


def test_the_documented_answers_are_the_ones_given(client, click):
    """What is encoded by hand agrees with the models that the document shows."""
    item = {"item_id": "x", "title": "X", "attributes": {"colour": "red", "size": 3, "new": True}}
    given = {
        EventsAnswer: client.post("/v1/events", json=[click("a"), {}]),
        RecommendAnswer: client.post("/v1/recommend", json={"user": "a"}),
        UserEventsAnswer: client.get("/v1/users/a/events"),
        UserAnswer: client.get("/v1/users/a"),
        MergedAnswer: client.post("/v1/users/a/merge/b"),
        ForgottenAnswer: client.delete("/v1/users/a"),
        ItemsAnswer: client.post("/v1/items", json=[item, {}]),
        ItemChangedAnswer: client.patch("/v1/items/x", json={"available": False}),
        ItemAnswer: client.get("/v1/items/x"),
        SimilarAnswer: client.get("/v1/items/x/similar"),
        OnboardingAnswer: client.get("/v1/onboarding"),
        ModelsAnswer: client.get("/v1/models"),
        ExperimentsAnswer: client.put("/v1/experiments/e", json=EXAMPLE),
    }
    for model, answer in given.items():
        assert answer.is_success, (model, answer.text)
        assert model.model_validate(answer.json()).model_dump(exclude_unset=True) == answer.json()
    explained = client.post("/v1/recommend", json={"user": "a", "explain": True}).json()
    assert RecommendAnswer.model_validate(explained).model_dump(exclude_unset=True) == explained
    ranked = client.post("/v1/rank", json={"items": ["i1", "nowhere"]}).json()
    assert RecommendAnswer.model_validate(ranked).model_dump(exclude_unset=True) == ranked

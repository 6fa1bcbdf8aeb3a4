"""What a caller is told of what the catalogue does not have: unknown items, and filters that nothing meets."""

import pytest


def ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def test_items_of_a_session_that_nobody_knows_are_named_and_the_rest_is_ranked_by(client):
    client.put("/v1/items/gone", json={"title": "Item 3"})
    client.delete("/v1/items/gone")
    events = [{"item_id": item, "event_type": "click"} for item in ("?", "i3", "gone", "?", "!")]
    answer = client.post("/v1/session/recommend", json={"events": events}).json()
    assert answer["unknown"] == ["?", "!"]
    assert answer["support_events"] == 2  # what was done with a deleted item stays known


def test_own_candidates_that_were_deleted_are_unknown_and_unavailable_ones_are_ranked(client):
    for item in ("gone", "away"):
        client.put(f"/v1/items/{item}", json={"title": "Item 3"})
    client.delete("/v1/items/gone")
    client.patch("/v1/items/away", json={"available": False})
    asked = {"items": ["gone", "i2", "away"]}
    answer = client.post("/v1/rank", json=asked)
    assert set(ids(answer)) == {"i2", "away"}
    assert answer.json()["unknown"] == ["gone"]
    assert ids(client.post("/v1/rank", json={**asked, "filter": {}})) == ["i2"]
    assert set(ids(client.post("/v1/rank", json={**asked, "filter": {"available": False}}))) == {"i2", "away"}


@pytest.mark.parametrize(
    ("wanted", "note"),
    [
        (
            {"categories": {"any": ["gardn", "group 1"], "all": ["lihgt"]}},
            "no available item of the catalogue meets the filter (no item has the category 'gardn', 'lihgt'); correct "
            "its names or ask for less",
        ),
        (
            {"price": {"min": 99}, "available": False},
            "no item of the catalogue meets the filter; correct its names or ask for less",
        ),
        ({"categories": ["group 1"], "include": ["i1"]}, None),
    ],
)
def test_a_filter_that_no_item_meets_is_told_beside_the_empty_list(client, wanted, note):
    for path, asked in (
        ("recommend", {"n": 3}),
        ("session/recommend", {"n": 3}),
        ("rank", {"items": ["i1"]}),
    ):
        answer = client.post(f"/v1/{path}", json={**asked, "filter": wanted})
        assert ids(answer) == ([] if note else ["i1"])
        assert answer.json().get("note") == note
        assert ("note" in answer.json()) == (note is not None)


def test_a_list_that_is_empty_for_another_reason_has_no_note(client):
    asked = {"filter": {"include": ["i1"]}, "exclude": ["i1"]}
    answer = client.post("/v1/recommend", json=asked)
    assert ids(answer) == []
    assert "note" not in answer.json()


def test_links_tell_of_a_category_that_no_item_has_too(client):
    for link in ("/v1/recommend/a", "/v1/items/i3/similar"):
        answer = client.get(f"{link}?category=gardn").json()
        assert answer["items"] == []
        assert "(no item has the category 'gardn')" in answer["note"]
        assert "note" not in client.get(f"{link}?category=group 1").json()

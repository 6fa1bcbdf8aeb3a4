"""One example of every answer, for the document at /openapi.json; a test holds each against its schema."""

from typing import Any, Final

_VERSION: Final = "v0002-15676461"
_EVENT: Final = {
    "event_id": "o-1",
    "session": "s-4",
    "item_id": "22423",
    "event_type": "purchase",
    "value": 12.75,
    "timestamp": "2026-11-29T10:15:00+00:00",
    "recommendation_id": "01a225038ade753460b2492f91b5d590",
    "position": 0,
}
_REJECTED: Final = {"index": 1, "error": "price is -1: must be at least 0.0; send a larger number"}
_UNKNOWN: Final = {
    "index": 3,
    "error": "item_id is 'X': not in the catalogue of v1; send an id of its item table, or put the item first "
    "(PUT /v1/items/{item_id})",
}

EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "ActivatedAnswer": {"active": _VERSION},
    "Error": {"code": "not_found", "message": "no item 'b1'; put it with PUT /v1/items/{item_id}"},
    "EventsAnswer": {"accepted": 2, "duplicates": 1, "rejected": [_UNKNOWN]},
    "EventsRefusedAnswer": {
        "accepted": 0,
        "duplicates": 0,
        "rejected": [_UNKNOWN],
        "error": {
            "code": "invalid_request",
            "message": f"no row was accepted; row {_UNKNOWN['index']}: {_UNKNOWN['error']}",
        },
    },
    "ExperimentsAnswer": {
        "experiments": [
            {
                "name": "warmer",
                "variants": [
                    {"name": "as it is", "weight": 9.0, "model": None, "exploration": None},
                    {"name": "warmer", "weight": 1.0, "model": None, "exploration": {"temperature": 0.04}},
                ],
                "scenarios": ["home"],
                "salt": "",
            }
        ]
    },
    "ForgottenAnswer": {
        "user": "u-17",
        "events": 41,
        "impressions": 9,
        "attributes": 1,
        "remaining": {"events": 0, "impressions": 0, "users": 0},
    },
    "HealthAnswer": {"status": "ok"},
    "ItemAnswer": {
        "item_id": "22423",
        "title": "REGENCY CAKESTAND 3 TIER",
        "categories": ["kitchen"],
        "price": 12.75,
        "available": True,
        "attributes": {"colour": "white"},
        "in_bundle": True,
    },
    "ItemChangedAnswer": {"item_id": "22423", "revision": 7},
    "ItemsAnswer": {"accepted": 1, "rejected": [_REJECTED], "revision": 7},
    "ItemsRefusedAnswer": {
        "accepted": 0,
        "rejected": [_REJECTED],
        "revision": 7,
        "error": {
            "code": "invalid_request",
            "message": f"no row was accepted; row {_REJECTED['index']}: {_REJECTED['error']}",
        },
    },
    "MergedAnswer": {"user": "u-17", "merged": "visitor-3", "events": 5, "impressions": 2},
    "ModelsAnswer": {
        "name": "metaq",
        "active": _VERSION,
        "shadow": None,
        "versions": ["v0001-21f0e7a3", _VERSION],
        "aliases": {"champion": _VERSION},
        "loaded": [_VERSION],
    },
    "ReadyAnswer": {"status": "ready", "model": _VERSION, "store": "ready"},
    "Rejected": _REJECTED,
    "ShadowAnswer": {"shadow": _VERSION},
    "StoredEvent": _EVENT,
    "UserAnswer": {"user": "u-17", "attributes": {"country": "France"}, "events": 20},
    "UserEventsAnswer": {"user": "u-17", "attributes": {"country": "France"}, "events": [_EVENT]},
    "OnboardingAnswer": {
        "model": _VERSION,
        "support_events": 0,
        "items": [{"item_id": "22423", "title": "REGENCY CAKESTAND 3 TIER", "categories": ["kitchen"]}],
    },
}


def with_examples(document: dict[str, Any]) -> dict[str, Any]:
    """Add the examples to schemas that have none of their own; return the document."""
    schemas = document.get("components", {}).get("schemas", {})
    for name, example in EXAMPLES.items():
        if name in schemas and "examples" not in schemas[name]:
            schemas[name]["examples"] = [example]
    return document

"""The document shows every request and every answer by an example that fits its own schema."""

from typing import Any

import pytest
from pydantic import BaseModel

from serving import admin_schemas, list_schemas, schemas
from serving.app import create_app
from serving.examples import EXAMPLES
from serving.settings import Settings


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(auth="off")).openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the operations of the interface; the console's are its own."""
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        if path.startswith("/v1/") and not path.startswith("/v1/console")
        for method, operation in methods.items()
    ]


def test_every_answer_and_every_body_has_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def shown(content: dict[str, Any]) -> bool:
        schema = content.get("schema", {})
        named = schema.get("$ref", "").rpartition("/")[2]
        found = schemas.get(named, schema)
        if "examples" in found or "example" in found or "examples" in content or "example" in content:
            return True
        return any(
            "$ref" in str(part) or "examples" in part for part in found.get("anyOf", found.get("oneOf", []))
        )

    missing = []
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            told = response.get("content", {}).get("application/json")
            if told is not None and not shown(told):
                missing.append(f"{name} {status}")
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None and not shown(body) and "examples" not in str(body):
            missing.append(f"{name} body")
    assert missing == []


def test_examples_are_what_they_are_examples_of(document: dict[str, Any]) -> None:
    assert set(EXAMPLES) <= set(document["components"]["schemas"])
    for name, example in EXAMPLES.items():
        model = next(
            getattr(room, name) for room in (schemas, admin_schemas, list_schemas) if hasattr(room, name)
        )
        assert issubclass(model, BaseModel)
        assert set(example) == set(model.model_fields)  # whole, and nothing that is not answered
        model.model_validate(example)

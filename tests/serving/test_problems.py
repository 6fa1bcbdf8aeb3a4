"""Every refusal names the value, the bound and the remedy, in words of its own rather than the library's."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from serving.experiments import ExperimentBody
from serving.list_schemas import RankRequest, RecommendRequest
from serving.problems import refusal
from serving.schemas import ImpressionEvent


@pytest.mark.parametrize(
    ("schema", "body", "says"),
    [
        (RankRequest, '{"items": []}', "items is []: must hold at least 1; send more"),
        (RankRequest, '{"items": "i1"}', "items is 'i1': must be an array; send [...]"),
        (ExperimentBody, '{"variants": []}', "variants is []: must hold at least 1; send more"),
        (
            ExperimentBody,
            '{"variants": [{"name": "a", "weight": -1}]}',
            "variants.0.weight is -1: must be at least 0.0; send a larger number",
        ),
        (
            ExperimentBody,
            '{"variants": [{"name": "a", "exploration": {"temperature": 0}}]}',
            "variants.0.exploration.temperature is 0: must be above 0.0; send a larger number",
        ),
        (
            ExperimentBody,
            '{"variants": [{"name": "a", "exploration": {"kind": "x"}}]}',
            "variants.0.exploration.kind is 'x': must be 'greedy', 'epsilon', 'plackett_luce' or 'thompson'; send one "
            "of these",
        ),
        (
            ExperimentBody,
            '{"variants": [{"name": "a"}], "scenarios": "home"}',
            "scenarios is 'home': must be an array; send [...]",
        ),
        (
            RecommendRequest,
            '{"filter": {"price": {"max": "cheap"}}}',
            "filter.price.max is 'cheap': must be a number; send one without quotes",
        ),
        (
            RecommendRequest,
            '{"deadline_ms": 0.001}',
            "deadline_ms is 0.001: must be a whole number; send one",
        ),
        (
            RecommendRequest,
            '{"deadline_ms": "9"}',
            "deadline_ms is '9': must be a whole number; send one without quotes",
        ),
        (
            ImpressionEvent,
            '{"type": "impression", "items": []}',
            "user and recommendation_id are missing; send them; items is []: must hold at least 1; send more",
        ),
        (
            RecommendRequest,
            '{"scenario": "a b"}',
            "scenario is 'a b': must be 1 to 64 letters a to z, digits, dots, hyphens and underscores, first a letter "
            "or digit; send such a name",
        ),
        (
            RecommendRequest,
            '{"user": "a\\t"}',
            "user is 'a\\t': must hold no control characters; remove them",
        ),
        (RankRequest, "{}", "items is missing; send it"),
        (
            ExperimentBody,
            json.dumps({"variants": [{}] * 20}),
            "variants.0.name, variants.1.name, variants.2.name, variants.3.name and variants.4.name are missing; "
            "send them",
        ),
    ],
)
def test_a_refusal_is_in_words_of_its_own(schema: type[BaseModel], body: str, says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        schema.model_validate_json(body)
    assert refusal(refused.value).message == says

"""Shapes of lists: how they are asked for and how they are answered."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from recsys.candidates.filters import ItemFilter
from serving.identifiers import NAME
from serving.schemas import Asked, ExternalId, Label, Moment

RECOMMEND_EXAMPLE: JsonDict = {
    "user": "u-17",
    "n": 3,
    "scenario": "home",
    "filter": {"categories": {"any": ["garden"]}, "price": {"max": 20}},
    "exclude": ["85123A"],
    "attributes": {"country": "France"},
}
SESSION_EXAMPLE: JsonDict = {"events": [{"item_id": "22423", "event_type": "click"}], "n": 3}
RANK_EXAMPLE: JsonDict = {"user": "u-17", "items": ["22423", "85123A"]}
SIMILAR_EXAMPLE: JsonDict = {
    "item_id": "22423",
    "model": "v0002-15676461",
    "items": [{"item_id": "22699", "score": 0.69, "title": "ROSES REGENCY TEACUP AND SAUCER"}],
}


NOTE: Any = Field(
    default=None, description="Only where the list is empty because no item meets the filter: why"
)


class Options(Asked):
    """What any list can be asked with."""

    session: ExternalId | None = Field(default=None, description="Kept in the impression")
    scenario: Annotated[str, Field(pattern=NAME)] | None = Field(
        default=None,
        description="Where the list will stand, such as home or basket; experiments may choose by it",
    )
    context: Annotated[dict[Label, Annotated[str, Field(max_length=256)]], Field(max_length=64)] | None = (
        Field(
            default=None,
            description="What is true of this request; those that the bundle knows of users are ranked by, all "
            "are kept in the impression",
        )
    )
    filter: ItemFilter | None = Field(
        default=None, description="What may be shown; every condition must hold"
    )
    exclude: list[ExternalId] = Field(default=[], description="Items not to show; unknown ids are ignored")
    explain: bool = Field(default=False, description="Say why each item stands there")
    variant: Annotated[str, Field(max_length=140)] | None = Field(
        default=None, description="Of an experiment, instead of the one that the user is assigned"
    )
    deadline_ms: Annotated[int, Field(ge=1, le=60_000)] | None = Field(
        default=None, description="Answer from a lower rung rather than later than this"
    )


class RecommendRequest(Options):
    """Ask for the best items for a user, known or never seen, or for nobody in particular."""

    model_config = ConfigDict(json_schema_extra={"examples": [RECOMMEND_EXAMPLE]})

    user: ExternalId | None = None
    n: int = Field(default=10, ge=1, description="How many; fewer come back if the catalogue holds fewer")
    exclude_seen: bool = Field(default=True, description="Leave out items among the user's newest events")
    attributes: Annotated[dict[Label, Annotated[str, Field(max_length=256)]], Field(max_length=64)] | None = (
        Field(
            default=None,
            description="What is known of the user, instead of what the imported history knew of them; kept in the "
            "impression only",
        )
    )


class InlineEvent(Asked):
    """What a visitor did in this session; it is not stored."""

    item_id: ExternalId
    event_type: Label
    value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    timestamp: Moment = None


class SessionRequest(Options):
    """Ask for a visitor whose events come along and are not stored."""

    model_config = ConfigDict(json_schema_extra={"examples": [SESSION_EXAMPLE]})

    events: Annotated[list[InlineEvent], Field(max_length=1_000)] = Field(
        default=[],
        description="In any order; those without a time happened in the order of the array, until now",
    )
    n: int = Field(default=10, ge=1)
    exclude_seen: bool = True
    attributes: Annotated[dict[Label, Annotated[str, Field(max_length=256)]], Field(max_length=64)] | None = (
        None
    )


class RankedCandidate(Asked):
    """One of the caller's own candidates."""

    item_id: ExternalId


class RankRequest(Options):
    """Ask in which order to show the caller's own candidates."""

    model_config = ConfigDict(json_schema_extra={"examples": [RANK_EXAMPLE]})

    items: Annotated[list[ExternalId | RankedCandidate], Field(min_length=1)] = Field(
        description="Unavailable ones are ranked too, unless a filter (which may be empty) is sent along"
    )
    user: ExternalId | None = None
    n: Annotated[int, Field(ge=1)] | None = Field(default=None, description="All of them if left out")
    exclude_seen: bool = False
    attributes: Annotated[dict[Label, Annotated[str, Field(max_length=256)]], Field(max_length=64)] | None = (
        None
    )


class Reason(BaseModel):
    """Why an item stands in a list."""

    kind: Literal["similar_to", "popular", "new", "ranked"]
    item_id: str | None = Field(default=None, description="Of the user's history, to which it is most like")
    weight: float | None = None
    categories: list[str] | None = Field(default=None, description="That both share")


class Pull(BaseModel):
    """What an item of the user's history does to a score."""

    item_id: str
    change: float = Field(
        description="The score, less what it would be without everything done with the item"
    )


class RecommendedItem(BaseModel):
    """One position of a list."""

    item_id: str
    score: float = Field(
        description="Adapted Q, the expected discounted reward of showing the item; a baseline's own score; popularity"
    )
    propensity: float = Field(description="Probability of the item given the state and the items above it")
    position: int = Field(description="0-based")
    source: Literal["index", "added", "policy", "popular", "caller"] = Field(
        description="Where the candidate came from; added: after the bundle was made, ranked by its content"
    )
    reasons: list[Reason] | None = Field(default=None, description="Where explain was asked for")
    base_score: float | None = Field(
        default=None, description="With explain: Q by the session's state alone, without adaptation"
    )
    deviation: float | None = Field(
        default=None,
        description="With explain: standard deviation of the adaptation's posterior, in units of Q",
    )
    pulls: list[Pull] | None = Field(
        default=None, description="With explain: the items of the history that move the score most, by size"
    )


class RecommendAnswer(BaseModel):
    """A list and how it came about."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "recommendation_id": "0198c0ffee00a1b2c3d4e5f60718293a",
                    "model": "v1-3f9a2c",
                    "variant": None,
                    "policy": "plackett_luce(temperature=0.02)",
                    "seed": 4831552072351847,
                    "served_by": "adapted",
                    "support_events": 5,
                    "took_ms": 1.7,
                    "items": [
                        {
                            "item_id": "22423",
                            "score": 0.41,
                            "propensity": 0.62,
                            "position": 0,
                            "source": "index",
                        }
                    ],
                }
            ]
        }
    )

    recommendation_id: str = Field(description="Send it back with the events that follow")
    model: str = Field(description="Version of the bundle")
    variant: str | None = Field(description="experiment:variant that answered; null where none runs")
    policy: str = Field(
        description="How the list was drawn; a baseline's kind stands before it: item_knn/greedy"
    )
    seed: int
    served_by: Literal["adapted", "unadapted", "policy", "popular"] = Field(
        description="The student with or without adaptation; the baseline of the bundle; popular items if that fails"
    )
    support_events: int = Field(description="Events the weights were adapted to, or that the baseline read")
    took_ms: float
    items: list[RecommendedItem]
    unknown: list[str] | None = Field(
        default=None,
        description="Of /v1/rank: candidates that are not in the catalogue, or no longer, and so not in items. Of "
        "/v1/session/recommend: items of events that were never in it, so that the list knows nothing of those events",
    )
    note: str | None = NOTE


class SimilarItem(BaseModel):
    """One neighbour."""

    item_id: str
    score: float = Field(description="Cosine of what the model knows of both")
    title: str


class SimilarAnswer(BaseModel):
    """What an item is like."""

    model_config = ConfigDict(json_schema_extra={"examples": [SIMILAR_EXAMPLE]})

    item_id: str
    model: str
    items: list[SimilarItem]
    note: str | None = NOTE


class Question(BaseModel):
    """One item to show."""

    item_id: str
    title: str
    categories: list[str]


class OnboardingAnswer(BaseModel):
    """What to show first, in this order: items whose feedback would teach most about the user."""

    model: str
    support_events: int
    items: list[Question]

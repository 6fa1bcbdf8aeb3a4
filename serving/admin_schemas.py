"""Shapes of the catalogue's and the models' routes."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from serving.schemas import ITEM_EXAMPLE, Error, ExternalId, ItemFields, Label, Rejected, Scalar


class ItemPatch(ItemFields):
    """Some of an item's fields; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"available": False}]})


class ItemRow(ItemFields):
    """One item of many."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item_id": "22423", **ITEM_EXAMPLE}]})

    item_id: ExternalId


class ItemAnswer(BaseModel):
    """An item as it is now."""

    item_id: str
    title: str
    categories: list[str]
    price: float | None
    available: bool
    attributes: dict[Label, Scalar]
    in_bundle: bool = Field(description="False for one that came later and is ranked by its content")


class ItemChangedAnswer(BaseModel):
    """A change that is kept."""

    item_id: str
    revision: int = Field(description="Of the catalogue; lists say in their line which they were made from")


class ItemsAnswer(BaseModel):
    """What became of many."""

    accepted: int
    rejected: list[Rejected]
    revision: int


class ItemsRefusedAnswer(ItemsAnswer):
    """Every item was rejected."""

    error: Error


class ModelsAnswer(BaseModel):
    """Versions, aliases, what is in use."""

    name: str
    active: str
    shadow: str | None
    versions: list[str]
    aliases: dict[str, str]
    loaded: list[str] = Field(description="By the worker that answers")


class ActivatedAnswer(BaseModel):
    """What answers now."""

    active: str


class ShadowAnswer(BaseModel):
    """What ranks unseen."""

    shadow: str | None


class ExperimentsAnswer(BaseModel):
    """The running experiments, in the order in which a request is matched with them."""

    experiments: Annotated[list[dict[str, Any]], Field(description="As they were put, with their names")]

"""What a caller wants of items: the one description of a filter, and the mask of the catalogue that it comes to."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from recsys.frozen import Frozen
from recsys.live_catalogue import LiveCatalogue
from recsys.types import BoolArray, ExternalId

Name = Annotated[str, Field(min_length=1, max_length=256)]
Names = Annotated[tuple[Name, ...], Field(max_length=1_000)]
Scalar = Annotated[str, Field(max_length=256)] | bool | int | float


class CategoryFilter(Frozen):
    """Sets of categories; all three must hold."""

    any: Names = ()  # at least one of these
    all: Names = ()  # every one of these
    none: Names = ()  # not one of these


class PriceRange(Frozen):
    """Prices, both ends included; items without a price are outside of any range."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _ascends(self) -> "PriceRange":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"price.min is {self.min}, must not exceed price.max ({self.max}); swap them")
        return self


class ItemFilter(Frozen):
    """Every condition that is given must hold."""

    categories: CategoryFilter | Names = CategoryFilter()  # a list means any of them
    attributes: dict[Name, Scalar | Annotated[tuple[Scalar, ...], Field(max_length=1_000)]] = Field(
        default={}, max_length=32
    )  # a list means any of them
    price: PriceRange = PriceRange()
    available: bool = True  # false: what cannot be had may be shown too
    include: Annotated[tuple[ExternalId, ...], Field(max_length=10_000)] | None = None  # only these

    @property
    def sets(self) -> CategoryFilter:
        """The categories asked for, however they were written."""
        named = self.categories
        return named if isinstance(named, CategoryFilter) else CategoryFilter(any=named)


def mask_of(catalogue: LiveCatalogue, wanted: ItemFilter) -> BoolArray:
    """Return which items meet a filter, (item,)."""
    mask = catalogue.available.copy() if wanted.available else catalogue.listed.copy()
    sets = wanted.sets
    if sets.any:
        mask &= _any_of(catalogue, sets.any)
    for name in sets.all:
        mask &= catalogue.in_category(name)
    if sets.none:
        mask &= ~_any_of(catalogue, sets.none)
    with np.errstate(over="ignore"):  # a bound that float32 does not hold is infinity
        if wanted.price.min is not None:
            mask &= catalogue.price >= np.float32(wanted.price.min)
        if wanted.price.max is not None:
            mask &= catalogue.price <= np.float32(wanted.price.max)
    for name, values in wanted.attributes.items():
        mask &= catalogue.with_attribute(name, values if isinstance(values, tuple) else (values,))
    if wanted.include is not None:
        mask &= only(catalogue, wanted.include)
    return mask


def only(catalogue: LiveCatalogue, items: Sequence[ExternalId]) -> BoolArray:
    """Return the mask of some items, (item,); unknown and deleted ones are left out."""
    mask = np.zeros(len(catalogue), bool)
    known = [catalogue.index_of[item] for item in items if item in catalogue.index_of]
    mask[known] = catalogue.listed[known]
    return mask


def _any_of(catalogue: LiveCatalogue, names: Sequence[str]) -> BoolArray:
    mask = np.zeros(len(catalogue), bool)
    for name in names:
        mask |= catalogue.in_category(name)
    return mask


def filter_key(wanted: ItemFilter | None) -> Any:
    """Return what two equal filters share, to keep their mask under."""
    return None if wanted is None else wanted.model_dump_json(exclude_defaults=True)

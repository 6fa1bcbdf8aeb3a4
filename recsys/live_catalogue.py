"""The catalogue as it is now: a bundle's, and every change since, by revision.

Items are only ever added behind: an index, once given, stays that of its item. Whoever changes it and whoever reads it
share one thread.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recsys.catalogue import Catalogue
from recsys.types import BoolArray, ExternalId, FloatArray, IntArray

PRICE, TITLE, CATEGORIES, AVAILABLE, ATTRIBUTES, DELETED = (
    "price",
    "title",
    "categories",
    "available",
    "attributes",
    "deleted",
)


class ItemChange(NamedTuple):
    """One change of the catalogue: the item as it is from this revision on."""

    revision: int
    item_id: ExternalId
    fields: Mapping[str, Any]


def content_of(fields: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return what of an item says what it is like: its title and its categories."""
    return fields.get(TITLE) or "", tuple(fields.get(CATEGORIES) or ())


class LiveCatalogue:
    """Items in index order: those of the bundle first, then those added since."""

    def __init__(self, base: Catalogue) -> None:
        self.base_items = len(base)
        self.revision = 0
        self.item_ids: Sequence[ExternalId] = base.item_ids
        self.titles: Sequence[str] = base.titles
        self.categories: Sequence[tuple[str, ...]] = base.categories
        self.price: FloatArray = base.price
        self.available: BoolArray = base.available  # may be shown
        self.listed: BoolArray = np.ones(len(base), bool)  # not deleted
        self.index_of: dict[ExternalId, int] = base.index_of
        self.attributes: dict[int, Mapping[str, Any]] = {}
        self._told_price: dict[int, float | None] = {}  # of what was put, in its own precision
        self._own = False
        self._in_category: dict[str, BoolArray] | None = None

    def __len__(self) -> int:
        return len(self.item_ids)

    def ids(self, items: IntArray | Sequence[int]) -> list[ExternalId]:
        """Return the external ids of item indices."""
        item_ids = self.item_ids
        listed = items.tolist() if isinstance(items, np.ndarray) else items
        return [item_ids[index] for index in listed]

    def lists(self, item_id: ExternalId) -> bool:
        """Tell whether an item is in the catalogue: known and not deleted, whether or not it can be had."""
        index = self.index_of.get(item_id)
        return index is not None and bool(self.listed[index])

    def put(self, item_id: ExternalId, fields: Mapping[str, Any]) -> int:
        """Let an item be as `fields` say, whole; return its index."""
        self._own_columns()
        index = self.index_of.get(item_id)
        if index is None:
            index = len(self.item_ids)
            self.index_of[item_id] = index
            for column, empty in (
                (self.item_ids, item_id),
                (self.titles, ""),
                (self.categories, ()),
            ):
                assert isinstance(column, list)  # noqa: S101 - owned by now
                column.append(empty)
            self.price = np.append(self.price, np.float32(np.nan))
            self.available = np.append(self.available, True)
            self.listed = np.append(self.listed, True)
        deleted = bool(fields.get(DELETED))
        price = fields.get(PRICE)
        self.titles[index] = fields.get(TITLE) or ""  # type: ignore[index]
        self.categories[index] = tuple(fields.get(CATEGORIES) or ())  # type: ignore[index]
        self.price[index] = np.nan if price is None else price
        self._told_price[index] = price
        self.available[index] = not deleted and fields.get(AVAILABLE) is not False
        self.listed[index] = not deleted
        self.attributes[index] = dict(fields.get(ATTRIBUTES) or {})
        self._in_category = None
        return index

    def fields(self, item_id: ExternalId) -> dict[str, Any] | None:
        """Return an item as `put` takes it; None if it is unknown or deleted."""
        if not self.lists(item_id):
            return None
        index = self.index_of[item_id]
        return {
            TITLE: self.titles[index],
            CATEGORIES: list(self.categories[index]),
            PRICE: self._price_of(index),
            AVAILABLE: bool(self.available[index]),
            ATTRIBUTES: dict(self.attributes.get(index, {})),
        }

    def in_category(self, name: str) -> BoolArray:
        """Return which items are in a category, (item,)."""
        if self._in_category is None:
            places: dict[str, list[int]] = {}
            for index, names in enumerate(self.categories):
                for each in names:
                    places.setdefault(each, []).append(index)
            self._places = places
            self._in_category = {}
        mask = self._in_category.get(name)
        if mask is None or len(mask) != len(self):
            mask = np.zeros(len(self), bool)
            mask[self._places.get(name, [])] = True
            if len(self._in_category) > _KEPT_CATEGORIES:
                self._in_category.clear()
            self._in_category[name] = mask
        return mask

    def with_attribute(self, name: str, values: Sequence[Any]) -> BoolArray:
        """Return which items have one of some values of an attribute, (item,); a bundle's own items have none."""
        mask = np.zeros(len(self), bool)
        wanted = set(values)
        mask[[index for index, known in self.attributes.items() if known.get(name) in wanted]] = True
        return mask

    def _price_of(self, index: int) -> float | None:
        """Return a price as it was put, or the shortest number that the bundle's stands for."""
        if index in self._told_price:
            return self._told_price[index]
        price = self.price[index]
        return None if np.isnan(price) else float(str(price))

    def _own_columns(self) -> None:
        """Copy what belongs to the bundle before the first change."""
        if not self._own:
            self.item_ids, self.titles, self.categories = (
                list(self.item_ids),
                list(self.titles),
                list(self.categories),
            )
            self.price, self.available = self.price.copy(), self.available.copy()
            self.index_of = dict(self.index_of)
            self._own = True


_KEPT_CATEGORIES = 256  # masks of categories; a mask is a byte an item

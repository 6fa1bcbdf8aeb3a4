"""The item catalogue of a bundle: external ids beside what people and filters need to know of an item."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from recsys.types import BoolArray, ExternalId, FloatArray, IntArray


@dataclass(frozen=True, repr=False)
class Catalogue:
    """Items in index order."""

    item_ids: tuple[ExternalId, ...]
    titles: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    price: FloatArray  # (item,), NaN where unknown
    available: BoolArray  # (item,)

    @cached_property
    def index_of(self) -> dict[ExternalId, int]:
        """External id -> item index."""
        return {item_id: index for index, item_id in enumerate(self.item_ids)}

    def ids(self, items: IntArray | Sequence[int]) -> list[ExternalId]:
        """Return the external ids of item indices."""
        return [self.item_ids[index] for index in items]

    def __len__(self) -> int:
        return len(self.item_ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} items)"

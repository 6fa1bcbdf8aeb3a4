"""What of a request the catalogue does not have, told beside the list."""

from collections.abc import Sequence
from typing import Final

from recsys.candidates.filters import ItemFilter
from recsys.live_catalogue import LiveCatalogue
from recsys.recommender import LoggedEvent, Recommender
from recsys.types import ExternalId
from serving.problems import shown

TOLD: Final = 5  # names in a note


def unknown_of(
    catalogue: LiveCatalogue, among: Sequence[ExternalId] | None, events: Sequence[LoggedEvent] | None
) -> list[ExternalId] | None:
    """Return which items of the caller's are not ranked, or not ranked by; None where the caller brought none.

    Candidates must still be in the catalogue; what was done with an item that is in it no longer stays known.
    """
    if among is not None:
        return [item for item in among if not catalogue.lists(item)]
    if events is not None:
        return list(
            dict.fromkeys(event.item_id for event in events if event.item_id not in catalogue.index_of)
        )
    return None


def unmet(recommender: Recommender, wanted: ItemFilter | None) -> str | None:
    """Return what is wrong with a filter that no item meets; None where there is no filter, or an item meets it."""
    if wanted is None or recommender.allowed(wanted).count:
        return None
    sets, catalogue = wanted.sets, recommender.catalogue
    strange = [name for name in (*sets.any, *sets.all) if not catalogue.in_category(name).any()]
    categories = f" (no item has the category {', '.join(map(shown, strange[:TOLD]))})" if strange else ""
    items = "available item" if wanted.available else "item"
    return f"no {items} of the catalogue meets the filter{categories}; correct its names or ask for less"

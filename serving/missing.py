"""What of a request the catalogue does not have, told beside the list."""

from collections.abc import Sequence

from recsys.live_catalogue import LiveCatalogue
from recsys.recommender import LoggedEvent
from recsys.types import ExternalId


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

"""What an answer says of an item where explain was asked for: reasons, base score, deviation, what pulled it."""

from collections.abc import Sequence
from typing import Any, Final

from recsys.explanation import Explanation, explain, strongest
from recsys.mdp.state import History
from recsys.recommender import Recommender
from recsys.types import IntArray

TOLD_PULLS: Final = 3  # of an item
LEAST_PULL: Final = 1e-4  # in units of the score


def explained(recommender: Recommender, history: History, items: IntArray) -> list[dict[str, Any]]:
    """Return the fields of each item's explanation."""
    return fields_of(
        recommender, recommender.reasons(history, items), explain(recommender.ranker, history, items)
    )


def fields_of(
    recommender: Recommender, reasons: Sequence[list[dict[str, Any]]], why: Explanation
) -> list[dict[str, Any]]:
    """Return the fields of an explanation, item by item."""
    return [
        {
            "reasons": reasons[place],
            "base_score": None if why.base is None else float(why.base[place]),
            "deviation": None if why.deviation is None else float(why.deviation[place]),
            "pulls": _pulls(recommender, why, place),
        }
        for place in range(len(reasons))
    ]


def _pulls(recommender: Recommender, why: Explanation, place: int) -> list[dict[str, Any]]:
    ids = recommender.catalogue.item_ids
    return [
        {"item_id": ids[int(why.sources[source])], "change": float(why.pulls[source, place])}
        for source in strongest(why.pulls[:, place], TOLD_PULLS, LEAST_PULL)
    ]

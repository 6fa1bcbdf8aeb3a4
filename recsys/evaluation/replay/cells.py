"""Cohorts: which cell of each segment a list belongs to, and the sums of some lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from recsys.evaluation.ope.accumulate import Accumulator
from recsys.evaluation.ope.estimators import Terms
from recsys.evaluation.ope.lists import ListRounds
from recsys.evaluation.replay.drive import ReplayedLists
from recsys.types import LongArray, RealArray

EVENTS_USED: Final = (0, 1, 3, 5, 10, 30)  # cold users by events used: from this many up to the next
AGES_DAYS: Final = (0.0, 1.0, 7.0, 30.0)
_DAY_S: Final = 86_400.0


def cells_of(lists: ReplayedLists) -> dict[str, tuple[LongArray, list[str]]]:
    """Return the cell of each list in every segment: events used, age of the first item, users' attributes."""
    used = np.searchsorted(EVENTS_USED, lists.events_used, side="right") - 1
    steps = [*EVENTS_USED, None]
    used_names = [
        f"{a}" if b is not None and b == a + 1 else f"{a}–{b - 1}" if b is not None else f"{a} or more"
        for a, b in zip(EVENTS_USED, steps[1:], strict=True)
    ]
    age = np.searchsorted(
        np.array(AGES_DAYS) * _DAY_S, np.nan_to_num(lists.first_item_age_s, nan=-1.0), side="right"
    )
    age_names = ["below 1 day", "1 to 7 days", "7 to 30 days", "30 days or more"]
    found = {
        "events used": (used.astype(np.int64), used_names),
        "age of the first item": ((age - 1).astype(np.int64), age_names),
    }
    for name, values in lists.attributes.items():
        names, codes = np.unique(np.array(values, str), return_inverse=True)
        found[name] = (codes.astype(np.int64), names.tolist())
    return found


def cell_order(key: tuple[str, str]) -> tuple[str, float, str]:
    number = key[1].split("–")[0].split(" ")[0]
    return key[0], float(number) if number.isdigit() else -1.0, key[1]


@dataclass(frozen=True)
class _Some:
    """Some of the lists, for a cell's sums."""

    weight: RealArray
    reward: RealArray
    residual: RealArray
    propensity: RealArray
    cluster: LongArray | None
    max_weight: float

    def __len__(self) -> int:
        return len(self.reward)


def add_some(
    into: Accumulator,
    rounds: Mapping[str, ListRounds],
    columns: Mapping[str, Terms],
    block: LongArray,
    rows: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> None:
    def cut(array: RealArray | None) -> RealArray | None:
        return None if array is None else array[rows]

    some = {
        name: _Some(
            each.weight[rows],
            each.reward[rows],
            each.residual[rows],
            each.propensity[rows],
            None,
            each.max_weight,
        )
        for name, each in rounds.items()
    }
    parts = {
        name: Terms(terms.numerator[rows], cut(terms.denominator), cut(terms.base))
        for name, terms in columns.items()
    }
    into.add(some, parts, block[rows])

"""Whose merit a response is: that of the impression it answers, within a stated window."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.mdp.reward import rewards
from recsys.types import BoolArray, RealArray

_PER_SECOND = 1_000_000


@dataclass(frozen=True)
class Attributed:
    """What every impression earned, and what became of the feedback."""

    reward: RealArray  # (event,) of the frame, at impressions
    answered: BoolArray  # (event,) an impression that a response came to, ever
    answered_at: np.ndarray[tuple[int], np.dtype[np.int64]]  # (event,) microseconds of the first response
    by_recommendation: int
    by_item: int  # feedback that names no recommendation, given to the newest impression of its item
    unclaimed: int


def attribute(
    frame: pd.DataFrame, item_code: np.ndarray[Any, Any], config: RewardConfig, window_s: float
) -> Attributed:
    """Return the rewards of the impressions of a bucket.

    Feedback that names a recommendation belongs to its item in that list. Other feedback belongs to the user's newest
    impression of the item. Either counts if it comes at or after the impression and at most `window_s` later. An
    impression earns its own base reward too.
    """
    if not window_s > 0:
        raise UserError(f"window is {window_s:g} s, must be above 0; raise it")
    types, codes = np.unique(frame[c.EVENT_TYPE].to_numpy(str), return_inverse=True)
    values = frame[c.VALUE].to_numpy(np.float64, na_value=np.nan)
    worth = rewards(config, types.tolist(), codes, values).astype(np.float64)
    shown = (frame[c.EVENT_TYPE] == c.IMPRESSION).to_numpy()
    time = frame["time"].to_numpy()
    row = np.arange(len(frame))
    recommendation = pd.factorize(frame[c.RECOMMENDATION_ID].to_numpy(object))[0]
    who = pd.factorize(frame["who"].to_numpy(object))[0]
    named = recommendation >= 0
    window = round(window_s * _PER_SECOND)

    place = np.full(len(frame), -1, np.int64)
    for key, feedback in (
        (pd.Series(list(zip(recommendation, item_code, strict=True))), ~shown & named),
        (pd.Series(list(zip(who, item_code, strict=True))), ~shown & ~named),
    ):
        number = pd.factorize(key)[0]
        place[feedback] = _newest(number, time, row, shown, feedback)
    found = place >= 0
    late = np.zeros(len(frame), bool)
    late[found] = time[found] - time[place[found]] > window
    claimed = found & ~late
    total = np.where(shown, worth, 0.0)
    np.add.at(total, place[claimed], worth[claimed])
    answered_at = np.full(len(frame), np.iinfo(np.int64).max)
    np.minimum.at(answered_at, place[found & named], time[found & named])
    return Attributed(
        total,
        answered_at < np.iinfo(np.int64).max,
        answered_at,
        int((claimed & named).sum()),
        int((claimed & ~named).sum()),
        int((~shown & ~claimed).sum()),
    )


def _newest(
    number: np.ndarray[Any, Any],
    time: np.ndarray[Any, Any],
    row: np.ndarray[Any, Any],
    shown: BoolArray,
    feedback: BoolArray,
) -> np.ndarray[Any, Any]:
    """Return the row of the newest impression with the same number at or before each feedback; −1 without one."""
    left = pd.DataFrame(
        {"time": time[feedback], "number": number[feedback], "order": np.arange(feedback.sum())}
    )
    right = pd.DataFrame({"time": time[shown], "number": number[shown], "row": row[shown]})
    joined = pd.merge_asof(
        left.sort_values("time", kind="stable"),
        right.sort_values("time", kind="stable"),
        on="time",
        by="number",
    )
    found = joined.sort_values("order")["row"].fillna(-1).to_numpy(np.int64)
    return np.asarray(found)

"""Means by group with intervals that know that the rows of one user are not independent."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from recsys.errors import UserError


def rates(
    frame: pd.DataFrame, value: str, by: str | Sequence[str], user: str = "user_id", confidence: float = 0.95
) -> pd.DataFrame:
    """Return the mean of a column in every group: rows, users, mean, low, high.

    Of a group's rows i of users u with mean m over n rows: se² = G / (G − 1) Σ_u (Σ_{i of u} (y_i − m))² / n², G users;
    bounds by Student's t with G − 1 degrees of freedom, and no bounds for a single user. Rows without a user are
    users of their own.
    """
    if missing := [name for name in (value, user) if name not in frame]:
        raise UserError(f"the frame has no column {missing[0]}; it has {', '.join(map(str, frame.columns))}")
    keys = [by] if isinstance(by, str) else list(by)
    who = pd.Series(pd.factorize(frame[user])[0], index=frame.index)
    alone = who < 0
    who = who.mask(alone, -1 - pd.Series(np.arange(len(frame)), index=frame.index))
    data = frame[keys].assign(_who=who, _y=frame[value].astype(np.float64))
    data["_gap"] = data["_y"] - data.groupby(keys, observed=True)["_y"].transform("mean")
    by_user = data.groupby([*keys, "_who"], observed=True)["_gap"].sum()
    squares = (by_user**2).groupby(keys, observed=True).sum()
    grouped = data.groupby(keys, observed=True)
    table = pd.DataFrame(
        {"rows": grouped.size(), "users": grouped["_who"].nunique(), "mean": grouped["_y"].mean()}
    )
    more = (table["users"] - 1).clip(lower=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(table["users"] / more * squares) / table["rows"]
    half = error.where(more > 0) * stats.t.isf((1.0 - confidence) / 2.0, more.where(more > 0))
    table["low"], table["high"] = table["mean"] - half, table["mean"] + half
    return table


def between(table: pd.DataFrame, one: str, other: str) -> "pd.Series[float]":
    """Return what one group of `rates` has more than another, for groups of different users: mean, low, high.

    The half widths add up in squares, as those of independent means do.
    """
    if missing := [name for name in (one, other) if name not in table.index]:
        raise UserError(f"no group {missing[0]}; there are {', '.join(map(str, table.index))}")
    means, highs = table["mean"], table["high"]
    gap = float(means[one] - means[other])
    half = float(np.hypot(highs[one] - means[one], highs[other] - means[other]))
    return pd.Series({"mean": gap, "low": gap - half, "high": gap + half})

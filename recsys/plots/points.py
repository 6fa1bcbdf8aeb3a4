"""Values with their intervals on one axis; predicted against realised."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from recsys.plots.style import GREY, PALE, PALETTE, colours, drawing, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from recsys.learning.health import CalibrationBin

_ROW = 0.42  # inches


def intervals(
    frame: pd.DataFrame,
    label: str,
    value: str = "mean",
    *,
    band: tuple[str, str] = ("low", "high"),
    by: str | None = None,
    weak: str | None = None,
    mark: float | None = None,
    xlabel: str = "",
    title: str = "",
    colour: Mapping[str, str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw one row per row of the frame, the first on top: a point and its interval, coloured by `by`.

    Rows whose column `weak` is true are hollow and grey: no evidence. `mark` is a value to compare with.
    """
    with drawing(ax, (8.0, 1.3 + _ROW * max(len(frame), 1))) as ax:
        place = np.arange(len(frame))[::-1]
        groups = [""] * len(frame) if by is None else [str(each) for each in frame[by]]
        tint = colours(list(dict.fromkeys(groups)), dict(colour or {}))
        faint = np.zeros(len(frame), bool) if weak is None else frame[weak].to_numpy(bool)
        for row, (at, group) in enumerate(zip(place, groups, strict=True)):
            shade = PALE if faint[row] else tint[group]
            low, high = float(frame[band[0]].iloc[row]), float(frame[band[1]].iloc[row])
            middle = float(frame[value].iloc[row])
            ax.plot([low, high], [at, at], color=shade, lw=2.5, solid_capstyle="butt", zorder=2)
            ax.plot(middle, at, "o", color=shade, mfc="white" if faint[row] else shade, ms=6, zorder=3)
        if mark is not None:
            ax.axvline(mark, color=GREY, lw=1, zorder=1)
        ax.set_yticks(place, [str(each) for each in frame[label]])
        ax.set_ylim(-0.7, len(frame) - 0.3)
        ax.grid(axis="y", visible=False)
        if by is not None and len(set(groups)) > 1:
            handles = [
                ax.plot([], [], "o-", color=tint[each], label=each)[0] for each in dict.fromkeys(groups)
            ]
            ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        named(ax, xlabel, "", title)
        return ax


def calibration(
    bins: "Sequence[CalibrationBin]",
    *,
    xlabel: str = "predicted Q",
    ylabel: str = "realised return",
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw what was predicted against what the log earned, a point for each bin, beside the diagonal."""
    with drawing(ax, (5.2, 4.6)) as ax:
        predicted = np.array([each.predicted for each in bins])
        realised = np.array([each.realised for each in bins])
        both = np.concatenate([predicted, realised, [0.0]])
        low, high = float(both.min()), float(both.max()) or 1.0
        room = 0.06 * (high - low)
        ax.plot([low, high], [low, high], color=GREY, lw=1, ls=(0, (4, 3)))
        ax.vlines(predicted, predicted, realised, color=PALETTE[0], lw=1, alpha=0.5)
        ax.plot(predicted, realised, "o", color=PALETTE[0])
        ax.annotate(
            "as predicted",
            (high, high),
            xytext=(-4, -2),
            textcoords="offset points",
            color=GREY,
            ha="right",
            va="bottom",
        )
        ax.set(xlim=(low - room, high + room), ylim=(low - room, high + 2 * room))
        named(ax, xlabel, ylabel, title)
        return ax

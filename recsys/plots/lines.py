"""Curves with their intervals, stacked counts over time, concentration."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recsys.plots.style import GREY, INK, PALETTE, colours, drawing, named, spread_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROOM = 0.065  # between two labels at line ends, of the height of the axes
_LEVEL = 8  # names below an axis that stand side by side


def lines(
    frame: pd.DataFrame,
    x: str,
    y: str = "mean",
    by: str | None = None,
    *,
    band: tuple[str, str] | None = ("low", "high"),
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    colour: Mapping[str, str] | None = None,
    quiet: Sequence[str] = (),
    from_zero: bool = True,
    mark: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw y over x, a line for each value of `by` with its name at the end; `band` names the interval's columns.

    Lines named in `quiet` are grey; `mark` is a value to compare with. Places of x stand at even distances if x is a
    category.
    """
    with drawing(ax) as ax:
        parts: list[tuple[str, pd.DataFrame]] = (
            [("", frame)]
            if by is None
            else [(str(name), part) for name, part in frame.groupby(by, sort=False)]
        )
        tint = colours([name for name, _ in parts if name not in quiet], dict(colour or {}))
        tint |= dict.fromkeys(quiet, GREY)
        ends: list[tuple[str, float]] = []
        places: list[Any] = []
        if isinstance(frame[x].dtype, pd.CategoricalDtype):
            places = list(frame[x].cat.categories)
        for name, part in parts:
            at = np.array([places.index(value) for value in part[x]]) if places else part[x].to_numpy()
            ax.plot(at, part[y], marker="o", color=tint[name], zorder=3, clip_on=False)
            if band is not None and band[0] in part and band[1] in part:
                ax.fill_between(
                    at,
                    part[band[0]].astype(float),
                    part[band[1]].astype(float),
                    color=tint[name],
                    alpha=0.15,
                    lw=0,
                )
            ends.append((name, float(part[y].iloc[-1])))
        if places:
            ax.set_xticks(range(len(places)), [str(place) for place in places])
            slanted(ax, len(places))
        if from_zero:
            low, high = map(float, ax.dataLim.intervaly)
            low, high = min(0.0, low), high if mark is None else max(high, mark)
            ax.set_ylim(low - (0.06 * (high - low) if low < 0 else 0.0), high + 0.06 * (high - low))
        if mark is not None:
            ax.axhline(mark, color=GREY, lw=1, ls=(0, (1, 2)))
        named(ax, xlabel or x, ylabel or y, title)
        if by is not None:
            _name_ends(ax, ends, tint)
        return ax


def stacked(
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw columns (name in the frame -> name in the picture) as bars on top of each other, a bar for each row."""
    with drawing(ax) as ax:
        bottom = np.zeros(len(frame))
        place = np.arange(len(frame))
        for (column, name), tint in zip(columns.items(), PALETTE, strict=False):
            height = frame[column].to_numpy(np.float64)
            ax.bar(place, height, bottom=bottom, width=0.8, color=tint, label=name)
            bottom += height
        ax.set_xticks(place, [str(value) for value in frame.index])
        slanted(ax, len(frame))
        ax.grid(axis="x", visible=False)
        named(ax, xlabel, ylabel, title)
        ax.legend(loc="upper left", reverse=True)
        ax.set_ylim(top=float(bottom.max(initial=0.0)) * 1.18 or 1.0)
        return ax


def concentration(
    popularity: pd.DataFrame, *, noun: str = "events", title: str = "", ax: "Axes | None" = None
) -> "Axes":
    """Draw which share of the events the most popular share of the items has (frames.overview.popularity)."""
    with drawing(ax, (5.6, 4.2)) as ax:
        share = np.arange(1, len(popularity) + 1) / max(len(popularity), 1)
        held = popularity["cumulative"].to_numpy(np.float64)
        ax.plot(np.append(0.0, share) * 100, np.append(0.0, held) * 100, color=PALETTE[0])
        ax.plot([0, 100], [0, 100], color=GREY, lw=1, ls=(0, (4, 3)))
        ax.annotate(
            "if all were alike",
            (78, 73),
            color=GREY,
            rotation=45,
            rotation_mode="anchor",
            transform_rotates_text=True,
            ha="center",
            va="top",
        )
        for at in (0.1, 0.5):
            place = min(int(np.ceil(at * len(held))), len(held)) - 1
            ax.plot(at * 100, held[place] * 100, "o", color=PALETTE[0])
            ax.annotate(
                f"top {at:.0%}: {held[place]:.0%} of {noun}",
                (at * 100, held[place] * 100),
                xytext=(9, -13),
                textcoords="offset points",
                color=INK,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            )
        ax.set(xlim=(0, 100), ylim=(0, 103))
        named(ax, "items, most popular first (%)", f"{noun} they have (%)", title)
        return ax


def slanted(ax: "Axes", labels: int) -> None:
    """Turn the names below an axis where there are too many to stand side by side."""
    if labels > _LEVEL:
        ax.tick_params(axis="x", rotation=45)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def _name_ends(ax: "Axes", ends: Sequence[tuple[str, float]], tint: Mapping[str, str]) -> None:
    """Write each line's name beside its last point, moved apart where lines end close together."""
    low, high = ax.get_ylim()
    wanted = [(value - low) / (high - low) for _, value in ends]
    for (name, _), place in zip(ends, spread_labels(wanted, _ROOM), strict=True):
        ax.annotate(
            name,
            (1.0, place),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            color=tint[name],
            va="center",
            annotation_clip=False,
        )

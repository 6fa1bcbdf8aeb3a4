"""One look for all pictures: colours that the colour-blind tell apart, names at the lines, no decoration."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from recsys.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK: Final = "#1f2933"
GREY: Final = "#7b8794"
PALE: Final = "#d3d9df"
# Okabe & Ito (2008), the strongest first; yellow is left out: on white it cannot be read
PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLE: Final[dict[str, Any]] = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 11.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e9ecef",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 2.0,
    "lines.markersize": 5.0,
    "legend.frameon": False,
}
_SIZE: Final = (8.0, 4.2)  # inches


def pyplot() -> ModuleType:
    """Return matplotlib.pyplot; raises UserError if matplotlib is not installed."""
    try:
        return import_module("matplotlib.pyplot")
    except ImportError:
        raise UserError("plots need matplotlib; pip install 'metaq[notebooks]'") from None


@contextmanager
def in_style() -> Iterator[ModuleType]:
    """Give pyplot while the style holds.

    Unlike matplotlib's rc_context this touches no setting but its own: a notebook's backend, loaded by the first
    picture, sets `interactive`, and resetting that would hide every later one.
    """
    plt = pyplot()
    before = {name: plt.rcParams[name] for name in STYLE}
    plt.rcParams.update(STYLE)
    try:
        yield plt
    finally:
        plt.rcParams.update(before)


@contextmanager
def drawing(ax: "Axes | None", size: tuple[float, float] = _SIZE) -> Iterator["Axes"]:
    """Give axes to draw on in the style, new ones if there are none."""
    with in_style() as plt:
        yield plt.subplots(figsize=size)[1] if ax is None else ax


def panels(columns: int, rows: int = 1, width: float = 11.0, height: float = 4.0) -> "list[Axes]":
    """Return axes side by side, row by row, for the `ax` of the other functions; sizes in inches, height of a row."""
    with in_style() as plt:
        _, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False)
    return [ax for row in axes for ax in row]


def named(ax: "Axes", xlabel: str, ylabel: str, title: str) -> None:
    """Write on axes what they show; thousands of the vertical axis get commas."""
    from matplotlib.ticker import ScalarFormatter, StrMethodFormatter

    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title)
    if isinstance(ax.yaxis.get_major_formatter(), ScalarFormatter) and max(map(abs, ax.get_ylim())) >= 1000:
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def colours(names: Sequence[str], given: "dict[str, str] | None" = None) -> dict[str, str]:
    """Return a colour for each name: the given ones, then the palette in order, round and round."""
    found = dict(given or {})
    spare = [colour for colour in PALETTE if colour not in found.values()] or list(PALETTE)
    missing = [name for name in names if name not in found]
    return found | {name: spare[place % len(spare)] for place, name in enumerate(missing)}


def spread_labels(wanted: Sequence[float], least: float) -> list[float]:
    """Return places at least so far apart that stay near those wanted, in the same order."""
    if not len(wanted):
        return []
    order = np.argsort(wanted, kind="stable")
    ascending = np.asarray(wanted, np.float64)[order]
    # pool neighbours that are too near and spread each pool around its mean
    pools: list[list[float]] = []
    for value in ascending:
        pools.append([float(value)])
        while len(pools) > 1 and _low(pools[-1], least) - _high(pools[-2], least) < least:
            last = pools.pop()
            pools[-1] = pools[-1] + last
    placed = np.concatenate([_low(pool, least) + least * np.arange(len(pool)) for pool in pools])
    out = np.empty(len(placed))
    out[order] = placed
    return [float(value) for value in out]


def _low(pool: list[float], least: float) -> float:
    return float(np.mean(pool)) - least * (len(pool) - 1) / 2.0


def _high(pool: list[float], least: float) -> float:
    return float(np.mean(pool)) + least * (len(pool) - 1) / 2.0

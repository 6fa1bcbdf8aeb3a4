"""How values are distributed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recsys.plots.style import INK, PALETTE, drawing, named
from recsys.types import RealArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def histogram(
    values: npt.ArrayLike,
    *,
    bins: int = 40,
    log: bool = False,
    unit: str = "",
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how often values occur, with the median marked; `log` leaves out what is not above 0 and says so."""
    with drawing(ax, (5.6, 4.0)) as ax:
        given = np.asarray(values, np.float64)
        given = given[np.isfinite(given)]
        kept = given[given > 0] if log else given
        if not len(kept):
            ax.annotate("nothing to draw", (0.5, 0.5), xycoords="axes fraction", ha="center", color=INK)
            named(ax, xlabel, ylabel, title)
            return ax
        low, high = float(kept.min()), float(kept.max())
        edges = _edges(kept, bins, log=log)
        ax.hist(kept, edges.tolist(), color=PALETTE[0], alpha=0.85)
        if log:
            ax.set_xscale("log")
            plain_ticks(ax, low, high)
        middle = float(np.median(kept))
        ax.axvline(middle, color=PALETTE[1], lw=1.5)
        if left_out := len(given) - len(kept):
            xlabel = f"{xlabel} ({left_out:,} of 0 or less not drawn)"
        ax.set_ylim(top=1.15 * ax.get_ylim()[1])
        ax.annotate(
            f"median {middle:,.3g}{unit}",
            (middle, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(5, 0),
            textcoords="offset points",
            color=PALETTE[1],
            va="top",
        )
        named(ax, xlabel, ylabel, title)
        return ax


def weights(
    edges: Sequence[float], counts: Sequence[int], *, title: str = "", ax: "Axes | None" = None
) -> "Axes":
    """Draw importance weights of lists as an evaluation holds them: log10 edges behind a bin of weights of 0."""
    with drawing(ax, (5.6, 4.0)) as ax:
        real = 10.0 ** np.asarray(edges[1:], np.float64)
        ax.stairs(np.asarray(counts[1:]), real, fill=True, color=PALETTE[0], alpha=0.85)
        ax.set_xscale("log")
        ax.axvline(1.0, color=PALETTE[1], lw=1.5)
        total = max(sum(counts), 1)
        if counts[0]:
            ax.annotate(
                f"beside these, {counts[0] / total:.0%} of all lists:\nthe policy would never show them",
                (0.02, 0.97),
                xycoords="axes fraction",
                va="top",
                color=INK,
            )
        ax.set_ylim(top=1.3 * max([*counts[1:], 1]))
        named(ax, "importance weight of a list (1 = as likely as it was)", "lists", title)
        return ax


def _edges(kept: RealArray, bins: int, *, log: bool) -> RealArray:
    """Return the edges of the bins, between whole numbers if values are whole, so that no bin is empty by birth."""
    low, high = float(kept.min()), float(kept.max())
    whole = bool((kept == np.round(kept)).all())
    if whole:
        low, high = low - 0.5, high + 0.5
    edges = (
        np.geomspace(low, max(high, low * 1.001), bins + 1)
        if log
        else np.linspace(low, high or 1.0, bins + 1)
    )
    if whole:
        edges = np.unique(np.round(edges + 0.5) - 0.5)
    return edges if len(edges) > 1 and edges[-1] > edges[0] else np.array([low, low + 1.0])


def plain_ticks(ax: "Axes", low: float, high: float) -> None:
    """Write ticks of a logarithmic axis as people do: 1, 10, 100, thousands with a comma."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    narrow = high / max(low, 1e-12) < 50  # hardly a power of ten inside: name some that lie between, too
    if narrow:
        ax.xaxis.set_minor_locator(LogLocator(subs=(2.0, 3.0, 5.0)))
        ax.tick_params(axis="x", which="both", length=3.5, pad=3.5)
    ax.xaxis.set_minor_formatter(
        FuncFormatter(lambda value, _: f"{value:,.10g}") if narrow else NullFormatter()
    )

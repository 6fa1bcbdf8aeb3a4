"""States on a map: a cloud for everybody, a path for one."""

from typing import TYPE_CHECKING

import pandas as pd

from recsys.plots.style import INK, PALETTE, drawing, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def state_path(places: pd.DataFrame, history: int, *, title: str = "", ax: "Axes | None" = None) -> "Axes":
    """Draw where all histories are after their last event, and one history's way from before its first.

    `places` is that of frames.states.state_map.
    """
    with drawing(ax, (6.4, 5.0)) as ax:
        last = places["event"].max()
        ends = places[places["event"] == last]
        path = places[places["history"] == history].sort_values("event")
        ax.scatter(ends["x"], ends["y"], s=9, color=PALETTE[5], alpha=0.6, lw=0)
        ax.plot(path["x"], path["y"], color=PALETTE[1], marker="o", ms=4, lw=1.5)
        named_places = {0: "no event yet", 1: "1 event", int(last): f"{last} events"}
        for event, x, y in path[["event", "x", "y"]].to_numpy().tolist():
            if int(event) in named_places:
                ax.annotate(
                    named_places[int(event)],
                    (x, y),
                    xytext=(7, 5),
                    textcoords="offset points",
                    color=INK,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
                )
        share = places.attrs.get("explained")
        about = "" if share is None else f" ({share:.0%} of the variance on both axes)"
        named(ax, f"first principal component of f(s){about}", "second component", title)
        ax.set_xticklabels([])
        ax.set_yticklabels([])
        return ax

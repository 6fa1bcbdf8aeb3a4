"""How items move in a user's list from one event to the next."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recsys.plots.style import INK, PALE, PALETTE, drawing, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def ranks(
    lists: Sequence[Sequence[str]],
    steps: Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    follow: Sequence[str] = (),
    xlabel: str = "",
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the place of every item in each list, the first place on top; items of `follow` are coloured.

    Lines end where an item leaves the lists; the items of the last list are named at the right.
    """
    depth = max((len(each) for each in lists), default=1)
    with drawing(ax, (9.5, 1.4 + 0.36 * depth)) as ax:
        names = names or {}
        tint = {item: PALETTE[place % len(PALETTE)] for place, item in enumerate(follow)}
        every = dict.fromkeys(item for each in lists for item in each)
        for item in sorted(every, key=lambda item: item in tint):
            at = np.array([each.index(item) + 1.0 if item in each else np.nan for each in map(list, lists)])
            ax.plot(
                np.arange(len(lists)), at, marker="o", ms=6, lw=2.2 if item in tint else 1.2,
                color=tint.get(item, PALE), zorder=3 if item in tint else 2,
            )  # fmt: skip
        for place, item in enumerate(lists[-1] if lists else ()):
            ax.annotate(
                names.get(item, item),
                (len(lists) - 1, place + 1),
                xytext=(10, 0),
                textcoords="offset points",
                color=tint.get(item, INK),
                va="center",
                annotation_clip=False,
            )
        ax.set_xticks(range(len(steps)), list(steps))
        ax.set_yticks(range(1, depth + 1))
        ax.set_ylim(depth + 0.5, 0.5)
        ax.grid(visible=False)
        named(ax, xlabel, "place in the list", title)
        return ax

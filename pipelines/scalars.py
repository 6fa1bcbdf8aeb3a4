"""Training curves, written where TensorBoard looks for them, and read back as a frame."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from recsys.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from torch.utils.tensorboard import SummaryWriter


class Scalars(Protocol):
    """Where a step leaves the points of its curves."""

    def add(self, name: str, value: float, step: int) -> None:
        """Add one point; a slash in the name groups curves."""


class NoScalars:
    """Keeps nothing: for tests and for steps called as functions."""

    def add(self, name: str, value: float, step: int) -> None:
        """Keep nothing."""


class TensorBoardScalars:
    """One folder of TensorBoard events; curves of an earlier run of the step are replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def add(self, name: str, value: float, step: int) -> None:
        """Add one point."""
        if self._writer is None:
            # imported with the first point: it takes half a second, and some steps have no curves
            from torch.utils.tensorboard import SummaryWriter

            shutil.rmtree(self._folder, ignore_errors=True)
            self._writer = SummaryWriter(str(self._folder))
        self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()


def read_scalars(folder: Path) -> "pd.DataFrame":
    """Return the points of a step's curves: name, update, value; raises UserError if there are none."""
    import pandas as pd
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not any(folder.glob("events.out.tfevents.*")):
        raise UserError(f"no training curves in {folder}; run the step first")
    written = EventAccumulator(str(folder), size_guidance={"scalars": 0})  # 0 = every point
    written.Reload()
    rows = [
        (name, point.step, point.value)
        for name in written.Tags()["scalars"]
        for point in written.Scalars(name)
    ]
    return pd.DataFrame(rows, columns=["name", "update", "value"])

"""Windows drawn by priority, for the ranker that learns from whole stretches of a history.

The |TD error| of every event is kept; a window's priority is η max|δ| + (1 − η) mean|δ| over its events (R2D2,
Kapturowski et al. 2019). Because errors belong to events, they outlive the windows, whose edges move at every epoch.
Events of one time are read in any order (windows.py): then an error is kept for one of them, which changes no window
that holds them all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from recsys.errors import UserError
from recsys.mdp.priorities import Priorities, PriorityRule
from recsys.mdp.transition_store import Array
from recsys.mdp.windows import Windows
from recsys.types import FloatArray, LongArray


@dataclass(frozen=True)
class WindowDraw:
    """Drawn windows with the importance weight of each and its place among those cut; all (window,)."""

    windows: Windows
    weight: torch.Tensor
    index: LongArray
    part: int = 0  # among the parts cut


class PrioritizedWindows:
    """Draws windows over the events of one log; `cut` says which, at every epoch anew."""

    def __init__(self, events: int, rule: PriorityRule) -> None:
        self.rule = rule
        self._error: FloatArray = np.full(events, np.nan, np.float32)  # |δ|, NaN where never learnt from
        self._largest = 1.0
        self._draws = 0
        self._parts: list[tuple[Windows, Priorities]] = []

    def cut(self, *parts: Windows) -> None:
        """Draw from these windows from now on, from each part of them apart.

        An event never learnt from counts as the largest error seen.
        """
        if not parts or not all(len(windows) for windows in parts):
            raise UserError(
                "there are 0 windows to draw from, must be 1 or more; does the log have training events?"
            )
        self._parts = [(windows, Priorities(len(windows), self.rule)) for windows in parts]
        for windows, priorities in self._parts:
            priorities.set_errors(np.arange(len(windows)), self.errors_of(windows))

    def sample(self, batch_size: int, generator: np.random.Generator, part: int = 0) -> WindowDraw:
        """Draw windows of one part with replacement."""
        if not self._parts:
            raise RuntimeError("cut must be called before the first draw")
        windows, priorities = self._parts[part]
        beta = self.rule.beta_at(self._draws)
        index, weight = priorities.draw(batch_size, len(windows), generator, beta)
        self._draws += 1
        return WindowDraw(windows.take(index), torch.from_numpy(weight), index, part)

    def update(self, draw: WindowDraw, td_error: torch.Tensor, learnt: torch.Tensor) -> None:
        """Take note of TD errors, (window, time); `learnt`, likewise, says which steps have one."""
        if not self._parts:
            raise RuntimeError("cut must be called before the first update")
        error = np.abs(td_error.detach().cpu().numpy())
        row, column = np.nonzero(learnt.cpu().numpy())
        bad = np.flatnonzero(~np.isfinite(error[row, column]))
        if len(bad):
            raise UserError(
                f"the TD error of event {draw.windows.start[row[bad[0]]] + column[bad[0]]} is "
                f"{error[row[bad[0]], column[bad[0]]]}, must be finite; training has diverged: lower the learning rate"
            )
        self._error[draw.windows.start[row] + column] = error[row, column]
        self._largest = max(self._largest, float(error[row, column].max(initial=0.0)))
        self._parts[draw.part][1].set_errors(draw.index, self.errors_of(draw.windows))

    def errors_of(self, windows: Windows) -> FloatArray:
        """Return η max|δ| + (1 − η) mean|δ| of windows, (window,)."""
        lengths = windows.end - windows.start
        first = np.cumsum(lengths) - lengths
        event = np.arange(lengths.sum()) + np.repeat(windows.start - first, lengths)
        error = np.nan_to_num(self._error[event], nan=self._largest)
        largest = np.maximum.reduceat(error, first)
        mean = np.add.reduceat(error, first) / lengths
        mix = self.rule.sequence_mix
        mixed: FloatArray = (mix * largest + (1.0 - mix) * mean).astype(np.float32)
        return mixed

    def state(self) -> dict[str, Array]:
        """Return what `restore` needs to go on exactly, from the next cut on: arrays by name."""
        return {
            "error": self._error.copy(),
            "largest": np.array(self._largest),
            "draws": np.array(self._draws),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from a saved state; raises UserError if it is that of another log."""
        error = np.array(state["error"], np.float32)
        if len(error) != len(self._error):
            raise UserError(
                f"the saved priorities are of {len(error)} events, must be of {len(self._error)}; resume with the log "
                "they were saved from"
            )
        self._error, self._largest, self._draws = error, float(state["largest"]), int(state["draws"])
        self._parts = []

"""The batches of one epoch: windows of histories, every one of them once, or drawn by their TD errors.

A batch holds windows of one fold of histories (`recsys/learning/memory.py`), because it shares its negatives and every
fold reads factors of its own. Prioritized replay draws as many windows of each fold as there are, with importance
weights; β comes to 1 where the last epoch ends. Warm-up has no TD errors and takes every window once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from recsys.config import PretrainConfig
from recsys.errors import UserError
from recsys.learning.recency import age_weight
from recsys.learning.step_losses import TransitionFigures
from recsys.logs.prepared import PreparedLog
from recsys.mdp.builder import Terminal
from recsys.mdp.priorities import PriorityRule
from recsys.mdp.prioritized_windows import PrioritizedWindows, WindowDraw
from recsys.mdp.transition_store import Array
from recsys.mdp.windows import Windows, batches, cut_windows
from recsys.types import LongArray


def least_events(terminal: Terminal) -> int:
    """Return how short a window may be that is learnt from.

    One event is a transition where it may have been the last: whoever leaves after it would be missing from what first
    actions are worth, and these are the unhappiest. Where ends are cuts, a lone event says only what is bootstrapped.
    """
    return 2 if terminal == "never" else 1


@dataclass(frozen=True)
class EpochBatch:
    """Windows to learn from at once."""

    windows: Windows
    fold: int | None  # whose factors they must not read; None = no folds
    weight: torch.Tensor | None  # of each window in the losses, (window,); None = 1
    draw: WindowDraw | None = None  # what prioritized replay is told the TD errors of


class EpochBatches:
    """Cuts histories into windows at every epoch anew and hands them out in batches."""

    def __init__(
        self,
        log: PreparedLog,
        histories: LongArray,
        fold: LongArray | None,
        settings: PretrainConfig,
        max_events: int,
        chance: np.random.Generator,
    ) -> None:
        self.log, self.settings, self.max_events, self.chance = log, settings, max_events, chance
        folds: list[int] = [] if fold is None else np.unique(fold).tolist()
        self.parts: list[tuple[int | None, LongArray]] = (
            [(None, histories)] if fold is None else [(f, histories[fold == f]) for f in folds]
        )
        self.priorities: PrioritizedWindows | None = None
        if settings.replay == "prioritized":
            rule = PriorityRule(
                **settings.priority.model_dump(), anneal_draws=max(1, self._batches_with_targets())
            )
            self.priorities = PrioritizedWindows(len(log.item), rule)

    def of_epoch(self, *, warmup: bool) -> tuple[int, Iterator[EpochBatch]]:
        """Return (number of batches, the batches in random order); drawn ones only when asked for."""
        if self.priorities is None or warmup:
            return self._each_once()
        return self._drawn(self.priorities)

    def learnt(self, batch: EpochBatch, figures: TransitionFigures | None) -> None:
        """Take note of the TD errors of a batch that was drawn by priority."""
        if self.priorities is None or batch.draw is None or figures is None:
            return
        if figures.row is None or figures.column is None:
            raise RuntimeError("TD errors of windows must name the row and the column that each is of")
        row, column = figures.row.cpu(), figures.column.cpu()
        widest = int((batch.windows.end - batch.windows.start).max())
        error, known = torch.zeros(len(batch.windows), widest), torch.zeros(len(batch.windows), widest).bool()
        error[row, column], known[row, column] = figures.td_error.cpu(), True
        self.priorities.update(batch.draw, error, known)

    def state(self) -> dict[str, Array]:
        """Return what `restore` needs to go on exactly with the next epoch, the generator apart."""
        return {} if self.priorities is None else self.priorities.state()

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from a saved state."""
        if self.priorities is not None:
            self.priorities.restore(state)

    def _each_once(self) -> tuple[int, Iterator[EpochBatch]]:
        # where ends are terminal, length goes with what happened: a mean over each batch of one length would count
        # short, unhappy histories most
        alike = self.settings.terminal == "never"
        size = self.settings.batch_size
        every = [
            (fold, rows)
            for fold, part in self.parts
            for rows in batches(self._cut(part, self.chance), size, self.chance, similar_length=alike)
        ]
        if not every:
            histories = sum(len(part) for _, part in self.parts)
            raise UserError(
                f"there are 0 windows to learn from, of {histories} training histories; must be 1 or more: histories "
                f"need {least_events(self.settings.terminal)} events, and pretrain.new_task_share must leave some"
            )
        order = self.chance.permutation(len(every))
        shuffled = (every[place] for place in order)
        return len(every), (EpochBatch(rows, fold, self._age_and_length(rows)) for fold, rows in shuffled)

    def _drawn(self, priorities: PrioritizedWindows) -> tuple[int, Iterator[EpochBatch]]:
        cut = [(fold, self._cut(part, self.chance)) for fold, part in self.parts]
        filled = [(fold, windows) for fold, windows in cut if len(windows)]
        priorities.cut(*(windows for _, windows in filled))
        plan = [(part, size) for part, (_, windows) in enumerate(filled) for size in self._sizes(windows)]

        def drawn() -> Iterator[EpochBatch]:
            for place in self.chance.permutation(len(plan)):
                part, size = plan[place]
                draw = priorities.sample(size, self.chance, part)
                weight = self._age_and_length(draw.windows)
                weight = draw.weight if weight is None else draw.weight * weight
                yield EpochBatch(draw.windows, filled[part][0], weight, draw)

        return len(plan), drawn()

    def _cut(self, part: LongArray, chance: np.random.Generator) -> Windows:
        return cut_windows(self.log, part, self.max_events, least_events(self.settings.terminal), chance)

    def _sizes(self, windows: Windows) -> list[int]:
        size = self.settings.batch_size
        return [min(size, len(windows) - start) for start in range(0, len(windows), size)]

    def _batches_with_targets(self) -> int:
        """Return how many batches all epochs after the warm-up draw, up to windows whose edges move."""
        still = np.random.default_rng(0)  # of the edges alone: no chance of training is drawn
        of_epoch = sum(len(self._sizes(self._cut(part, still))) for _, part in self.parts)
        return of_epoch * (self.settings.epochs - self.settings.warmup_epochs)

    def _age_and_length(self, rows: Windows) -> torch.Tensor | None:
        """Return ½^(age / half-life) · n^−p of windows, n the events of the history, mean 1; None where all are 1.

        Age is counted from the batch's newest, so that a batch of old windows is weighed too.
        """
        settings = self.settings
        if settings.half_life_days is None and settings.history_power == 0:
            return None
        length = np.maximum(self.log.history_train_end[rows.history], 1).astype(np.float64)
        last = np.asarray(self.log.timestamp[rows.end - 1])
        age = age_weight(last, int(last.max()), settings.half_life_days)
        weight = length**-settings.history_power * age
        return torch.from_numpy((weight / weight.mean()).astype(np.float32))

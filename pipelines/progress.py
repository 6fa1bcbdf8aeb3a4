"""What a running step shows: a live bar on a terminal, a line every ten seconds elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as LiveBar
from rich.text import Text

LINE_EVERY_S = 10.0


class Progress(Protocol):
    """Where a step says how far it is."""

    def start(self, total: int | None, unit: str, description: str) -> None:
        """Begin a stretch of work; it replaces the one before."""

    def advance(self, n: int = 1, **metrics: float) -> None:
        """Count units done; metrics stay shown until they are given anew."""


class SilentProgress:
    """Shows nothing: for tests and for steps called as functions."""

    def start(self, total: int | None, unit: str, description: str) -> None:
        """Show nothing."""

    def advance(self, n: int = 1, **metrics: float) -> None:
        """Show nothing."""


class PhaseReporter:
    """Hears a function of the library say `(phase, done, total)` and passes it on."""

    def __init__(self, progress: Progress, unit: str) -> None:
        self._progress = progress
        self._unit = unit
        self._phase: str | None = None
        self._done = 0

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Begin a stretch at a new phase, then count from where it was."""
        if phase != self._phase:
            self._phase, self._done = phase, 0
            self._progress.start(total or None, self._unit, phase)
        self._progress.advance(max(0, done - self._done))
        self._done = max(done, self._done)


class LineProgress:
    """Prints a line now and then: for logs and pipes."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._last_line = self._started = time.monotonic()
        self._total: int | None = None
        self._done = 0
        self._unit = self._description = ""
        self._metrics: dict[str, float] = {}

    def start(self, total: int | None, unit: str, description: str) -> None:
        """Begin a stretch; what was shown of the one before is forgotten."""
        self._started = time.monotonic()
        self._total, self._unit, self._description = total, unit, description
        self._done = 0
        self._metrics = {}

    def advance(self, n: int = 1, **metrics: float) -> None:
        """Count, and print if the last line is old."""
        self._done += n
        self._metrics.update(metrics)
        now = time.monotonic()
        if now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            say(self._console, f"{self._name:<9} {self._line(now - self._started)}")

    def _line(self, elapsed_s: float) -> str:
        rate = self._done / max(elapsed_s, 1e-9)
        of_total = f"/{self._total:,}" if self._total is not None else ""
        left = f", {max(0, self._total - self._done) / rate:.0f} s left" if self._total and rate > 0 else ""
        line = f"{self._description}: {self._done:,}{of_total} {self._unit}, {rate:,.0f}/s{left}"
        return f"{line}  {show_metrics(self._metrics)}".rstrip()


class BarProgress:
    """Drives one bar of a live display."""

    def __init__(self, bar: LiveBar) -> None:
        self._bar = bar
        self._task: TaskID | None = None
        self._metrics: dict[str, float] = {}

    def start(self, total: int | None, unit: str, description: str) -> None:
        """Begin a stretch with a fresh bar."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._metrics = {}
        self._task = self._bar.add_task(description, total=total, unit=unit, metrics="")

    def advance(self, n: int = 1, **metrics: float) -> None:
        """Move the bar."""
        if self._task is None:
            self.start(None, "", "")
        assert self._task is not None  # noqa: S101
        self._metrics.update(metrics)
        self._bar.update(self._task, advance=n, metrics=show_metrics(self._metrics))


class _Rate(ProgressColumn):
    """Units done, of how many, and how fast."""

    def render(self, task: Task) -> Text:
        total = f"/{task.total:,.0f}" if task.total is not None else ""
        rate = f" · {task.speed:,.0f}/s" if task.speed else ""
        return Text(f"{task.completed:,.0f}{total} {task.fields['unit']}{rate}", style="cyan")


@contextmanager
def shown(console: Console, name: str) -> Iterator[Progress]:
    """Give the progress of one step on a console, live if that is a terminal."""
    if not console.is_terminal:
        yield LineProgress(console, name)
        return
    bar = LiveBar(
        TextColumn(f"{name:<9} ", markup=False, style="bold"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        _Rate(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[metrics]}", markup=False, style="green"),
        console=console,
        transient=True,
    )
    with bar:
        yield BarProgress(bar)


def show_metrics(metrics: dict[str, float]) -> str:
    """Return metrics as `name=value` words."""
    return " ".join(f"{name}={value:.4g}" for name, value in metrics.items())


def counted_rows(rows: int) -> str:
    """Return a number of rows in words."""
    return f"{rows:,} row{'' if rows == 1 else 's'}"


def say(console: Console, text: str) -> None:
    """Print one plain line: no markup, no colour guesses, no wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)

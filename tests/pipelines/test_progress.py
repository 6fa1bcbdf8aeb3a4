"""What a running step shows on a terminal and elsewhere."""

import io

import pytest
from rich.console import Console

from pipelines import progress
from pipelines.progress import LineProgress, PhaseReporter, SilentProgress, shown


class Recorder(SilentProgress):
    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def start(self, total: int | None, unit: str, description: str) -> None:
        self.heard.append((description, total))

    def advance(self, n: int = 1, **metrics: float) -> None:
        self.heard.append((n,))


def test_lines_come_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    text = io.StringIO()
    lines = LineProgress(Console(file=text, width=20), "pretrain")
    lines.start(1000, "batches", "epoch 1")
    for second in range(25):
        now = 100.0 + second
        lines.advance(20, loss=1 / 3)
    assert text.getvalue().splitlines() == [
        "pretrain  epoch 1: 220/1,000 batches, 22/s, 35 s left  loss=0.3333",
        "pretrain  epoch 1: 420/1,000 batches, 21/s, 28 s left  loss=0.3333",
    ]


def test_a_pipe_gets_lines_and_a_terminal_a_bar() -> None:
    pipe, terminal = io.StringIO(), io.StringIO()
    for stream, is_terminal in ((pipe, False), (terminal, True)):
        console = Console(file=stream, force_terminal=is_terminal, width=120)
        with shown(console, "pretrain") as live:
            live.advance()  # before any start
            live.start(2, "batches", "epoch [1/2]")
            live.advance(1, loss=0.25)
            live.start(None, "batches", "epoch [2/2]")
            live.advance(1, loss=0.125)
    assert pipe.getvalue() == ""
    for part in ("epoch [2/2]", "1 batches", "loss=0.125"):
        assert part in terminal.getvalue()


def test_phases_become_stretches() -> None:
    recorder = Recorder()
    report = PhaseReporter(recorder, "rows")
    for phase, done, total in (
        ("read", 10, 30),
        ("read", 30, 30),
        ("sort", 0, 5),
        ("sort", 5, 5),
        ("wrap up", 1, 0),
    ):
        report(phase, done, total)
    assert recorder.heard == [
        ("read", 30),
        (10,),
        (20,),
        ("sort", 5),
        (0,),
        (5,),
        ("wrap up", None),
        (1,),
    ]

"""A tiny log with its config and a space over it, and a pool that runs trials in the test's own process."""

from pathlib import Path

from pipelines.tuning.desk import Desk, Result
from pipelines.tuning.trial import GivenUp, run_trial
from pipelines.tuning.tune import Asked
from tests.pipelines.bad_logs import TOML, log, write_events

SPACE = """
[study]
random_trials = 3
prune_after_trials = 2
prune_after_epochs = 1
[pretrain.learning_rate]
kind = "float"
low = 1e-4
high = 1e-1
log = true
[distill.hidden]
kind = "int"
low = 2
high = 8
step = 2
"""


def write_tuning_log(home: Path) -> Asked:
    """Write log, config and space; return a search of six trials over them."""
    write_events(home / "log", log(users=60, events=8, items=20))
    tables = TOML.format(home=home, split="users", tables="", prepare="", bad_share=0.01)
    (home / "tiny.toml").write_text(tables.replace('name = "bad"', 'name = "tiny"'))
    (home / "space.toml").write_text(SPACE)
    return Asked(
        config=str(home / "tiny.toml"),
        space=str(home / "space.toml"),
        overrides=[],
        trial_overrides=[],
        trials=8,
        minutes=None,
        workers=1,
        finalists=0,
        seeds=[],
        folder=None,
        out=None,
    )


def run_inline(desk: Desk, workers: int) -> None:
    """Serve a desk in this process."""
    while (job := desk.next_job()) is not None:
        number = job.number
        try:
            quality = run_trial(job, lambda stage, epoch, q, n=number: desk.go_on(n, stage, epoch, q))  # type: ignore[misc]
            desk.ended(number, Result(quality))
        except GivenUp:
            desk.ended(number, Result(given_up=True))

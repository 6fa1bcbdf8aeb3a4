"""The search: it goes on after kill -9 as if undisturbed, gives up what is poor, and its winner runs."""

import io
import json
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tuning_log import run_inline, write_tuning_log

from pipelines.configuration import resolve_config
from pipelines.runner import run_steps
from pipelines.tuning.trial import measured_steps
from pipelines.tuning.tune import Asked, tune
from recsys.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Asked, Path, str]:
    """A finished search in this process, its folder and what it said."""
    home = tmp_path_factory.mktemp("undisturbed")
    asked, said = write_tuning_log(home), io.StringIO()
    tune(asked, run_inline, Console(file=said))
    return asked, home / "runs" / "tiny-tune", said.getvalue()


def record(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return read


def test_the_first_trial_is_the_config_as_it_is_and_the_winner_is_the_best(
    undisturbed: tuple[Asked, Path, str],
) -> None:
    asked, folder, _ = undisturbed
    kept, config = record(folder), resolve_config(asked.config)
    first = kept["trials"][0]
    assert first["values"] == {
        "pretrain.learning_rate": config.pretrain.learning_rate,
        "distill.hidden": config.distill.hidden,
    }
    assert len(kept["trials"]) == 8
    complete = [trial for trial in kept["trials"] if trial["state"] == "complete"]
    best = max(complete, key=lambda trial: trial["quality"])
    assert kept["winner"] == best["number"]
    assert len({trial["quality"] for trial in complete}) > 2  # the trials differ, so that there was a choice


def test_a_trial_is_given_up_only_below_the_median_of_earlier_ones_at_its_epoch(
    undisturbed: tuple[Asked, Path, str],
) -> None:
    _, folder, _ = undisturbed
    heard: dict[int, dict[int, float]] = {}
    with sqlite3.connect(folder / "study.db") as database:
        query = "select number, step, intermediate_value from trial_intermediate_values join trials using (trial_id)"
        for number, step, value in database.execute(query):
            heard.setdefault(number, {})[step] = value
    states = {trial["number"]: trial["state"] for trial in record(folder)["trials"]}
    given_up = [number for number, state in states.items() if state == "pruned"]
    assert given_up
    for number in given_up:
        last = max(heard[number])
        earlier = [
            heard[n][last] for n in heard if n < number and last in heard[n] and states[n] == "complete"
        ]
        assert max(heard[number].values()) < statistics.median(earlier)
    everything = max(len(steps) for steps in heard.values())
    assert all(len(heard[number]) < everything for number in given_up)


def test_the_winner_runs_and_is_worth_what_the_search_says(
    undisturbed: tuple[Asked, Path, str], tmp_path: Path
) -> None:
    _, folder, said = undisturbed
    config = resolve_config(str(folder / "winner.toml"), [f"output={tmp_path}"])
    assert config.name == "tiny-tuned"
    outcome = run_steps(config, measured_steps(), ("validate",), Console(file=io.StringIO()))[-1]
    kept = record(folder)
    assert outcome.summary["ndcg"] == kept["trials"][kept["winner"]]["quality"]
    assert f"recsys run --config {folder / 'winner.toml'}" in said


def test_after_kill_9_the_search_goes_on_to_the_same_end_and_leaves_no_process(
    undisturbed: tuple[Asked, Path, str], tmp_path: Path
) -> None:
    asked = write_tuning_log(tmp_path)
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "tune",
        "--config",
        asked.config,
        "--space",
        asked.space,
    ]
    command += ["--trials", str(asked.trials)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    killed = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    said = ""
    while "trial 2: " not in said:
        line = killed.stderr.readline()
        assert line, said
        said += line
    workers = _children(killed.pid)
    assert workers
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    deadline = time.monotonic() + 30
    while alive := [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)

    folder = tmp_path / "runs" / "tiny-tune"
    assert not (folder / "record.json").exists()
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    again = [int(number) for number in re.findall(r"trial (\d+): ", ended.stderr)]
    assert again == list(range(3, asked.trials))
    assert record(folder)["trials"] == record(undisturbed[1])["trials"]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_finals_train_the_best_and_the_config_as_it_is_at_full_length_with_every_seed(
    undisturbed: tuple[Asked, Path, str],
) -> None:
    asked, folder, _ = undisturbed
    said = io.StringIO()
    out = folder / "of-finals.toml"
    tune(replace(asked, finalists=1, seeds=[7, 8], out=out), run_inline, Console(file=said))
    kept = record(folder)
    assert set(kept["finals"]) >= {"0"}
    assert all(len(found) == 2 for found in kept["finals"].values())
    # the same config and seed as a trial's, so the same served object
    assert kept["finals"]["0"][0] == kept["trials"][0]["quality"]
    means = {int(number): statistics.mean(found) for number, found in kept["finals"].items()}
    assert means[kept["winner"]] == max(means.values())
    assert (
        resolve_config(str(out)).distill.hidden == kept["trials"][kept["winner"]]["values"]["distill.hidden"]
    )
    assert "final of trial 0, seed 8" in said.getvalue()


def test_a_search_is_not_gone_on_with_from_another_config(undisturbed: tuple[Asked, Path, str]) -> None:
    asked, _, _ = undisturbed
    with pytest.raises(UserError, match="another config, space or seed"):
        tune(
            replace(asked, overrides=["metatrain.learning_rate=0.5"]), run_inline, Console(file=io.StringIO())
        )

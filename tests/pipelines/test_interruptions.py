"""Real processes that are killed, interrupted or started twice."""

import io
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console
from toy import STEPS, toy_config

from pipelines.configuration import resolve_config
from pipelines.manifest import artifact_digest
from pipelines.runner import run_steps

TOY = Path(__file__).parent / "toy.py"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    config = toy_config(tmp_path)
    path = tmp_path / "toy.toml"
    path.write_text(
        f'name = "toy"\nthreads = 1\noutput = "{config.output}"\n'
        f'[prepare.log]\nformat = "file"\npath = "{config.prepare.log.path}"\n'
    )
    return path


def start(config_file: Path, gate: Path | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if gate is not None:
        environment["TOY_GATE"] = str(gate)
    command = [sys.executable, str(TOY), "pretrain", "--config", str(config_file)]
    # a shell's background jobs ignore Ctrl-C, and so would their children
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heeds)


def wait_for(gate: Path) -> None:
    deadline = time.monotonic() + 30
    while not gate.exists():
        assert time.monotonic() < deadline, "the step never got half-way"
        time.sleep(0.02)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith((".tmp-", ".old-"))]


def test_a_killed_step_leaves_nothing_half_written_and_the_rerun_equals_an_undisturbed_one(
    config_file: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "half-way"
    killed = start(config_file, gate)
    wait_for(gate)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    run = tmp_path / "runs" / "toy"
    assert (run / "prepare" / "step.json").is_file()
    assert not (run / "pretrain").exists()
    assert leftovers(run) == [".tmp-pretrain"]

    said = io.StringIO()
    config = resolve_config(str(config_file))
    run_steps(config, STEPS, ["pretrain"], Console(file=said))
    assert "prepare   kept" in said.getvalue()
    assert leftovers(run) == []
    undisturbed = config.model_copy(update={"output": tmp_path / "elsewhere"})
    for outcome in run_steps(undisturbed, STEPS, ["pretrain"], Console(file=said)):
        assert not outcome.kept
        assert artifact_digest(run / outcome.step) == artifact_digest(outcome.folder)


def test_while_one_process_works_another_is_refused_and_ctrl_c_ends_with_one_line(
    config_file: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "half-way"
    first = start(config_file, gate)
    wait_for(gate)

    second = start(config_file)
    _, refusal = second.communicate()
    assert second.returncode == 2
    assert refusal.count("\n") == 1
    assert f"another process (id {first.pid})" in refusal

    first.send_signal(signal.SIGINT)
    _, said = first.communicate()
    assert first.returncode == 130
    assert said.splitlines()[-1] == "recsys: stopped; finished steps are kept"
    assert "Traceback" not in said
    run = tmp_path / "runs" / "toy"
    assert leftovers(run) == []
    assert not (run / "pretrain").exists()

"""The step runner: what is kept, what is run again, and what a failure leaves."""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from toy import STEPS, toy_config

from pipelines import sources
from pipelines.manifest import artifact_digest, read_manifest
from pipelines.runner import Outcome, in_order, run_steps
from pipelines.steps import Step, StepContext, Summary
from recsys.artifacts.files import locked
from recsys.config import PretrainConfig, RunConfig
from recsys.errors import UserError


def run(
    config: RunConfig,
    steps: Sequence[Step] = STEPS,
    wanted: Sequence[str] = ("pretrain",),
    **options: Sequence[str],
) -> dict[str, Outcome]:
    return {
        outcome.step: outcome
        for outcome in run_steps(config, steps, wanted, Console(file=io.StringIO()), **options)
    }


def kept(outcomes: dict[str, Outcome]) -> dict[str, bool]:
    return {name: outcome.kept for name, outcome in outcomes.items()}


def test_a_second_run_keeps_everything_and_says_so(tmp_path: Path) -> None:
    first = run(toy_config(tmp_path))
    text = io.StringIO()
    second = run_steps(toy_config(tmp_path), STEPS, ["pretrain"], Console(file=text))
    assert kept(first) == {"prepare": False, "pretrain": False}
    assert [outcome.kept for outcome in second] == [True, True]
    assert [line.split(":")[0].split() for line in text.getvalue().splitlines()] == [
        ["prepare", "kept"],
        ["pretrain", "kept"],
    ]
    assert second[1].summary == first["pretrain"].summary


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pretrain": PretrainConfig(epochs=9)}, {"prepare": True, "pretrain": False}),
        ({"seed": 8}, {"prepare": False, "pretrain": False}),
        ({"threads": 2}, {"prepare": True, "pretrain": True}),
    ],
)
def test_only_what_reads_a_changed_setting_runs_again(
    tmp_path: Path, changes: dict[str, object], expected: dict[str, bool]
) -> None:
    run(toy_config(tmp_path))
    assert kept(run(toy_config(tmp_path, **changes))) == expected


def test_a_changed_source_runs_everything_again(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    run(config)
    config.prepare.log.path.write_text("a,b\n1,3\n")  # same size
    assert kept(run(config)) == {"prepare": False, "pretrain": False}


def test_a_touched_source_is_the_same_source(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    run(config)
    config.prepare.log.path.touch()
    assert kept(run(config)) == {"prepare": True, "pretrain": True}


def test_a_raised_step_version_runs_the_step_again(tmp_path: Path) -> None:
    run(toy_config(tmp_path))
    steps = (STEPS[0], replace(STEPS[1], version=2))
    assert kept(run(toy_config(tmp_path), steps)) == {"prepare": True, "pretrain": False}


@pytest.mark.parametrize("damage", ["missing", "cut", "no record", "record is not JSON"])
def test_a_damaged_artifact_is_made_again(tmp_path: Path, damage: str) -> None:
    folder = run(toy_config(tmp_path))["pretrain"].folder
    whole = artifact_digest(folder)
    match damage:
        case "missing":
            (folder / "weights.bin").unlink()
        case "cut":
            (folder / "weights.bin").write_bytes(b"half")
        case "no record":
            (folder / "step.json").unlink()
        case _:
            (folder / "step.json").write_text("{")
    assert kept(run(toy_config(tmp_path))) == {"prepare": True, "pretrain": False}
    assert artifact_digest(folder) == whole


def test_force_runs_the_named_step_only(tmp_path: Path) -> None:
    run(toy_config(tmp_path))
    assert kept(run(toy_config(tmp_path), force=["prepare"])) == {"prepare": False, "pretrain": True}
    assert kept(run(toy_config(tmp_path), force=["pretrain"])) == {"prepare": True, "pretrain": False}


def test_a_step_whose_input_came_out_otherwise_runs_again(tmp_path: Path) -> None:
    run(toy_config(tmp_path))

    def otherwise(context: StepContext) -> Summary:
        (context.out / "parts").mkdir()
        (context.out / "parts" / "0.txt").write_text("not what it was")
        return {}

    steps = (replace(STEPS[0], run=otherwise), STEPS[1])
    assert kept(run(toy_config(tmp_path), steps, force=["prepare"])) == {"prepare": False, "pretrain": False}


def test_a_step_whose_effect_outside_is_gone_runs_again(tmp_path: Path) -> None:
    run(toy_config(tmp_path))
    steps = (STEPS[0], replace(STEPS[1], still_holds=lambda config, folder: False))
    assert kept(run(toy_config(tmp_path), steps)) == {"prepare": True, "pretrain": False}


def test_the_record_tells_what_an_artifact_was_made_from(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    outcomes = run(config)
    prepared, trained = (read_manifest(outcomes[name].folder) for name in ("prepare", "pretrain"))
    assert prepared is not None
    assert trained is not None
    assert trained.inputs["prepare"].fingerprint == prepared.fingerprint
    assert trained.inputs["prepare"].digest == prepared.digest == artifact_digest(outcomes["prepare"].folder)
    assert trained.settings == {"pretrain": config.pretrain.model_dump(mode="json")}
    assert set(trained.files) == {"weights.bin"}
    assert trained.files["weights.bin"].size == 8000
    assert trained.summary == outcomes["pretrain"].summary
    assert json.loads((config.output / "toy" / "config.json").read_text()) == config.model_dump(mode="json")


def test_curves_of_a_step_replace_those_of_its_last_run(tmp_path: Path) -> None:
    def curves(context: StepContext) -> Summary:
        context.scalars.add("toy/loss", 0.5, 0)
        return {}

    steps = (Step(name="curves", run=curves),)
    run(toy_config(tmp_path), steps, ["curves"])
    folder = tmp_path / "runs" / "toy" / "tensorboard" / "curves"
    first = [path.name for path in folder.iterdir()]
    run(toy_config(tmp_path), steps, ["curves"], force=["curves"])
    assert len(first) == 1
    assert len(list(folder.iterdir())) == 1


def test_a_failing_step_leaves_the_old_artifact_and_nothing_else(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    folder = run(config)["pretrain"].folder
    whole, before = artifact_digest(folder), sorted(path.name for path in (config.output / "toy").iterdir())

    def fails(context: StepContext) -> Summary:
        (context.out / "weights.bin").write_bytes(b"half")
        raise UserError("no luck")

    with pytest.raises(UserError, match="no luck"):
        run(config, (STEPS[0], replace(STEPS[1], run=fails)), force=["pretrain"])
    assert artifact_digest(folder) == whole
    assert sorted(path.name for path in (config.output / "toy").iterdir()) == before


def test_death_between_the_two_renames_is_undone(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    folder = run(config)["pretrain"].folder
    folder.rename(folder.with_name(".old-pretrain"))
    (folder.with_name(".tmp-pretrain")).mkdir()
    (folder.with_name(".tmp-config.json-123")).touch()
    assert kept(run(config)) == {"prepare": True, "pretrain": True}
    assert not [path for path in folder.parent.iterdir() if path.name.startswith((".old-", ".tmp-"))]


def test_global_chance_is_seeded_per_step(tmp_path: Path) -> None:
    def draws(context: StepContext) -> Summary:
        return {"drawn": float(torch.rand(()))}

    steps = (Step(name="one", run=draws), Step(name="two", run=draws))
    first = run(toy_config(tmp_path), steps, ["one", "two"])
    again = run(toy_config(tmp_path), steps, ["two"], force=["two"])
    assert first["two"].summary == again["two"].summary != first["one"].summary
    assert torch.are_deterministic_algorithms_enabled()


def test_a_held_run_folder_is_refused(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    with (
        locked(config.output / "toy" / ".lock"),
        pytest.raises(UserError, match=r"another process \(id \d+\)"),
    ):
        run(config)


@pytest.mark.parametrize("name", ["", "..", "a/b", "/tmp/x", ".hidden", "a\n", "x" * 101])
def test_a_run_name_cannot_leave_the_output_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="name"):
        run(toy_config(tmp_path, name=name))


def test_a_missing_source_is_one_clear_error(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    config.prepare.log.path.unlink()
    with pytest.raises(UserError, match=r"nothing at .*log\.csv"):
        run(config)


def test_only_what_is_needed_is_ordered() -> None:
    steps = [
        Step(name="a", run=lambda context: {}),
        Step(name="b", run=lambda context: {}),
        Step(name="c", run=lambda context: {}, inputs=("a",)),
    ]
    assert [step.name for step in in_order(steps, ["c"])] == ["a", "c"]


def test_an_interrupt_between_the_two_renames_brings_the_old_artifact_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(tmp_path)
    folder = run(config)["pretrain"].folder
    whole = artifact_digest(folder)
    rename, renamed = os.rename, list[str]()

    def interrupted(source: Path, target: Path) -> None:
        renamed.append(target.name)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(config, force=["pretrain"])
    monkeypatch.undo()
    assert renamed == [".old-pretrain", "pretrain"]
    assert kept(run(config)) == {"prepare": True, "pretrain": True}
    assert artifact_digest(folder) == whole


def test_a_settled_source_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.mkdir()
    (log / "a.csv").write_text("a")
    hashed: list[str] = []
    monkeypatch.setattr(sources, "sha256_of", lambda path: hashed.append(path.name) or "digest")
    describe = lambda: sources.SourceHashes(tmp_path / "cache.json").describe((log,))  # noqa: E731
    first = describe()
    describe()
    assert hashed == ["a.csv"] * 2  # changed a moment ago: not trusted yet
    monkeypatch.setattr(sources.time, "time", lambda: (log / "a.csv").stat().st_ctime + 60)
    describe()
    assert describe() == first
    assert hashed == ["a.csv"] * 3
    (log / "b.csv").write_text("b")
    assert set(describe()) == {"0/a.csv", "0/b.csv"}
    assert hashed == [*["a.csv"] * 3, "b.csv"]

"""Students side by side on a made log: every variant is another config, an ensemble teaches, what is told adds up."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from two_tastes import TINY, events, items, write_tables

from pipelines.experiments.distillation import (
    CONTROL,
    ENSEMBLE,
    STUDENT,
    VARIANTS,
    config_of,
    main,
    markdown,
    parsed,
)
from pipelines.publish import AGREEMENT
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from recsys.artifacts.card import _distillation
from recsys.errors import UserError

SHOTS = "evaluate.shots=[0, 1, 3, 5]"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three variants with two seeds on 120 users of two tastes."""
    home = tmp_path_factory.mktemp("students")
    write_tables(home / "log", events(0, 120, range(15), day=0, seed=1), items(range(15)))
    main(arguments(home))
    return home


def arguments(home: Path) -> list[str]:
    split = (
        "prepare.split.test_from=2024-01-14T00:00:00Z",
    )  # a split by users would be another for every seed
    overrides = [part for each in (*TINY, SHOTS, *split) for part in ("--set", each)]
    places = ["--data", str(home / "log"), "--runs", str(home / "runs"), "--out", str(home / "out.json")]
    wanted = ["--seeds", "1,2", "--variants", f"{STUDENT},{CONTROL},{ENSEMBLE}"]
    return ["--log", "online-retail", *places, *wanted, *overrides]


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != STUDENT])
def test_every_variant_is_a_config_that_differs_in_how_it_is_taught(variant: str, tmp_path: Path) -> None:
    asked = parsed(["--log", "online-retail", "--out", "x", "--runs", str(tmp_path)])
    one, other = config_of(asked, STUDENT, 7), config_of(asked, variant, 7)
    assert one.distill != other.distill
    assert one.model_dump(exclude={"distill"}) == other.model_dump(exclude={"distill"})


def test_what_is_told_of_each_student_adds_up(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((home / "out.json").read_text())
    for variant, by_seed in report["variants"].items():
        assert set(by_seed) == {"1", "2"}
        for one in by_seed.values():
            users = len(one["users"])
            assert users > 5
            assert all(len(row) == users for name in ("teacher", "student") for row in one[name])
            assert 0.0 <= min(one["overlap"]) <= max(one["overlap"]) <= 1.0
            assert one["teacher_parameters"] % (2 if variant == ENSEMBLE else 1) == 0
            assert one["student_ms"] < one["teacher_ms"]
    student, ensemble = (report["variants"][name]["1"] for name in (STUDENT, ENSEMBLE))
    assert ensemble["teacher_parameters"] == 2 * student["teacher_parameters"]
    table = markdown(report)
    assert table.count("\n") == 4
    assert "| no teacher | 1 2 |" in table
    before = (home / "out.json").read_bytes()
    main(arguments(home))  # nothing is missing, so nothing is trained again
    assert (home / "out.json").read_bytes() == before
    assert table in capsys.readouterr().out


def test_the_step_says_how_alike_both_rank_and_the_card_shows_it(home: Path) -> None:
    told = json.loads((home / "runs" / "distillation-online-retail-1" / "distill" / AGREEMENT).read_text())
    assert set(told["shots"]) == {"0", "1", "3", "5"}
    section = _distillation(told)
    assert f"{told['student_parameters']:,} parameters" in section
    assert f"| {told['shots']['5']['overlap']:.4f} |" in section
    assert "Nobody was there" in _distillation({**told, "shots": {}})


def test_a_teacher_of_another_log_is_refused(home: Path) -> None:
    asked = parsed(arguments(home))
    config = config_of(asked, STUDENT, 1)
    other = home / "other"
    write_tables(other / "log", events(0, 40, range(12), day=0, seed=1), items(range(12)))
    elsewhere = config.model_copy(update={"name": "elsewhere"})
    log = elsewhere.prepare.log.model_copy(update={"path": other / "log"})
    elsewhere = elsewhere.model_copy(update={"prepare": elsewhere.prepare.model_copy(update={"log": log})})
    run_steps(elsewhere, all_steps(), ("prepare",), Console(quiet=True))
    folder = home / "runs" / "elsewhere"
    (folder / "metatrain").mkdir()
    for name in ("teacher.json", "teacher.safetensors", "head.safetensors"):
        source = home / "runs" / "distillation-online-retail-1" / "metatrain" / name
        (folder / "metatrain" / name).write_bytes(source.read_bytes())

    taught = config.model_copy(update={"distill": config.distill.model_copy(update={"ensemble": (folder,)})})
    with pytest.raises(UserError, match="other items or another split"):
        run_steps(taught, all_steps(), ("distill",), Console(quiet=True))

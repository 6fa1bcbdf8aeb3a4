"""The choice of an encoder: what is there is not trained again, gaps are those of a seed."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.experiments import encoders
from pipelines.runner import Outcome
from recsys.config import RunConfig
from recsys.errors import UserError

QUALITY = {"recurrent": {"7": 0.25, "8": 0.35}, "attention": {"7": 0.26, "8": 0.33}}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which trainings were asked for; each step validates .01 better than the one before it."""
    asked: list[str] = []

    def run_steps(config: RunConfig, _: object, wanted: tuple[str, ...], console: Console) -> list[Outcome]:
        asked.append(config.name)
        start = QUALITY[config.model.encoder][str(config.seed)]
        return [
            Outcome(step, Path(), False, 10.0, {"validation_ndcg": start + place / 100})
            for place, step in enumerate(encoders.STEPS)
            if step in (*wanted, "pretrain")
        ]

    monkeypatch.setattr(encoders, "run_steps", run_steps)
    return asked


def asked_for(folder: Path, *more: str) -> list[str]:
    return ["--log", "online-retail", "--out", str(folder / "out.json"), "--runs", str(folder), *more]


def test_both_encoders_meet_the_same_seeds_and_gaps_are_paired(
    trained: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoders.main(asked_for(tmp_path, "--seeds", "7,8"))
    table = capsys.readouterr().out
    assert "| recurrent | 7, 8 | 0.3000 | 0.3100 | 0.3200 | 10 |" in table
    assert (
        "| attention − recurrent | 7, 8 | +0.0100, -0.0200 | +0.0100, -0.0200 | +0.0100, -0.0200 | |" in table
    )
    assert len(trained) == 4


def test_a_stopped_comparison_goes_on_with_what_is_missing(trained: list[str], tmp_path: Path) -> None:
    encoders.main(asked_for(tmp_path, "--seeds", "7", "--steps", "pretrain"))
    assert json.loads((tmp_path / "out.json").read_text())["encoders"]["attention"]["7"].keys() == {
        "pretrain",
        "seconds",
    }
    encoders.main(asked_for(tmp_path, "--seeds", "7,8", "--steps", "pretrain"))
    assert trained == [f"encoders-online-retail-{seed}-{e}" for seed in (7, 8) for e in encoders.ENCODERS]
    encoders.main(asked_for(tmp_path, "--seeds", "7"))
    assert len(trained) == 6


def test_a_file_of_another_question_is_left_alone(trained: list[str], tmp_path: Path) -> None:
    encoders.main(asked_for(tmp_path, "--seeds", "7"))
    before = (tmp_path / "out.json").read_bytes()
    with pytest.raises(UserError, match="give another --out"):
        encoders.main(asked_for(tmp_path, "--seeds", "7", "--set", "model.hidden=8"))
    assert (tmp_path / "out.json").read_bytes() == before


def test_an_unknown_step_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        encoders.main(["--log", "online-retail", "--out", "x", "--steps", "serve"])
    assert "choose among pretrain, metatrain, distill" in capsys.readouterr().err

"""Publishing: what a version holds, that equal content is one version, and when the step is run again."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines import publish
from pipelines.configuration import resolve_config
from pipelines.steps import StepContext
from recsys.artifacts.registry import Registry
from recsys.config import PublishConfig, RunConfig
from recsys.logs.prepared import ARRAYS, PreparedInfo, write_info


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    registry = PublishConfig(registry=tmp_path / "registry")
    return resolve_config("smoke").model_copy(update={"publish": registry, "output": tmp_path / "runs"})


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    folders = {name: tmp_path / name for name in ("prepare", "index", "evaluate")}
    (folders["prepare"] / "arrays").mkdir(parents=True)
    for name in ARRAYS:
        np.save(folders["prepare"] / "arrays" / f"{name}.npy", np.zeros(1))
    facts = {
        name: 0 if kind == "int" or kind is int else {} for name, kind in PreparedInfo.__annotations__.items()
    }
    texts = {
        "source": "a | log",
        "first_event": "2010-12-01",
        "last_event": "2011-12-09",
        "test_from": "2011-09-01",
    }
    write_info(folders["prepare"], PreparedInfo(**{**facts, **texts, "events": 1234, "event_types": ()}))  # type: ignore[arg-type]
    (folders["index"] / "bundle").mkdir(parents=True)
    (folders["index"] / "bundle" / "student.safetensors").write_bytes(b"weights")
    folders["evaluate"].mkdir()
    ndcg = {"mean": 0.25, "low": 0.2, "high": 0.3}
    evaluation = {"policies": {"adapted": {"10": {"ndcg": ndcg}, "5": {}}}, "users": 99, "split": "time"}
    (folders["evaluate"] / "evaluation.json").write_text(json.dumps(evaluation))
    return folders


def publish_to(out: Path, config: RunConfig, inputs: dict[str, Path]) -> str:
    out.mkdir()
    return str(publish.run(StepContext(config=config, out=out, inputs=inputs))["version"])


def test_a_version_holds_bundle_evaluation_lineage_settings_and_card(
    config: RunConfig, inputs: dict[str, Path], tmp_path: Path
) -> None:
    version = publish_to(tmp_path / "out", config, inputs)
    registry = Registry(config.publish.registry)
    folder = registry.resolve("metaq", "champion")
    assert folder.name == version
    registry.verify(folder)
    assert {path.name for path in folder.iterdir()} == {
        "student.safetensors",
        "evaluation.json",
        "lineage.json",
        "run.json",
        "card.md",
        "checksums.json",
    }
    card = (folder / "card.md").read_text()
    assert "| adapted | – | 0.2500 [0.2000, 0.3000] |" in card
    assert "| source | a \\| log |" in card
    assert "| events | 1,234 |" in card
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["card.md", "published.json"]


def test_the_same_model_is_the_same_version_wherever_it_is_made(
    config: RunConfig, inputs: dict[str, Path], tmp_path: Path
) -> None:
    first = publish_to(tmp_path / "out", config, inputs)
    elsewhere = config.model_copy(update={"output": tmp_path / "elsewhere", "threads": 1})
    assert publish_to(tmp_path / "out2", elsewhere, inputs) == first
    (inputs["index"] / "bundle" / "student.safetensors").write_bytes(b"other weights")
    assert publish_to(tmp_path / "out3", config, inputs) != first


def test_the_step_holds_while_the_registry_has_the_version(
    config: RunConfig, inputs: dict[str, Path], tmp_path: Path
) -> None:
    version = publish_to(tmp_path / "out", config, inputs)
    assert publish.still_holds(config, tmp_path / "out")
    folder = config.publish.registry / "metaq" / "versions" / version
    folder.rename(tmp_path / "gone")
    assert not publish.still_holds(config, tmp_path / "out")
    assert not publish.still_holds(config, tmp_path / "never")

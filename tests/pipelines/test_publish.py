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
from recsys.errors import UserError
from recsys.logs.prepared import ARRAYS, PreparedInfo, write_info


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    registry = PublishConfig(registry=tmp_path / "registry")
    return resolve_config("smoke").model_copy(update={"publish": registry, "output": tmp_path / "runs"})


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    folders = {name: tmp_path / name for name in ("prepare", "pretrain", "index", "evaluate")}
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
    folders["pretrain"].mkdir()
    write_health(folders["pretrain"])
    folders["evaluate"].mkdir()
    ndcg = {"mean": 0.25, "low": 0.2, "high": 0.3}
    evaluation = {"policies": {"adapted": {"10": {"ndcg": ndcg}, "5": {}}}, "users": 99, "split": "time"}
    (folders["evaluate"] / "evaluation.json").write_text(json.dumps(evaluation))
    return folders


def write_health(folder: Path, **figures: float | None) -> None:
    sound = {"mean_return": 2.0, "over_estimation": 1.2, "unsupported_argmax": 0.01, "calibration_error": 0.4}
    (folder / "health.json").write_text(json.dumps(sound | figures))


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


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (
            {"over_estimation": 3.2},
            r"the over-estimation of the Q-function is 3.2, must be at most publish.max_over_estimation \(2\); "
            "retrain with a lower pretrain.discount .*or raise the bound with --set publish.max_over_estimation=",
        ),
        ({"unsupported_argmax": 0.4}, r"publish.max_unsupported_argmax \(0.1\); .*conservative_weight"),
        (
            {"calibration_error": 1.5},
            r"is 0.75, must be at most publish.max_calibration_error \(0.5\); .*epochs",
        ),
        (
            {"promised": 2.8, "fitted_value": 2.0, "over_promise": 1.4},
            r"is 1.4, must be at most publish.max_over_promise \(1.25\); .*learning_rate",
        ),
        (
            {"promised": 0.1, "fitted_value": -0.1},
            "the over-promise of the Q-function is inf, must be at most",
        ),
    ],
)
def test_an_unsound_q_function_is_refused_and_the_champion_stays(
    figures: dict[str, float], said: str, config: RunConfig, inputs: dict[str, Path], tmp_path: Path
) -> None:
    champion = publish_to(tmp_path / "out", config, inputs)
    (inputs["index"] / "bundle" / "student.safetensors").write_bytes(b"other weights")
    write_health(inputs["pretrain"], **figures)
    with pytest.raises(UserError, match=said) as refused:
        publish_to(tmp_path / "out2", config, inputs)
    assert "\n" not in str(refused.value)
    registry = Registry(config.publish.registry)
    assert registry.resolve("metaq", "champion").name == champion
    assert len(list((config.publish.registry / "metaq" / "versions").iterdir())) == 1
    assert not list((tmp_path / "out2").iterdir())


def test_a_raised_bound_lets_the_figure_through_and_the_card_shows_both(
    config: RunConfig, inputs: dict[str, Path], tmp_path: Path
) -> None:
    write_health(inputs["pretrain"], over_estimation=3.2, promised=2.2, fitted_value=2.0, over_promise=1.1)
    raised = config.publish.model_copy(update={"max_over_estimation": 3.2})
    publish_to(tmp_path / "out", config.model_copy(update={"publish": raised}), inputs)
    card = (tmp_path / "out" / "card.md").read_text()
    assert "| over-estimation | 3.200 | 3.2 |" in card
    assert "| calibration error | 0.200 | 0.5 |" in card  # of the mean return
    assert "| over-promise | 1.100 | 1.25 |" in card


@pytest.mark.parametrize("mean_return", [None, 0.0, -1.0])
def test_what_no_history_tells_is_unknown_and_said_to_be(
    mean_return: float | None, config: RunConfig, inputs: dict[str, Path], tmp_path: Path
) -> None:
    write_health(inputs["pretrain"], mean_return=mean_return, over_estimation=None)
    (tmp_path / "out").mkdir()
    said: list[str] = []
    publish.run(StepContext(config=config, out=tmp_path / "out", inputs=inputs, log=said.append))
    card = (tmp_path / "out" / "card.md").read_text()
    assert "| over-estimation | unknown | 2 |" in card
    assert "| calibration error | unknown | 0.5 |" in card
    assert "| unsupported argmax | 0.010 | 0.1 |" in card
    assert [line for line in said if "is unknown" in line] == said[:2]
    assert "over-promise" not in card  # nobody asked


def test_an_alias_taken_over_from_another_run_is_said_with_the_way_back(
    config: RunConfig, inputs: dict[str, Path], tmp_path: Path
) -> None:
    first = publish_to(tmp_path / "out", config, inputs)
    said: list[str] = []
    for number, name in enumerate(("smoke", "shop")):
        out = tmp_path / f"again{number}"
        out.mkdir()
        (inputs["index"] / "bundle" / "student.safetensors").write_bytes(name.encode())
        other = config.model_copy(update={"name": name})
        version = publish.run(StepContext(config=other, out=out, inputs=inputs, log=said.append))["version"]
    assert version != first
    [line] = [line for line in said if "made by" in line]
    assert "champion of metaq was v0002-" in line
    assert "made by the run smoke; `recsys rollback --name metaq --alias champion` takes it back" in line


def test_the_step_holds_while_the_registry_has_the_version(
    config: RunConfig, inputs: dict[str, Path], tmp_path: Path
) -> None:
    version = publish_to(tmp_path / "out", config, inputs)
    assert publish.still_holds(config, tmp_path / "out")
    folder = config.publish.registry / "metaq" / "versions" / version
    folder.rename(tmp_path / "gone")
    assert not publish.still_holds(config, tmp_path / "out")
    assert not publish.still_holds(config, tmp_path / "never")

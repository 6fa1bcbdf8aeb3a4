"""The health of Q is read from histories that pretraining does not learn from, whichever there are."""

import json
from pathlib import Path

import numpy as np
import pytest

import pipelines.pretrain
from pipelines.pretrain import return_range
from pipelines.steps import StepContext
from recsys.config import MemoryConfig, ModelConfig, PretrainConfig, RunConfig
from recsys.errors import UserError
from recsys.logs.prepared import Role
from tests.memory_log import Event, Told, memory_log, random_told, taken

TRAINED, VALIDATION = 12, 3


def toy(folder: Path, pretrain: dict[str, object]) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "toy",
            "prepare": {"log": {"path": folder}},
            "model": ModelConfig(item_features=4, hidden=4),
            "memory": MemoryConfig(features=0),
            "pretrain": PretrainConfig.model_validate(pretrain),
        }
    )


@pytest.mark.parametrize(("new_task_share", "validation"), [(0.0, True), (0.25, True), (0.0, False)])
def test_health_comes_from_new_tasks_or_else_from_validation_users(
    new_task_share: float, validation: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    cold = [taken(*generator.permutation(20)[:14], role=Role.COLD_VALIDATION) for _ in range(VALIDATION)]
    log = memory_log([random_told(generator, 20, 20) for _ in range(TRAINED)] + cold * validation, items=20)
    raw = {"epochs": 2, "warmup_epochs": 1, "negatives": 8, "new_task_share": new_task_share}
    config = toy(tmp_path, raw)
    watched, read = [], pipelines.pretrain.held_out_health
    monkeypatch.setattr(pipelines.pretrain, "open_prepared", lambda _: log)

    def noted(learner, log, histories, config):  # type: ignore[no-untyped-def]
        watched.append(histories.tolist())
        return read(learner, log, histories, config)

    monkeypatch.setattr(pipelines.pretrain, "held_out_health", noted)
    (tmp_path / "out").mkdir()
    pipelines.pretrain.run(StepContext(config, tmp_path / "out", {"prepare": tmp_path}))
    health = json.loads((tmp_path / "out" / "health.json").read_text())
    if new_task_share:
        assert len(watched[0]) == round(new_task_share * TRAINED)
        assert max(watched[0]) < TRAINED
    else:
        assert watched[0] == list(range(TRAINED, TRAINED + VALIDATION)) * validation
    assert (health["over_estimation"] is not None) == bool(watched[0])


def test_a_discount_per_time_bounds_no_return() -> None:
    """Rewards of one moment add up undiscounted, so that 20 of them exceed r / (1 − γ) tenfold."""
    log = memory_log([Told([Event(place % 5, 60 * place) for place in range(20)])], items=5)
    per_event = PretrainConfig(discount=0.5)
    assert return_range(log, np.array([0]), per_event) == (0.0, 2.0)
    assert return_range(log, np.array([0]), per_event.model_copy(update={"discount_hours": 24.0})) is None


@pytest.mark.parametrize("replay", ["uniform", "prioritized"])
def test_a_log_that_teaches_nothing_is_refused_in_one_line(
    replay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = memory_log([taken(3) for _ in range(10)] + [taken(0, 1, 2, role=Role.COLD_VALIDATION)], items=5)
    monkeypatch.setattr(pipelines.pretrain, "open_prepared", lambda _: log)
    raw = {"epochs": 2, "warmup_epochs": 1, "negatives": 8, "replay": replay}
    with pytest.raises(UserError, match=r"there are 0 windows to learn from.*histories need 2 events"):
        pipelines.pretrain.run(StepContext(toy(tmp_path, raw), tmp_path, {"prepare": tmp_path}))

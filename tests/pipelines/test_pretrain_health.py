"""The health of Q is read from histories that pretraining does not learn from, whichever there are."""

import json
from pathlib import Path

import numpy as np
import pytest

import pipelines.pretrain
from pipelines.steps import StepContext
from recsys.config import MemoryConfig, ModelConfig, PretrainConfig, RunConfig
from recsys.logs.prepared import Role
from tests.memory_log import memory_log, random_told, taken

TRAINED, VALIDATION = 12, 3


@pytest.mark.parametrize(("new_task_share", "validation"), [(0.0, True), (0.25, True), (0.0, False)])
def test_health_comes_from_new_tasks_or_else_from_validation_users(
    new_task_share: float, validation: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    cold = [taken(*generator.permutation(20)[:14], role=Role.COLD_VALIDATION) for _ in range(VALIDATION)]
    log = memory_log([random_told(generator, 20, 20) for _ in range(TRAINED)] + cold * validation, items=20)
    raw = {"epochs": 2, "warmup_epochs": 1, "negatives": 8, "new_task_share": new_task_share}
    config = RunConfig.model_validate(
        {
            "name": "toy",
            "prepare": {"log": {"path": tmp_path}},
            "model": ModelConfig(item_features=4, hidden=4),
            "memory": MemoryConfig(features=0),
            "pretrain": PretrainConfig.model_validate(raw),
        }
    )
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

"""The step learns answers where the config asks for them and the log holds some."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pipelines.pretrain
from pipelines.steps import StepContext
from recsys.config import MemoryConfig, ModelConfig, PretrainConfig, RunConfig
from recsys.errors import UserError
from recsys.learning.checkpoint import load_shape
from recsys.logs.prepared import PreparedLog
from tests.memory_log import Event, Told, memory_log

CLICK, IMPRESSION = 1, 2


def a_log() -> PreparedLog:
    """Items below 5 are clicked, the others are met with silence."""
    generator = np.random.default_rng(0)
    told = []
    for _ in range(40):
        item = generator.integers(10, size=12)
        told.append(
            Told(
                [
                    Event(int(one), 60 * place, 0, float(one < 5), CLICK if one < 5 else IMPRESSION)
                    for place, one in enumerate(item)
                ]
            )
        )
    return memory_log(told, items=10)


def context(folder: Path, **changes: object) -> StepContext:
    raw = {"epochs": 12, "warmup_epochs": 1, "batch_size": 8, "learning_rate": 0.02, "negatives": 8}
    config = RunConfig.model_validate(
        {
            "name": "toy",
            "prepare": {"log": {"path": folder}},
            "model": ModelConfig(item_features=4, hidden=8, dropout=0.0, id_dropout=0.0),
            "memory": MemoryConfig(features=0),
            "pretrain": PretrainConfig.model_validate({**raw, **changes}),
        }
    )
    (folder / "out").mkdir()
    return StepContext(config, folder / "out", {"prepare": folder})


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_head_is_there_and_learns_if_it_is_asked_for(
    weight: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.pretrain, "open_prepared", lambda _: a_log())
    step = context(tmp_path, response_weight=weight)
    seen: list[float] = []
    monkeypatch.setattr(
        type(step.scalars),
        "add",
        lambda _, name, value, update: seen.append(value) if name == "pretrain/response" else None,
    )
    pipelines.pretrain.run(step)
    assert load_shape(tmp_path / "out" / "teacher.json").responses == (weight > 0)
    if weight:
        assert seen[-1] < 0.2  # log 2 for who does not look at the item
    else:
        assert set(seen) == {0.0}


def test_a_log_of_one_event_type_has_no_answers_to_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = a_log()
    alone = replace(
        log, info=replace(log.info, event_types=("purchase",)), event_type=np.zeros_like(log.event_type)
    )
    monkeypatch.setattr(pipelines.pretrain, "open_prepared", lambda _: alone)
    with pytest.raises(
        UserError, match=r"response_weight is 0\.1, must be 0 where all events are of one type \(purchase\)"
    ):
        pipelines.pretrain.run(context(tmp_path, response_weight=0.1))
    assert not list((tmp_path / "out").iterdir())

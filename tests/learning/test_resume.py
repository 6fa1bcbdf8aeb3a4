"""A training that is killed and started again ends with the same bits as one that was left alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import pipelines.pretrain
from pipelines.progress import SilentProgress
from pipelines.steps import StepContext
from recsys.config import ModelConfig, PretrainConfig, RunConfig
from recsys.errors import UserError
from recsys.learning.optimizer import BestEpoch, optimizer_for, step
from recsys.learning.resume import TrainingState
from recsys.logs.prepared import PreparedLog, Role
from tests.memory_log import memory_log, random_told, taken

EPOCHS, KILLED_IN = 4, 3


class Killed(Exception):
    """Stands for a process that is gone."""


class KilledInTheMiddle(SilentProgress):
    """Ends the process within an epoch."""

    def start(self, total: int | None, unit: str, description: str) -> None:
        self.here = description == f"epoch {KILLED_IN}"

    def advance(self, n: int = 1, **metrics: float) -> None:
        if self.here:
            raise Killed


def small_log() -> PreparedLog:
    generator = np.random.default_rng(0)
    cold = [taken(*generator.permutation(30)[:14], role=Role.COLD_VALIDATION) for _ in range(4)]
    return memory_log([random_told(generator, 24, 30) for _ in range(24)] + cold, items=30)


def toy(tmp_path: Path, **pretrain: object) -> RunConfig:
    raw = {
        "name": "toy",
        "prepare": {"log": {"path": tmp_path}},
        "model": ModelConfig(item_features=8, hidden=8),
        "pretrain": PretrainConfig.model_validate(
            {"epochs": EPOCHS, "warmup_epochs": 1, "batch_size": 8, "negatives": 16, **pretrain}
        ),
    }
    return RunConfig.model_validate(raw)


def weights_of(context: StepContext) -> bytes:
    torch.manual_seed(0)  # as the runner does at the start of a step
    context.out.mkdir()
    pipelines.pretrain.run(context)
    return (context.out / "teacher.safetensors").read_bytes() + (context.out / "health.json").read_bytes()


@pytest.mark.parametrize(
    "pretrain",
    [
        {},
        {"quantiles": 4, "target_tau": 1.0, "target_interval": 3, "patience": 1},
        {"replay": "prioritized", "half_life_days": 30.0},
        {"start": "content", "keep": "target_network", "target_tau": 0.1},
    ],
)
def test_a_killed_pretraining_goes_on_to_the_same_weights(
    pretrain: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = small_log()
    monkeypatch.setattr(pipelines.pretrain, "open_prepared", lambda _: log)
    config = toy(tmp_path, **pretrain)

    def context(name: str, said: Callable[[str], None] = print, **changes: object) -> StepContext:
        return StepContext(config, tmp_path / name, {"prepare": tmp_path}, log=said, **changes)  # type: ignore[arg-type]

    straight = weights_of(context("straight"))
    unfinished = tmp_path / "unfinished"
    with pytest.raises(Killed):
        weights_of(context("killed", unfinished=unfinished, progress=KilledInTheMiddle()))
    torch.rand(7)  # a new process stands elsewhere in the stream of chance
    said: list[str] = []
    resumed = weights_of(context("resumed", said.append, unfinished=unfinished))
    assert said[0] == f"goes on after epoch {KILLED_IN - 1}, where an earlier run was stopped"
    assert len([text for text in said if text.startswith("epoch")]) <= EPOCHS - KILLED_IN + 1
    assert resumed == straight


def small_training() -> TrainingState:
    network = torch.nn.Linear(3, 2)
    generator = torch.Generator().manual_seed(0)
    optimizer = optimizer_for(network, 0.1, 0.1)
    return TrainingState(
        {"network": network}, optimizer, BestEpoch(2), {"own": generator}, {"rows": np.random.default_rng(0)}
    )


def test_all_that_decides_what_comes_next_comes_back(tmp_path: Path) -> None:
    def go_on(training: TrainingState) -> list[float]:
        network = training.modules["network"]
        for _ in range(3):
            noise = torch.rand(3, generator=training.torch_generators["own"]) + torch.rand(3)
            rows = training.numpy_generators["rows"].random(3)
            step(training.optimizer, network(noise + torch.from_numpy(rows).float()).sum(), 0.5)
        training.best.offer(float("nan"), [network], 5)
        return [*torch.cat([p.flatten() for p in network.parameters()]).tolist(), training.best.epoch]

    first = small_training()
    go_on(first)
    replay = {"weights": np.arange(4.0), "draws": np.array(3)}
    first.save(tmp_path / "file", {"epoch": 2}, replay)
    expected = go_on(first)
    again = small_training()
    counters, back = again.load(tmp_path / "file")
    assert counters == {"epoch": 2}
    assert again.best.epoch == 5
    assert {name: value.tolist() for name, value in back.items()} == {"weights": [0, 1, 2, 3], "draws": 3}
    assert go_on(again) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_of_another_training_is_refused_with_the_remedy(tmp_path: Path) -> None:
    small_training().save(tmp_path / "file", {})
    other = small_training()
    other.modules["network"] = torch.nn.Linear(5, 2)
    with pytest.raises(UserError, match=r"does not fit this training .*remove it to start over"):
        other.load(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"torn")
    with pytest.raises(UserError, match="remove it to start over"):
        small_training().load(tmp_path / "file")

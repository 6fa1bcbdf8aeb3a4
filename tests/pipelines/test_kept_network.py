"""What a training starts from and what it keeps: the epoch that ranks best, or the target network at the end."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import pipelines.metatrain
import pipelines.pretrain
from pipelines.steps import StepContext
from pipelines.teacher import teacher_for
from recsys.config import MemoryConfig, ModelConfig, PretrainConfig, RunConfig
from recsys.learning.checkpoint import load_head, load_teacher
from recsys.learning.factors import ItemStatistics
from recsys.learning.optimizer import BestEpoch
from recsys.logs.prepared import PreparedLog, Role
from tests.memory_log import memory_log, random_told, taken

ITEMS = 30


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> PreparedLog:
    generator = np.random.default_rng(0)
    cold = [taken(*generator.permutation(ITEMS)[:14], role=Role.COLD_VALIDATION) for _ in range(4)]
    made = memory_log([random_told(generator, 24, ITEMS) for _ in range(24)] + cold, items=ITEMS)
    for step in (pipelines.pretrain, pipelines.metatrain):
        monkeypatch.setattr(step, "open_prepared", lambda _: made)
    return made


def config(folder: Path, **pretrain: object) -> RunConfig:
    raw = {"epochs": 4, "warmup_epochs": 1, "batch_size": 8, "negatives": 16, "new_task_share": 0.3}
    return RunConfig.model_validate(
        {
            "name": "toy",
            "prepare": {"log": {"path": folder}},
            "model": ModelConfig(item_features=8, hidden=8),
            "memory": MemoryConfig(features=0),
            "pretrain": PretrainConfig.model_validate({**raw, **pretrain}),
            "metatrain": {"epochs": 0, "initial_scale": 0.0, "max_support": 5},
            "evaluate": {"shots": [0, 1, 5]},
        }
    )


def weights(of: RunConfig, folder: Path, name: str) -> dict[str, np.ndarray]:
    torch.manual_seed(0)  # as the runner does at the start of a step
    (folder / name).mkdir()
    pipelines.pretrain.run(StepContext(of, folder / name, {"prepare": folder}))
    return load_file(folder / name / "teacher.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_a_target_that_is_copied_at_every_update_is_the_network_of_the_last_one(
    log: PreparedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = weights(config(tmp_path, keep="target_network", target_tau=1.0), tmp_path, "copied")
    slow = weights(config(tmp_path, keep="target_network", target_tau=0.05), tmp_path, "slow")
    rising = count()
    monkeypatch.setattr(pipelines.pretrain, "validation_quality", lambda *_: float(next(rising)))
    last = weights(config(tmp_path, target_tau=1.0), tmp_path, "last")
    slow_last = weights(config(tmp_path, target_tau=0.05), tmp_path, "slow-last")
    assert same(copied, last)
    assert not same(slow, slow_last)


def test_an_epoch_that_ranks_worse_is_kept_if_the_target_is_asked_for(
    log: PreparedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = weights(config(tmp_path, keep="target_network"), tmp_path, "as it ranks")
    falling = count()
    monkeypatch.setattr(pipelines.pretrain, "validation_quality", lambda *_: -float(next(falling)))
    kept = weights(config(tmp_path, keep="target_network", patience=1), tmp_path, "as it falls")
    best = weights(config(tmp_path, patience=1), tmp_path, "best")
    assert same(wanted, kept)
    assert not same(wanted, best)


def test_the_latest_weights_are_kept_for_as_long_as_asked() -> None:
    network = torch.nn.Linear(2, 1)
    kept = BestEpoch(patience=1, latest=True)
    for epoch, quality in enumerate((0.3, 0.2, 0.1)):
        with torch.no_grad():
            network.weight.fill_(float(epoch))
        assert not kept.offer(quality, [network], epoch)
    assert (kept.quality, kept.epoch) == (0.1, 2)
    kept.restore([network])
    assert network.weight.tolist() == [[2.0, 2.0]]


def test_items_that_start_from_content_are_what_they_are_and_nothing_else(
    log: PreparedLog, tmp_path: Path
) -> None:
    popularity = np.arange(ITEMS, dtype=np.float32)
    statistics = ItemStatistics(np.ones((ITEMS, 4), np.float32), popularity)
    network = teacher_for(log, config(tmp_path, start="content"), statistics, popularity)
    assert not network.tower.bias.weight.any()
    assert network.tower.known.tolist() == [0.0] + [1.0] * (ITEMS - 1)
    with torch.no_grad():
        vectors = network.tower(torch.arange(ITEMS))
        told = network.tower.content_map(network.tower.content)
    assert float((vectors - told).norm()) < 0.2 * float(told.norm())
    usual = teacher_for(log, config(tmp_path), statistics, popularity)
    assert usual.tower.bias.weight[:, 0].tolist() == pytest.approx(np.log1p(popularity).tolist())


def test_without_an_epoch_the_teacher_goes_on_as_it_is_and_the_head_is_silent(
    log: PreparedLog, tmp_path: Path
) -> None:
    settings = config(tmp_path)
    before = weights(settings, tmp_path, "pretrain")
    said: list[str] = []
    tell: Callable[[str], None] = said.append
    out = tmp_path / "metatrain"
    out.mkdir()
    inputs = {"prepare": tmp_path, "pretrain": tmp_path / "pretrain"}
    pipelines.metatrain.run(StepContext(settings, out, inputs, log=tell))
    assert same(before, load_file(out / "teacher.safetensors"))
    assert load_teacher(out, settings.pretrain.temperature).shape.items == ITEMS
    prior = load_head(out / "head.safetensors").prior
    assert not prior.gain.any()
    assert not prior.offset.any()
    figures = [part.split() for part in said[-1].partition("validation ")[2].split(", ")]
    assert len(figures) == len(settings.evaluate.shots)
    assert all(f"({adapted})" == alone for _, adapted, alone in figures)

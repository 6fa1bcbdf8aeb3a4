"""Training where tensors do not lie on the CPU learns what training on the CPU learns."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pipelines.pretrain
from pipelines.steps import StepContext
from recsys.config import RunConfig
from recsys.learning import log_training, optimizer
from recsys.learning.remembered import RememberedTarget
from recsys.learning.target_network import frozen_copy
from recsys.logs.prepared import PreparedLog, Role
from recsys.models.vector_network import VectorNetwork, VectorShape
from tests.memory_log import memory_log, random_told, taken
from tests.second_device import second_device


class Stopped(Exception):
    """Stands for a process that is gone."""


@dataclass
class Seen:
    """What updates were made of; after some of them, the end."""

    stop_after: int | None = None
    losses: list[float] = field(default_factory=list)
    gradients: list[list[torch.Tensor]] = field(default_factory=list)

    def step(self, chosen: torch.optim.Optimizer, loss: torch.Tensor, *settings: float) -> None:
        """Take the real step and note what came before it."""
        if len(self.losses) == self.stop_after:
            raise Stopped
        optimizer.step(chosen, loss, *settings)
        self.losses.append(float(loss.detach()))
        self.gradients.append(
            [
                parameter.grad.detach().cpu().clone()
                for group in chosen.param_groups
                for parameter in group["params"]
                if parameter.grad is not None
            ]
        )


def a_log() -> PreparedLog:
    generator = np.random.default_rng(0)
    cold = [taken(*generator.permutation(20)[:14], role=Role.COLD_VALIDATION) for _ in range(3)]
    return memory_log([random_told(generator, 12, 20) for _ in range(8)] + cold, items=20)


def pretrained(
    folder: Path,
    changes: dict[str, dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    unfinished: Path | None = None,
    stop_after: int | None = None,
) -> Seen:
    """Run the step in a folder and return what its updates were made of."""
    config = RunConfig.model_validate(
        {
            "name": "toy",
            "prepare": {"log": {"path": folder}},
            "model": {"item_features": 4, "hidden": 8, **changes.get("model", {})},
            "memory": {"features": 0, **changes.get("memory", {})},
            "pretrain": {
                "epochs": 2,
                "warmup_epochs": 1,
                "batch_size": 2,
                "negatives": 8,
                **changes.get("pretrain", {}),
            },
        }
    )
    folder.mkdir()
    seen = Seen(stop_after)
    torch.manual_seed(0)  # as the runner does at the start of a step
    with monkeypatch.context() as patch:
        patch.setattr(pipelines.pretrain, "open_prepared", lambda _: a_log())
        patch.setattr(log_training, "step", seen.step)
        pipelines.pretrain.run(StepContext(config, folder, {"prepare": folder}, unfinished=unfinished))
    return seen


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": {"features": 8}},
        {"pretrain": {"target": "sarsa", "quantiles": 4}, "model": {"encoder": "attention"}},
        {"pretrain": {"replay": "prioritized", "double": False, "target": "max", "hindsight": 0.0}},
    ],
    ids=["with a memory", "attention and quantiles", "prioritized"],
)
def test_pretraining_elsewhere_learns_the_same(
    changes: dict[str, dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = pretrained(tmp_path / "here", changes, monkeypatch)
    with second_device() as device:
        monkeypatch.setattr(pipelines.pretrain, "training_device", lambda _: device)
        there = pretrained(tmp_path / "there", changes, monkeypatch)
    for one, other in zip(here.gradients[0], there.gradients[0], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-7)  # the order of sums differs
    np.testing.assert_allclose(
        there.losses, here.losses, rtol=1e-3
    )  # Adam makes much of it where slopes are nil
    assert len(set(here.losses)) == len(here.losses) > 2
    weights = load_file(tmp_path / "there" / "teacher.safetensors")
    assert all(bool(value.isfinite().all()) for value in weights.values() if value.is_floating_point())


def test_a_training_elsewhere_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.pretrain, "open_prepared", lambda _: a_log())
    with second_device() as device:
        monkeypatch.setattr(pipelines.pretrain, "training_device", lambda _: device)
        whole = pretrained(tmp_path / "whole", {}, monkeypatch)
        with pytest.raises(Stopped):
            pretrained(tmp_path / "part", {}, monkeypatch, unfinished=tmp_path / "kept", stop_after=3)
        rest = pretrained(tmp_path / "rest", {}, monkeypatch, unfinished=tmp_path / "kept")
    assert 0 < len(rest.losses) < len(whole.losses)
    assert rest.losses == whole.losses[-len(rest.losses) :]


def test_target_values_are_remembered_elsewhere() -> None:
    chance = torch.Generator().manual_seed(0)
    states = torch.randn(30, 5, generator=chance)
    torch.manual_seed(1)
    target = frozen_copy(VectorNetwork(VectorShape(5, 4, (8,))))
    expected = target.q_all(target(states))
    with second_device() as device:
        target.to(device)
        remembered = RememberedTarget(target, states.numpy())
        index = torch.arange(20)
        for asked in (index, index.to(device)):
            torch.testing.assert_close(remembered.q_all(asked).cpu(), expected[:20])
        remembered.forget(index[:3].to(device))
        torch.testing.assert_close(remembered.q_all(index).cpu(), expected[:20])


def test_what_a_device_refuses_is_refused() -> None:
    with second_device() as device:
        there, here = torch.ones(3, device=device), torch.ones(3)
        assert (there + here.to(device)).device == device
        assert (there.cpu() + here).tolist() == [2.0, 2.0, 2.0]
        assert there[torch.tensor([0, 1])].device == device
        refused = [
            lambda: there + here,
            lambda: here[torch.tensor([0], device=device)],
            lambda: there.index_select(0, torch.tensor([0])),
            lambda: there.index_put_((torch.tensor([0, 1]),), torch.zeros(2)),
            lambda: torch.rand(3, generator=torch.Generator(), device=device),
        ]
        for attempt in refused:
            with pytest.raises(RuntimeError):
                attempt()
        with pytest.raises(TypeError, match=r"\.cpu\(\)"):
            there.numpy()

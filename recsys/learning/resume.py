"""Training that resumes exactly: after every epoch, all that decides what comes next goes into one file.

Networks, optimizer, generators of numpy and torch (the global one too: dropout draws from it), the best epoch so far,
counters and, for a prioritized replay, its state. A safetensors file whose metadata is JSON, replaced as a whole: a
killed process leaves the last finished epoch or the one before it, and the rerun ends with the same bits.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from recsys.errors import UserError
from recsys.learning.optimizer import BestEpoch

FORMAT = 1
Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


@dataclass
class TrainingState:
    """The live objects of one training; `save` reads them, `load` writes them."""

    modules: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    best: BestEpoch
    torch_generators: dict[str, torch.Generator] = field(default_factory=dict)
    numpy_generators: dict[str, np.random.Generator] = field(default_factory=dict)

    def save(
        self, path: Path, counters: Mapping[str, int], replay: Mapping[str, Array] | None = None
    ) -> None:
        """Write everything; a reader finds the old file or the new one, never a part."""
        tensors: dict[str, torch.Tensor] = {"chance.global": torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors["chance.cuda"] = torch.cuda.get_rng_state()
        for name, module in self.modules.items():
            tensors.update({f"module.{name}.{key}": value for key, value in module.state_dict().items()})
        for place, weights in enumerate(self.best.weights):
            tensors.update({f"best.{place}.{key}": value for key, value in weights.items()})
        for name, generator in self.torch_generators.items():
            tensors[f"chance.torch.{name}"] = generator.get_state()
        for name, array in (replay or {}).items():
            tensors[f"replay.{name}"] = torch.from_numpy(np.array(array))
        optimizer = self.optimizer.state_dict()
        for parameter, state in optimizer["state"].items():
            tensors.update({f"optimizer.{parameter}.{key}": value for key, value in state.items()})
        plain = {
            "format": FORMAT,
            "counters": dict(counters),
            "rates": [group["lr"] for group in optimizer["param_groups"]],
            "numpy": {name: each.bit_generator.state for name, each in self.numpy_generators.items()},
            "best": {"quality": self.best.quality, "epoch": self.best.epoch, "kept": len(self.best.weights)},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".tmp-{path.name}")
        save_file(
            {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()},
            str(fresh),
            metadata={"state": json.dumps(plain)},
        )
        fresh.replace(path)

    def load(self, path: Path) -> tuple[dict[str, int], dict[str, Array]]:
        """Put everything back as it was; return (counters, state of the replay).

        Raises UserError if the file is damaged or of another training.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                plain = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return self._restored(plain, tensors)
        except Exception as error:
            raise UserError(
                f"{path} does not fit this training ({type(error).__name__}: {str(error).splitlines()[0]}); "
                "remove it to start over"
            ) from None

    def _restored(
        self, plain: dict[str, Any], tensors: dict[str, torch.Tensor]
    ) -> tuple[dict[str, int], dict[str, Array]]:
        if plain["format"] != FORMAT:
            raise ValueError(f"format {plain['format']}, not {FORMAT}")
        for name, module in self.modules.items():
            module.load_state_dict(_below(tensors, f"module.{name}."))
        self._restore_optimizer(_below(tensors, "optimizer."), plain["rates"])
        best = plain["best"]
        self.best.quality, self.best.epoch = float(best["quality"]), int(best["epoch"])
        self.best.weights = [_below(tensors, f"best.{place}.") for place in range(best["kept"])]
        for name, generator in self.numpy_generators.items():
            generator.bit_generator.state = plain["numpy"][name]
        for name, chance in self.torch_generators.items():
            chance.set_state(tensors[f"chance.torch.{name}"])
        torch.set_rng_state(tensors["chance.global"])
        if "chance.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["chance.cuda"])
        return plain["counters"], {name: value.numpy() for name, value in _below(tensors, "replay.").items()}

    def _restore_optimizer(self, tensors: dict[str, torch.Tensor], rates: list[float]) -> None:
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            parameter, _, key = name.partition(".")
            state.setdefault(int(parameter), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

"""Where networks are trained: the CPU unless a config asks for a GPU."""

from typing import Literal

import torch

from recsys.errors import UserError


def training_device(name: Literal["cpu", "cuda", "auto"]) -> torch.device:
    """Return the device; raises UserError if a GPU is asked for and torch finds none."""
    present = torch.cuda.is_available()
    if name == "cuda" and not present:
        raise UserError(
            "device is 'cuda', must be 'cpu' where torch finds no GPU; set device to 'auto' or 'cpu'"
        )
    return torch.device("cuda" if present and name != "cpu" else "cpu")

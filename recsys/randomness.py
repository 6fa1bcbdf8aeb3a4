"""Named, seeded generators: each use of chance has a name, so adding one never shifts another."""

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, name: str) -> int:
    """Return a 63-bit seed that depends on the run's seed and on the name of the use."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_generator(seed: int, name: str) -> np.random.Generator:
    """Return the numpy generator of one named use."""
    return np.random.default_rng(derive_seed(seed, name))


def torch_generator(seed: int, name: str) -> torch.Generator:
    """Return the torch generator of one named use."""
    return torch.Generator().manual_seed(derive_seed(seed, name))

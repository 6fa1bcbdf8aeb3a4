"""Where networks are trained, by which products and in which memory: the CPU unless a config asks for a GPU."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

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


EXACT_TO: Final = 1e-3  # largest error of a product of 256 terms; with bfloat16 inside it is about 0.2


@contextmanager
def fast_products() -> Iterator[bool]:
    """Let oneDNN multiply float32 matrices while inside, where that loses no accuracy; yield whether it does.

    torch gives these products to MKL, which has no AVX-512 code for some processors; there oneDNN takes two thirds of
    the time. torch offers it together with leave to round to bfloat16, which some processors then do and others do not:
    a product tells, and where it rounds everything stays as it was. The setting is the process's; it is put back.
    """
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    exact = _largest_error() < EXACT_TO
    if not exact:
        matmul.fp32_precision = before
    try:
        yield exact
    finally:
        matmul.fp32_precision = before


def _largest_error() -> float:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 256, 256, generator=generator)
    return float(((left @ right.T).double() - left.double() @ right.double().T).abs().max())


# parameters of mallopt (malloc.h) in bytes: how much may lie free at the end of the heap, which pieces stand apart
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEEPING = {_TRIM_THRESHOLD: 2**30, _MMAP_THRESHOLD: 2**26}
_AS_GLIBC_ENDS_UP = {_TRIM_THRESHOLD: 2**26, _MMAP_THRESHOLD: 2**25}  # once a program has freed large pieces


@contextmanager
def kept_memory() -> Iterator[bool]:
    """Let the C library keep up to a gigabyte of what tensors free while inside; yield whether it does.

    A training step frees and asks anew for the same megabytes. glibc hands them back to the system in between, which
    zeroes every page again: a tenth of a ranker's training. The setting is the process's; afterwards what lies free is
    given back. Other C libraries are left as they are.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if library is None or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield False
        return
    taken = [library.mallopt(parameter, size) for parameter, size in _KEEPING.items()]
    try:
        yield all(taken)
    finally:
        for parameter, size in _AS_GLIBC_ENDS_UP.items():
            library.mallopt(parameter, size)
        library.malloc_trim(0)

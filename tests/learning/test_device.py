"""What a training changes of its process lasts as long as it: products and memory."""

import resource
from pathlib import Path

import pytest
import torch

from recsys.learning.device import EXACT_TO, fast_products, kept_memory

STATM = Path("/proc/self/statm")


def test_fast_products_keep_accuracy_and_leave_the_process_as_it_was() -> None:
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    left, right = torch.randn(2, 200, 200, generator=torch.Generator().manual_seed(3))
    with fast_products():
        gap = (left @ right).double() - left.double() @ right.double()
    assert float(gap.abs().max()) < EXACT_TO
    assert matmul.fp32_precision == before


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def resident() -> int:
    return int(STATM.read_text().split()[1]) * resource.getpagesize()


def a_step() -> None:
    """Ask for 160 MB in pieces of 20 and free them."""
    pieces = [torch.ones(5_000_000) for _ in range(8)]
    del pieces


@pytest.mark.skipif(
    not STATM.exists(), reason="the system does not tell a process's memory in /proc/self/statm"
)
def test_memory_is_asked_for_once_and_given_back_at_the_end() -> None:
    with kept_memory() as kept:
        if not kept:
            pytest.skip("this C library has no mallopt")
        a_step()
        asked, held = faults(), resident()
        a_step()
        assert faults() - asked < 10_000  # of 39 000 pages
    assert held - resident() > 100e6

"""What every worker of bench_dqn shares: the shapes, the log, and steps on demand; numpy and torch alone.

A worker is a process of its own, because the peers' pins clash. It says "ready"; for every line "n kernels" that it
reads it takes n steps and answers with the CPU seconds that they took, all threads of the process together. Kernels
"default" are those that a library comes with (ours asks for oneDNN's where they are exact); "onednn" lets oneDNN
multiply float32 matrices, which it does twice as fast on processors for which MKL has no AVX-512 code. The setting
allows bfloat16 inside, so it is only used where a product shows that none is: elsewhere "onednn" is answered with
"inexact".
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

TRANSITIONS = 100_000
EPISODE = 100  # steps of an episode, all of which end
FEATURES = 64
ACTIONS = 50
BATCH = 256
HIDDEN = (256, 256)
DISCOUNT = 0.99
LEARNING_RATE = 6.25e-5
TARGET_INTERVAL = 8_000  # updates between hard copies


def write_log(path: Path) -> None:
    """Write the log that all learn from: state (transition, feature), action, reward and end (transition,)."""
    generator = np.random.default_rng(0)
    state = generator.normal(size=(TRANSITIONS, FEATURES)).astype(np.float32)
    action = generator.integers(0, ACTIONS, TRANSITIONS)
    reward = generator.normal(size=TRANSITIONS).astype(np.float32)
    end = np.arange(1, TRANSITIONS + 1) % EPISODE == 0
    np.savez(path, state=state, action=action, reward=reward, end=end)


def read_log(path: str) -> dict[str, np.ndarray]:
    """Return the arrays of the log."""
    with np.load(path) as arrays:
        return dict(arrays)


def use_kernels(name: str, own: str) -> bool:
    """Choose who multiplies float32 matrices; return whether the products have float32's accuracy."""
    torch.backends.mkldnn.matmul.fp32_precision = "bf16" if name == "onednn" else own
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(BATCH, HIDDEN[0], generator=generator) for _ in range(2))
    gap = (left @ right.T).double() - left.double() @ right.double().T
    return float(gap.abs().max()) < 1e-3  # with bfloat16 inside it is about 0.2


def serve(step: Callable[[], object]) -> None:
    """Take as many steps as asked for and tell their CPU seconds, until there is nothing more to read."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    answers, sys.stdout = sys.stdout, sys.stderr  # a library that prints must not answer in our place
    own = torch.backends.mkldnn.matmul.fp32_precision
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        steps, kernels = line.split()
        if not use_kernels(kernels, own):
            print("inexact", file=answers, flush=True)
            continue
        began = time.process_time()
        for _ in range(int(steps)):
            step()
        print(time.process_time() - began, file=answers, flush=True)

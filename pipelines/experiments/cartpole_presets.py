"""Settings that both contestants of the CartPole page share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """How a DQN learns CartPole."""

    hidden: tuple[int, ...]
    learning_rate: float
    falling_rate: bool  # linearly to zero at the last step
    discount: float
    n_step: int
    batch_size: int
    buffer: int
    first_update: int  # env steps before learning starts
    steps_per_update: int
    final_epsilon: float
    exploration: float  # share of the steps over which epsilon falls from 1
    target_interval: int  # updates from one move of the target network to the next
    target_tau: float = 1.0  # 1 = a hard copy
    keep_best: bool = False  # the network after the best twenty training episodes plays, not the last


PRESETS = {
    # CleanRL's dqn.py as published, meant for 500,000 steps
    "cleanrl": Preset((120, 84), 2.5e-4, False, 0.99, 1, 128, 10_000, 10_000, 10, 0.05, 0.5, 50),
    # an update at every other step; how it ends hangs on rounding in two seeds of five
    "quick": Preset((256, 256), 5e-4, True, 0.99, 3, 128, 50_000, 1_000, 2, 0.04, 0.2, 50),
    # smaller steps on larger batches of a smaller network whose target moves at every update; explores to the end,
    # and what is forgotten again does not count
    "steady": Preset((128, 128), 2.5e-4, True, 0.99, 3, 256, 50_000, 1_000, 2, 0.1, 0.2, 1, 0.005, True),
}

# an update at every other step of all training tasks together; the buffer is one task's
FAMILY = Preset((128, 128), 5e-4, True, 0.99, 3, 256, 20_000, 200, 2, 0.1, 0.2, 50)
# a DQN from scratch: on a handful of another agent's episodes, and on its own; updates after each episode
FAMILY_GIVEN = Preset((64, 64), 1e-3, False, 0.99, 3, 64, 20_000, 0, 1, 0.1, 0.2, 50)
FAMILY_GIVEN_UPDATES = 50
FAMILY_OWN = Preset((64, 64), 3e-3, False, 0.99, 5, 64, 20_000, 0, 1, 0.1, 0.2, 50)
FAMILY_OWN_UPDATES = 100

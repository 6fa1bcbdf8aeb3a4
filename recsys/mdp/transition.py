"""One transition, in columns: what a replay samples and what an update learns from.

A transition of m steps goes from state s_t by action a_t to state s_{t+m}. Its target is

    y = n_step_return + bootstrap · (value of the next state),    n_step_return = Σ_{j<m} (Π_{l<j} γ_{t+l}) r_{t+j}

where γ_{t+l} may depend on the time that passed. `bootstrap` holds the product of all m discounts; it is 0 where the
episode ended (terminal) and stays positive where only the log was cut (truncated), because there life went on unseen.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TransitionBatch:
    """Transitions whose states are feature vectors; first axis batch."""

    state: torch.Tensor  # (batch, feature)
    action: torch.Tensor  # (batch,) int64
    n_step_return: torch.Tensor  # (batch,)
    bootstrap: torch.Tensor  # (batch,) discount of the next state's value; 0 = terminal
    next_state: torch.Tensor  # (batch, feature)
    next_action: torch.Tensor  # (batch,) int64, what was logged there; -1 where the log was cut
    weight: torch.Tensor  # (batch,) importance weight of the sampling; 1 where it is uniform
    index: torch.Tensor  # (batch,) int64, place in the replay, so that priorities can be set

    def __len__(self) -> int:
        return len(self.action)

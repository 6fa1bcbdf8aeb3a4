"""What one update computed: its losses, and what each of its transitions says of the Q-function."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TransitionFigures:
    """What each transition of an update says of the Q-function; detached, all (state,)."""

    td_error: torch.Tensor  # |y − Q(s_t, a_t)|: the next priority of the transition
    q_value: torch.Tensor  # Q(s_t, a_t)
    max_q: torch.Tensor  # over supported candidates of s_{t+m}
    logged_return: torch.Tensor | None  # n-step return with bootstrap by U; None without a return head
    realised: torch.Tensor | None  # discounted return that the log earned from s_t on, where it is known
    unsupported: torch.Tensor | None  # best candidate lies outside the support; None without a behaviour head
    row: torch.Tensor | None  # window that each came from; None = one transition per row of the batch
    column: torch.Tensor | None = None  # its place in the window


@dataclass(frozen=True)
class StepLosses:
    """Scalars of one update, detached but for `total`; nothing waits for the device until somebody asks for a float."""

    total: torch.Tensor
    supervised: torch.Tensor
    response: torch.Tensor
    td: torch.Tensor
    conservative: torch.Tensor
    figures: TransitionFigures | None  # None while warming up

    @property
    def mean_max_q(self) -> float:
        """Mean max-Q over supported candidates of the next states."""
        return 0.0 if self.figures is None else float(self.figures.max_q.mean())

    @property
    def mean_return(self) -> float:
        """Mean n-step logged return with bootstrap by U, same transitions."""
        returns = None if self.figures is None else self.figures.logged_return
        return 0.0 if returns is None else float(returns.mean())

    @property
    def unsupported_argmax(self) -> float:
        """Share of next states whose best candidate the behaviour head does not support."""
        unsupported = None if self.figures is None else self.figures.unsupported
        return 0.0 if unsupported is None else float(unsupported.float().mean())

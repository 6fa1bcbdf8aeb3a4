"""What one update computed: its losses, and what each of its transitions says of the Q-function."""

from dataclasses import dataclass

import torch

from recsys.learning.losses import mean


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
    bootstrap: torch.Tensor | None = None  # 0 = nothing followed; None = something always did

    def of_next_states(self, values: torch.Tensor | None) -> torch.Tensor | None:
        """Return the values, (state,), of transitions that something followed: what is asked of s_{t+m}."""
        return values if values is None or self.bootstrap is None else values[self.bootstrap > 0]


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
        return _plain(None if self.figures is None else self.figures.of_next_states(self.figures.max_q))

    @property
    def mean_return(self) -> float:
        """Mean n-step logged return with bootstrap by U, same transitions."""
        return _plain(None if self.figures is None else self.figures.logged_return)

    @property
    def unsupported_argmax(self) -> float:
        """Share of next states whose best candidate the behaviour head does not support."""
        figures = self.figures
        return _plain(None if figures is None else figures.of_next_states(figures.unsupported))


def _plain(values: torch.Tensor | None) -> float:
    return 0.0 if values is None else float(mean(values.float()))

"""What an update learns towards: pure functions of Q-values, the same for the ranker and for any other task.

    y = clip( n_step_return + bootstrap · Q⁻(s', a') )

Rules differ in a' alone: *sarsa* takes what was logged in s' (its fixed point is Q of the logging policy), *max* the
best action, *supported_max* the best among {a: π_b(a | s') / max π_b ≥ threshold} (discrete BCQ, Fujimoto et al. 2019).
The best is chosen by the online network and valued by the target network (double Q, van Hasselt et al. 2016).
"""

from typing import Literal

import torch

Rule = Literal["sarsa", "supported_max", "max"]


def supported(behavior_logit: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return {a: π_b(a | s) ≥ threshold · max_a' π_b(a' | s)} as a mask, (state, candidate), from logits."""
    relative = behavior_logit - behavior_logit.amax(dim=1, keepdim=True)
    return relative.exp() >= threshold


def greedy(q_value: torch.Tensor, allowed: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (max Q, place of the maximum) over allowed candidates, each (state,)."""
    if allowed is not None:
        q_value = q_value.masked_fill(~allowed, -torch.inf)
    best, place = q_value.max(dim=1)
    return best, place


def next_action(
    rule: Rule,
    q_choice: torch.Tensor,  # (state, candidate) of the network that chooses: online if double, else the target
    allowed: torch.Tensor | None,  # (state, candidate); None = all
    logged: torch.Tensor,  # (state,) place of the logged next action among the candidates
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (place of a' among the candidates, max Q over allowed candidates), each (state,)."""
    best, place = greedy(q_choice, allowed)
    return (logged if rule == "sarsa" else place), best


def expected_value(
    q_value: torch.Tensor, behavior_logit: torch.Tensor, allowed: torch.Tensor | None
) -> torch.Tensor:
    """Return Σ_a π_b(a | s) Q(s, a) over allowed candidates, (state,): expected SARSA (van Seijen et al. 2009)."""
    if allowed is not None:
        behavior_logit = behavior_logit.masked_fill(~allowed, -torch.inf)
    return (behavior_logit.softmax(dim=1) * q_value).sum(dim=1)


def td_target(
    n_step_return: torch.Tensor,  # (state,)
    bootstrap: torch.Tensor,  # (state,) product of discounts; 0 = terminal
    next_value: torch.Tensor,  # (state,) or (state, quantile)
    clip: tuple[float, float] | None,
) -> torch.Tensor:
    """Return y = clip(n_step_return + bootstrap · next_value), in the shape of `next_value`."""
    if next_value.ndim > n_step_return.ndim:
        n_step_return, bootstrap = n_step_return[:, None], bootstrap[:, None]
    target = n_step_return + bootstrap * next_value
    return target if clip is None else target.clamp(*clip)

"""The spread of the return around its mean: offsets of quantiles that never move what is served.

A quantile head (QR-DQN, Dabney et al. 2018) learns N quantiles of the return of a state and an action,

    Q_n(s, a) = Q(s, a) + δ_n(s, a),    δ_n centred so that their mean over n is 0.

The mean over quantiles, which acts and is served, is then Q(s, a) itself: still one inner product per item.
"""

import torch
from torch import nn


class QuantileOffsets(nn.Module):
    """δ_n(s, a) = v_n(h) + ⟨d_n(h), x_a⟩ minus its mean over n, from a state's hidden vector h."""

    def __init__(self, hidden: int, action_features: int, quantiles: int) -> None:
        super().__init__()
        self.quantiles = quantiles
        self.map = nn.Linear(hidden, quantiles * (action_features + 1))

    def forward(self, hidden: torch.Tensor, action_vectors: torch.Tensor) -> torch.Tensor:
        """Return δ, (state, quantile), of one action per state; action_vectors x_a (state, feature)."""
        raw = self.map(hidden).view(len(hidden), self.quantiles, -1)
        offset = raw[..., 0] + (raw[..., 1:] @ action_vectors[:, :, None])[..., 0]
        return torch.as_tensor(offset - offset.mean(dim=1, keepdim=True))


class DenseQuantileOffsets(nn.Module):
    """δ_n(s, a) of a small fixed action set: one output per quantile and action, as in a dense QR-DQN head."""

    def __init__(self, hidden: int, actions: int, quantiles: int) -> None:
        super().__init__()
        self.quantiles = quantiles
        self.map = nn.Linear(hidden, actions * quantiles)

    def forward(self, hidden: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Return δ, (state, quantile), of one action per state; action (state,)."""
        raw = self.map(hidden).view(len(hidden), -1, self.quantiles)
        offset = raw[torch.arange(len(action), device=action.device), action]
        return torch.as_tensor(offset - offset.mean(dim=1, keepdim=True))

"""How an item that is shown is answered: the type of the event, from the state before it.

    P(type | s, i) ∝ exp( w_type(h) + ⟨r_type(h), e_i⟩ )

Returns are noisy; an answer comes with every action. Where a log holds what was shown without response,
predicting them teaches the encoder who the user is and what tires them, which Q reads off the same hidden vector
(auxiliary prediction beside Q-learning: Jaderberg et al. 2017). Nothing of it is served.
"""

import torch
from torch import nn


class ResponseHead(nn.Module):
    """Logits of event types from a state's hidden vector h and an item's vector e_i."""

    def __init__(self, hidden: int, item_features: int, event_types: int) -> None:
        super().__init__()
        self.event_types, self.item_features = event_types, item_features
        self.map = nn.Linear(hidden, event_types * (item_features + 1))

    def forward(self, hidden: torch.Tensor, item_vectors: torch.Tensor) -> torch.Tensor:
        """Return logits, (state, event type), of one item per state; of e_i, (state, feature), the learnt part."""
        asked = self.map(hidden).view(len(hidden), self.event_types, -1)
        learnt = item_vectors[:, : self.item_features, None]
        return torch.as_tensor(asked[..., 0] + (asked[..., 1:] @ learnt)[..., 0])

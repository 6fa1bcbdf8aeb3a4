"""Q of a fixed log's next states by the target network, kept until that network moves.

A target network that is copied every C updates meets each of N transitions C · batch / N times in between and says the
same every time: with C = 8 000, batches of 256 and 100 000 transitions twenty times. Only the first is computed.
"""

import torch

from recsys.models.vector_network import VectorNetwork


class RememberedTarget:
    """Target Q-values by place in the replay: one float32 per transition and action.

    Only for a replay that never overwrites a place, and where Q is all that is asked of the target network: raises
    ValueError if it has a behaviour head, a return head or quantiles. Worth its memory where the network stands still
    for long: a soft update at every step empties it at every step. Values are those of the network up to the rounding
    of batched matrix products.
    """

    def __init__(self, target: VectorNetwork, transitions: int) -> None:
        shape = target.shape
        if shape.behavior or shape.return_head or shape.quantiles > 1:
            raise ValueError(
                f"the target network has behavior={shape.behavior}, return_head={shape.return_head}, "
                f"quantiles={shape.quantiles}, of which only Q can be remembered; train it without remembering"
            )
        self.target = target
        self._parameters = list(target.parameters())
        like = self._parameters[0]
        self._q_value = torch.empty(transitions, shape.actions, dtype=like.dtype, device=like.device)
        self._known = torch.zeros(transitions, dtype=torch.bool, device=like.device)
        self._moved_at = self._moves()

    @torch.no_grad()
    def q_all(self, index: torch.Tensor, next_state: torch.Tensor) -> torch.Tensor:
        """Return Q⁻(next_state, ·), (batch, action), for places `index`, (batch,)."""
        if (moves := self._moves()) != self._moved_at:
            self._known.zero_()
            self._moved_at = moves
        missing = torch.nonzero(~self._known[index])[:, 0]
        if len(missing) > 0:
            place = index[missing]
            self._q_value[place] = self.target.q_all(self.target(next_state[missing]))
            self._known[place] = True
        return self._q_value[index]

    def _moves(self) -> int:
        """Count the changes of the network's weights: torch numbers each that is made in place."""
        return sum(parameter._version for parameter in self._parameters)

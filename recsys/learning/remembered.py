"""Q of a fixed log's next states by the target network, kept until that network moves.

A target network that is copied every C updates meets each of N transitions C · batch / N times in between and says the
same every time: with C = 8 000, batches of 256 and 100 000 transitions twenty times. Only the first is computed, and
not a few rows at a time, for which a network takes nearly as long as for a batch: a batch that meets a state not known
yet is filled up with others.
"""

import numpy as np
import torch

from recsys.models.vector_network import VectorNetwork
from recsys.types import FloatArray, LongArray

SEARCHED = 4  # times the batch: how many places are looked at for others


class RememberedTarget:
    """Target Q-values by place in the replay: one float32 per transition and action.

    `next_states`, (transition, feature), is the replay's column, in memory or memory-mapped; who overwrites places says
    so by `forget`. Only where Q is all that is asked of the target network: raises ValueError if it has a behaviour
    head, a return head or quantiles. Worth its memory where the network stands still for long: a soft update at every
    step empties it at every step. Values are those of the network up to the rounding of batched matrix products.
    """

    def __init__(self, target: VectorNetwork, next_states: FloatArray) -> None:
        shape = target.shape
        if shape.behavior or shape.return_head or shape.quantiles > 1:
            raise ValueError(
                f"the target network has behavior={shape.behavior}, return_head={shape.return_head}, "
                f"quantiles={shape.quantiles}, of which only Q can be remembered; train it without remembering"
            )
        self.target = target
        self._next_states = next_states
        self._parameters = list(target.parameters())
        like = self._parameters[0]
        self._q_value = torch.empty(len(next_states), shape.actions, dtype=like.dtype, device=like.device)
        self._known = np.zeros(len(next_states), np.bool_)
        self._all_known = False
        self._searched = 0  # places before it were looked at since the network moved
        self._moved_at = self._moves()

    @torch.no_grad()
    def q_all(self, index: torch.Tensor) -> torch.Tensor:
        """Return Q⁻(s', ·), (batch, action), of the transitions at places `index`, (batch,)."""
        if (moves := self._moves()) != self._moved_at:
            self._known[:] = False
            self._moved_at, self._searched, self._all_known = moves, 0, False
        if not self._all_known:
            self._learn_of(index.cpu().numpy())
        return self._q_value.index_select(0, index.to(self._q_value.device))

    def forget(self, index: torch.Tensor) -> None:
        """Take note that other transitions stand at some places now, (place,)."""
        self._known[index.cpu().numpy()] = False
        if len(index) > 0:
            self._searched, self._all_known = min(self._searched, int(index.min())), False

    def _learn_of(self, index: LongArray) -> None:
        """Ask about those of a batch that are not known, and about as many others as fill it up."""
        missing = index[~self._known[index]]
        if len(missing) == 0:
            return
        self._known[missing] = True
        place = np.concatenate([missing, self._others(len(index) - len(missing))])
        state = torch.from_numpy(self._next_states.take(place, axis=0))
        row = torch.from_numpy(place).to(self._q_value.device)
        self._q_value[row] = self.target.q_all(self.target(state.to(self._q_value.device)))
        self._known[place] = True
        self._all_known = bool(self._known.all())

    def _others(self, count: int) -> LongArray:
        """Return at most `count` places that are not known, the next in order."""
        window = self._known[self._searched : self._searched + SEARCHED * count]
        found = np.flatnonzero(~window)[:count] + self._searched
        self._searched = int(found[-1]) + 1 if len(found) == count > 0 else self._searched + len(window)
        return found

    def _moves(self) -> int:
        """Count the changes of the network's weights: torch numbers each that is made in place."""
        return sum(parameter._version for parameter in self._parameters)

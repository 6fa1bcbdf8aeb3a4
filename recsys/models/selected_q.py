"""Q of one action per state, of a ReLU network with a row per action: what plain Q-learning asks of the state it is in.

The gradient with respect to Q(s, ·) has one entry a row, so the last layer needs no product over actions: neither on
the way there nor back. With the whole chain in one node the rest is the products themselves. Other states, whose values
take no gradient, pass through the same products.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable


class SelectedQ(torch.autograd.Function):
    """Q(s, a) = ⟨h_L, w_a⟩ + b_a with h_l = max(0, W_l h_{l−1} + b_l), h_0 = s."""

    @staticmethod
    def forward(
        ctx: Any,
        state: torch.Tensor,
        action: torch.Tensor,
        others: torch.Tensor | None,
        *layers: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return Q, (batch,), of `action` (batch,), and Q of every action of `others`, (other, action), if there are.

        `layers` are W_1, b_1, …, rows w, biases b.
        """
        passing = state if others is None else torch.cat([state, others])
        inputs = [state]
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
            passing = torch.addmm(bias, passing, weight.T).relu_()
            inputs.append(passing[: len(state)])
        rows, biases = layers[-2:]
        row = rows.index_select(0, action)
        ctx.save_for_backward(action, row, *inputs, *layers[:-2:2])
        ctx.hidden, ctx.actions = len(inputs) - 1, len(rows)
        q_value = torch.linalg.vecdot(inputs[-1], row).add_(biases.index_select(0, action))
        if others is None:
            return q_value, None
        q_others = torch.addmm(biases, passing[len(state) :], rows.T)
        ctx.mark_non_differentiable(q_others)
        return q_value, q_others

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of all layers from that of Q, (batch,); none of the states'."""
        slope = slopes[0]
        action, row, *saved = ctx.saved_tensors
        inputs, weights = saved[: ctx.hidden + 1], saved[ctx.hidden + 1 :]
        rows = row.new_zeros(ctx.actions, row.shape[1]).index_add_(0, action, inputs[-1] * slope[:, None])
        biases = slope.new_zeros(ctx.actions).index_add_(0, action, slope)
        found = [biases, rows]
        back = row * slope[:, None]
        for layer in reversed(range(ctx.hidden)):  # over layers
            back = torch.ops.aten.threshold_backward(back, inputs[layer + 1], 0)
            found += [back.sum(dim=0), back.T @ inputs[layer]]
            if layer > 0:
                back = back @ weights[layer]
        return None, None, None, *reversed(found)

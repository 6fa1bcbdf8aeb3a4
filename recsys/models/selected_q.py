"""Q of one action per state, of a ReLU network with a row per action: what plain Q-learning asks of the state it is in.

The gradient with respect to Q(s, ·) has one entry a row, so the last layer needs no product over actions: neither on
the way there nor back. With the whole chain in one node the rest is the products themselves.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

Tensors = tuple[torch.Tensor, ...]


class SelectedQ(torch.autograd.Function):
    """Q(s, a) = ⟨h_L, w_a⟩ + b_a with h_l = max(0, W_l h_{l−1} + b_l), h_0 = s."""

    @staticmethod
    def forward(ctx: Any, state: torch.Tensor, action: torch.Tensor, *layers: torch.Tensor) -> torch.Tensor:
        """Return Q, (batch,), of `action` (batch,); `layers` are W_1, b_1, …, rows w, biases b."""
        inputs = [state]
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
            inputs.append(torch.addmm(bias, inputs[-1], weight.T).relu_())
        row = layers[-2][action]
        ctx.save_for_backward(action, row, *inputs, *layers[:-2:2])
        ctx.hidden, ctx.actions = len(inputs) - 1, len(layers[-2])
        return torch.as_tensor(torch.linalg.vecdot(inputs[-1], row) + layers[-1][action])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of all layers from that of Q, (batch,); none of the state's."""
        (slope,) = slopes
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
        return None, None, *reversed(found)

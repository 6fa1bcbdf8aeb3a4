"""Products of each state with candidates of its own, without a copy of their rows.

Hundreds of states with dozens of candidates each ask for the same few thousand rows again and again: as a gathered
tensor (state, candidate, feature) they take megabytes to write and to read. Here rows are read where they stand. With

    p_sc = ⟨q_s, r_{place[s, c]}⟩,   ∂ Σ g p / ∂ q_s = Σ_c g_sc r_{place[s, c]}

the gradient is a weighted sum of rows, which is what `embedding_bag` computes, and the products are what its own
gradient by the weights is.
"""

from typing import Any, cast

import torch
from torch import nn

LINE = 16  # float32 numbers in a line of the processor's cache


def aligned(rows: torch.Tensor) -> torch.Tensor:
    """Return rows, (row, feature), with zeros behind them to whole lines: else they are read 4 times slower."""
    missing = -rows.shape[1] % LINE
    return nn.functional.pad(rows, (0, missing)) if missing else rows


def own_products(query: torch.Tensor, rows: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Return p, (state, candidate), from q, (state, feature), r, (row, feature), and places in it, (state, candidate).

    Rows may be wider than queries, by zeros: who asks again and again keeps them `aligned`. Raises RuntimeError where
    a gradient is asked for of rows.
    """
    read = aligned(rows)
    wider = read.shape[1] - query.shape[1]
    asked = nn.functional.pad(query, (0, wider)) if wider else query
    return cast(torch.Tensor, _OwnProducts.apply(asked, read, place))  # type: ignore[no-untyped-call]


class _OwnProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, rows: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        if ctx.needs_input_grad[1]:
            raise RuntimeError("rows need a gradient, which only queries get here; detach them")
        ctx.save_for_backward(rows, place)
        states, candidates = place.shape
        state = torch.arange(states, device=place.device)
        products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            query.contiguous(),
            rows.contiguous(),
            place.flatten(),
            state * candidates,
            state.repeat_interleave(candidates),
            0,  # weights of a sum
        )
        return torch.as_tensor(products).view(states, candidates)

    @staticmethod
    def backward(ctx: Any, *slope: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        rows, place = ctx.saved_tensors
        summed = nn.functional.embedding_bag(
            place, rows, per_sample_weights=slope[0].contiguous(), mode="sum"
        )
        return summed, None, None

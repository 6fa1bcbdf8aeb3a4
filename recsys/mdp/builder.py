"""From tokens to transitions: n-step returns and where to bootstrap, vectorised over (batch, time).

The action at step t is the item of token t, taken in state t (after t events); the next state of an n-step transition
is state t + n. Histories are cut by the log, not ended by the user, so the end of a window is *truncated*: its last
steps use the shorter return that is known and bootstrap from the last state.
"""

import torch


def n_step_returns(
    reward: torch.Tensor,  # (batch, time)
    lengths: torch.Tensor,  # (batch,)
    discount: float,
    n_step: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (R, s', γ^m) of each step: R_t = Σ_{j<m} γ^j r_{t+j}, state index s' = t + m, m = min(n, length − t).

    All three have shape (batch, time); padding holds zeros, index 0 and factor 0.
    """
    batch, time = reward.shape
    step = torch.arange(time)[None, :]
    present = step < lengths[:, None]
    returns = torch.zeros_like(reward)
    masked = reward * present
    for offset in range(n_step):  # over the few steps of the return, never over events
        returns[:, : time - offset] += discount**offset * masked[:, offset:] if offset < time else 0
    steps = torch.clamp(torch.minimum(lengths[:, None] - step, torch.full((batch, time), n_step)), min=0)
    next_state = torch.where(present, step + steps, torch.zeros_like(steps))
    factor = torch.where(present, torch.pow(torch.tensor(discount), steps), torch.zeros_like(reward))
    return returns * present, next_state, factor

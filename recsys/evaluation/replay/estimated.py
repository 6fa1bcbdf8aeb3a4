"""Propensities for logs of lists that have none: shares of items at positions, and a warning that goes with them."""

import numpy as np

from recsys.evaluation.ope.propensities import estimate_by_shares
from recsys.evaluation.replay.log import RequestTable
from recsys.types import RealArray


def shares_by_position(requests: RequestTable) -> RealArray:
    """Return how often each item stood at its position, the list itself left out; (request, position).

    As if the policy that logged had asked nobody who they were: what it knew of users is a bias of every estimate.
    """
    out: RealArray = np.ones(requests.item.shape)
    shown = requests.item >= 0
    position = np.broadcast_to(np.arange(requests.item.shape[1]), requests.item.shape)[shown]
    items = requests.item[shown]
    if len(items):
        out[shown] = np.clip(estimate_by_shares(items, position, int(items.max()) + 1), 1e-9, 1.0)
    return out

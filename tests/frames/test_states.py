"""Histories in words, states as vectors."""

import numpy as np
import pytest
import torch

from recsys.catalogue import Catalogue
from recsys.frames.histories import describe_history
from recsys.frames.states import state_vectors
from recsys.mdp.state import History, encode_states
from recsys.models.q_network import QNetwork
from tests.factories import EVENT_TYPES, tiny_shape


def history(*items: int) -> History:
    count = len(items)
    return History(
        np.array(items, np.int32),
        np.full(count, 3, np.int8),
        np.ones(count, np.float32),
        np.arange(count, dtype=np.int64) * 7_200,
        np.arange(count, dtype=np.int32) // 2,
        np.zeros(1, np.int32),
    )


CATALOGUE = Catalogue(
    tuple(f"i{n}" for n in range(40)), tuple(f"Item {n}" for n in range(40)), ((),) * 40, np.ones(40, np.float32),
    np.ones(40, bool),
)  # fmt: skip


def test_a_history_is_told_token_by_token_and_only_as_far_back_as_the_state_reads() -> None:
    got = describe_history(history(5, 6, 7), CATALOGUE, EVENT_TYPES, 20)
    assert got["title"].to_list() == ["Item 5", "Item 6", "Item 7"]
    assert got["event_type"].to_list() == ["purchase"] * 3
    assert got["hours_since_last"].to_list() == pytest.approx([0.0, 2.0, 2.0], rel=1e-5)
    assert got["new_session"].to_list() == [True, False, True]
    assert describe_history(history(5, 6, 7), CATALOGUE, EVENT_TYPES, 2)["item_id"].to_list() == ["i6", "i7"]


def test_state_vectors_are_those_that_rank() -> None:
    torch.manual_seed(0)
    network = QNetwork(tiny_shape(), 0.1).eval()
    long, short = history(1, 2, 3, 4), history(9)
    got = state_vectors(network, [long, short], 3)
    assert got.shape == (2, 4, network.shape.vector_features)
    with torch.no_grad():
        alone = network.state_vectors(encode_states([long.first(2)], 20)).advantage[0, 2]
    np.testing.assert_allclose(got[0, 2], alone.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(got[1, 1], got[1, 3])  # nothing more happened
    np.testing.assert_allclose(got[0, 0], got[1, 0], atol=1e-6)  # all start at one point
    assert state_vectors(network, [], 3).shape[0] == 0

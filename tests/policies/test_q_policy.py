"""The teacher as a policy ranks as its Q-values do, pair by pair."""

from dataclasses import replace

import numpy as np
import torch

from recsys.adaptation import AdaptationPrior, adapt_to_first
from recsys.mdp.state import empty_history, encode_states
from recsys.models.item_table import ItemTable
from recsys.models.q_network import QNetwork, q_of_pairs
from recsys.policies.q_policy import Adaptation, QPolicy
from tests.factories import EVENT_TYPES, tiny_shape
from tests.memory_log import random_history

ITEMS, MAX_EVENTS = 12, 6


def test_scores_are_q_of_every_pair_up_to_a_constant_of_the_state() -> None:
    torch.manual_seed(0)
    network = QNetwork(tiny_shape(items=ITEMS), temperature=0.3)
    torch.nn.init.normal_(network.tower.bias.weight)
    generator = np.random.default_rng(0)
    people = [random_history(generator, events, ITEMS) for events in (1, 5, 20)]
    people.append(empty_history(np.array([2], np.int32)))
    scores = QPolicy(network, MAX_EVENTS).scores(people)
    assert scores.shape == (4, ITEMS)
    with torch.no_grad():
        for row, person in enumerate(people):
            kept = person.last(MAX_EVENTS)
            states = network.state_vectors(encode_states([kept], MAX_EVENTS))
            last = {name: getattr(states, name)[0, len(kept)] for name in ("advantage", "value")}
            for item in range(ITEMS):
                state = replace(states, **{name: vector[None] for name, vector in last.items()})
                q = q_of_pairs(state, network.item_side(torch.tensor([item])))
                assert abs(float(q[0] - last["value"]) - float(scores[row, item])) < 1e-4


def test_only_the_newest_events_count() -> None:
    torch.manual_seed(0)
    policy = QPolicy(QNetwork(tiny_shape(items=ITEMS), temperature=0.3), MAX_EVENTS)
    long = random_history(np.random.default_rng(1), 30, ITEMS)
    np.testing.assert_allclose(policy.scores([long]), policy.scores([long.last(MAX_EVENTS)]), rtol=1e-5)


def test_an_inner_loop_adds_what_its_fast_weights_say() -> None:
    torch.manual_seed(0)
    network = QNetwork(tiny_shape(items=ITEMS), temperature=0.3)
    prior = AdaptationPrior(4, len(EVENT_TYPES))
    torch.nn.init.normal_(prior.mean)
    vectors, bias = network.tower.table()
    table = ItemTable.of(vectors.detach(), bias.detach() * network.temperature, torch.randn(ITEMS, 4))
    people = [random_history(np.random.default_rng(1), 20, ITEMS), empty_history(np.array([2], np.int32))]
    plain = QPolicy(network, MAX_EVENTS).scores(people)
    adapted = QPolicy(network, MAX_EVENTS, Adaptation(prior, table, 0.5)).scores(people)
    unread = QPolicy(network, MAX_EVENTS, Adaptation(prior, table, 0.5, reads_events=False)).scores(people)
    start = (table.features @ prior.mean).detach().numpy()
    with torch.no_grad():
        batch = encode_states(people, MAX_EVENTS)
        fast = adapt_to_first(batch, network.state_vectors(batch), table, prior, batch.lengths, 0.5)
    np.testing.assert_allclose(adapted - plain, fast.shift(table.features).numpy(), atol=1e-5)
    np.testing.assert_allclose(unread - plain, np.stack([start, start]), atol=1e-5)
    np.testing.assert_allclose(adapted[1], unread[1], atol=1e-6)
    assert np.abs(adapted[0] - unread[0]).max() > 1e-3

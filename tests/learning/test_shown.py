"""What was shown without response teaches values, and is otherwise neither had nor hidden."""

from dataclasses import replace

import numpy as np
import torch

from recsys.config import PretrainConfig
from recsys.evaluation.cold_start import cold_cases
from recsys.evaluation.warm import warm_cases
from recsys.learning.encoding import WindowEncoding
from recsys.logs.prepared import PreparedLog, Role
from recsys.mdp.tasks import task_batches, task_starts
from recsys.mdp.windows import Windows, cut_windows, first_seen, had_items, read_windows
from recsys.models.q_network import QNetwork
from tests.factories import tiny_shape
from tests.memory_log import EVENT_TYPES, Event, Told, memory_log

SHOWN = EVENT_TYPES.index("impression")


def shown(item: int, second: int, session: int = 0) -> Event:
    return Event(item, second, session, reward=0.0, event_type=SHOWN)


EVENTS = (
    shown(1, 0),
    Event(2, 10),
    shown(2, 20),  # had already
    Event(1, 30),  # shown first, bought now
    shown(3, 40),
    Event(1, 50),  # again
    Event(3, 60, reward=-1.0),  # refused
    Event(3, 70),
)


def as_actions(log: PreparedLog) -> PreparedLog:
    return replace(log, info=replace(log.info, impressions_are="actions"))


def test_a_response_to_what_was_shown_before_without_one_is_new() -> None:
    log = memory_log([Told(EVENTS)])
    windows = Windows(np.array([0]), np.array([len(EVENTS)]), np.array([0]))
    batch = read_windows(as_actions(log), windows, None)
    assert had_items(batch).tolist() == [[-1, 2, -1, 1, -1, 1, 3, 3]]
    assert first_seen(batch).tolist() == [[False, True, False, True, False, False, True, False]]
    # such events cannot be told apart where histories hold none: every event counts
    assert (
        first_seen(read_windows(log, windows, None))[0].tolist()
        == [True, True] + [False] * 2 + [True] + [False] * 3
    )


def test_behaviour_is_learnt_from_rewarded_events_and_values_from_all() -> None:
    log = as_actions(memory_log([Told(EVENTS)]))
    windows = Windows(np.array([0]), np.array([len(EVENTS)]), np.array([0]))
    batch = read_windows(log, windows, None)
    torch.manual_seed(0)
    network = QNetwork(tiny_shape(10), temperature=0.1)
    settings = PretrainConfig(n_step=1, discount=0.5)
    chance = torch.Generator().manual_seed(0)
    encoding = WindowEncoding(network, network, batch, settings, chance, torch.device("cpu"))
    logged = encoding.logged()
    assert logged.action.tolist() == [2, 1]
    taken = logged.taken(torch.arange(10))
    assert taken is not None
    assert torch.nonzero(taken[0])[:, 0].tolist() == [1, 2, 3]
    transitions = encoding.transitions()
    assert transitions.action.tolist() == [event.item for event in EVENTS]
    assert transitions.n_step_return.tolist() == [event.reward for event in EVENTS]


def test_what_is_merely_shown_stays_a_negative() -> None:
    log = as_actions(memory_log([Told([shown(4, 0), Event(2, 10)])]))
    batch = read_windows(log, Windows(np.array([0]), np.array([2]), np.array([0])), None)
    network = QNetwork(tiny_shape(10), temperature=0.1)
    encoding = WindowEncoding(
        network, network, batch, PretrainConfig(), torch.Generator(), torch.device("cpu")
    )
    taken = encoding.logged().taken(torch.tensor([2, 4]))
    assert taken is not None
    assert taken.tolist() == [[True, False]]


def test_what_a_support_was_merely_shown_may_be_asked_for() -> None:
    events = [shown(1, 0), Event(2, 10), shown(3, 20), Event(1, 30), Event(2, 40), Event(3, 50)]
    told = memory_log([Told(events)])
    for log, wanted in ((as_actions(told), {1, 3}), (told, set())):
        starts = task_starts(log, np.array([0]), 6)
        asked = set()
        for seed in range(20):  # a support of three events at most
            for batch in task_batches(log, starts, 4, 3, 100, np.random.default_rng(seed)):
                if batch.shots.tolist() == [3]:
                    asked |= set(batch.query_item.tolist())
        assert asked == wanted


def test_what_was_merely_shown_is_ranked_and_asked_for_in_evaluation() -> None:
    events = [shown(1, 0), Event(2, 10), shown(3, 20), Event(1, 30), Event(2, 40), Event(3, 50)]
    for role, cases_of in (
        (Role.COLD_TEST, lambda log: cold_cases(log, Role.COLD_TEST, 3, 9, np.random.default_rng(0))),
        (Role.TRAIN, lambda log: warm_cases(log, 9, np.random.default_rng(0))),
    ):
        told = memory_log([Told(events, role, train_end=3 if role == Role.TRAIN else None)])
        cases = cases_of(as_actions(told))
        assert cases.excluded[0].tolist() == [2]
        assert cases.query.item.tolist() == [1, 3]
        assert len(cases_of(told)) == 0  # an event like any other hides its item


def test_windows_of_the_shown_alone_are_learnt_from() -> None:
    log = as_actions(memory_log([Told([shown(4, 0), shown(5, 9)])]))
    windows = cut_windows(log, np.array([0]), 5, 2, np.random.default_rng(0))
    batch = read_windows(log, windows, np.random.default_rng(0))
    network = QNetwork(tiny_shape(10), temperature=0.1)
    encoding = WindowEncoding(
        network, network, batch, PretrainConfig(), torch.Generator(), torch.device("cpu")
    )
    assert len(encoding.logged().action) == 0
    assert sorted(encoding.transitions().action.tolist()) == [4, 5]

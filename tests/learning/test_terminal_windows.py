"""Where a window's end is the end of something, held against values worked out by hand and against the builder's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.learning.encoding import ends_of_episodes, returns_to_the_end, step_discounts
from recsys.learning.health import q_health
from recsys.learning.step_losses import StepLosses, TransitionFigures
from recsys.mdp.builder import ReturnRule, Terminal, log_transitions, n_step_returns
from recsys.mdp.state import encode_states
from recsys.mdp.windows import CUT, HISTORY_OVER, SESSION_OVER, Windows, endings, read_windows
from tests.memory_log import Event, Told, history, memory_log

# rewards 1, 2, 4 in one session, 8, 16 in the next
EVENTS = [
    Event(1, 0, 0, 1.0),
    Event(2, 1, 0, 2.0),
    Event(3, 2, 0, 4.0),
    Event(4, 9, 1, 8.0),
    Event(5, 10, 1, 16.0),
]
LEFT = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
WHOLE = Windows(np.array([0]), np.array([5]), np.array([0]))


def test_what_stands_behind_a_window_is_the_session_a_later_one_or_nothing() -> None:
    log = memory_log([Told(EVENTS), Told(EVENTS, train_end=3), Told(EVENTS, train_end=4)])
    windows = Windows(np.array([0, 0, 0, 5, 10]), np.array([2, 3, 5, 8, 14]), np.array([0, 0, 0, 1, 2]))
    # the second history is cut for training between its sessions, the third inside one: neither is over
    assert endings(log, windows).tolist() == [CUT, SESSION_OVER, HISTORY_OVER, SESSION_OVER, CUT]
    assert read_windows(log, windows, None).ending.tolist() == endings(log, windows).tolist()


@pytest.mark.parametrize(
    ("terminal", "returns", "bootstrap", "earned", "left"),
    [
        # two steps at γ = 1/2: r_t + r_{t+1} / 2, bootstrap 1/4, where one step is left 1/2
        ("never", [2, 4, 8, 16, 16], [0.25, 0.25, 0.25, 0.25, 0.5], [5, 8, 12, 16, 16], [*LEFT]),
        ("history", [2, 4, 8, 16, 16], [0.25, 0.25, 0.25, 0, 0], [5, 8, 12, 16, 16], [0, 0, 0, 0, 0]),
        # the third event's reward of 4 is the last of its session: 1 + 2/2 + 4/4 = 3 from the first on
        ("session", [2, 4, 4, 16, 16], [0.25, 0, 0, 0, 0], [3, 4, 4, 16, 16], [0, 0, 0, 0, 0]),
    ],
)  # fmt: skip
def test_returns_of_a_whole_history_by_what_is_terminal(
    terminal: Terminal, returns: list[float], bootstrap: list[float], earned: list[float], left: list[float]
) -> None:
    batch = read_windows(memory_log([Told(EVENTS)]), WHOLE, None)
    gamma = step_discounts(batch, 0.5, None, terminal)
    found, _, factor = n_step_returns(batch.reward, batch.lengths, gamma, 2)
    assert found[0].tolist() == returns
    assert factor[0].tolist() == bootstrap
    to_the_end, after = returns_to_the_end(batch, gamma)
    assert to_the_end[0].tolist() == earned
    assert after[0].tolist() == left


@pytest.mark.parametrize("terminal", ["never", "history", "session"])
@pytest.mark.parametrize("n_step", [1, 2, 3, 9])
@pytest.mark.parametrize("train_end", [3, 4, 5])
def test_windows_of_whole_histories_tell_what_the_builder_tells(
    terminal: Terminal, n_step: int, train_end: int
) -> None:
    log = memory_log([Told(EVENTS, train_end=train_end)])
    windows = Windows(np.array([0]), np.array([train_end]), np.array([0]))
    batch = read_windows(log, windows, None)
    gamma = step_discounts(batch, 0.5, None, terminal)
    returns, _, bootstrap = n_step_returns(batch.reward, batch.lengths, gamma, n_step)
    (wanted,) = log_transitions(log, np.array([0]), ReturnRule(n_step, 0.5, terminal=terminal))
    np.testing.assert_allclose(returns[0], wanted.columns.n_step_return)
    np.testing.assert_allclose(bootstrap[0], wanted.columns.bootstrap)


def test_a_live_history_ends_nowhere_but_between_its_sessions() -> None:
    live = encode_states([history(*EVENTS), history(EVENTS[0])], 20)
    assert not ends_of_episodes(live, "history").any()
    assert ends_of_episodes(live, "session").nonzero().tolist() == [[0, 2]]


def test_an_unbounded_life_is_worth_more_than_one_that_ends() -> None:
    """A click at every step: 1 / (1 − γ) if the log is cut, 1 + γ + γ² for a life of three."""
    life = [Event(1, second, 0, 1.0) for second in range(3)]
    batch = read_windows(memory_log([Told(life)]), Windows(np.array([0]), np.array([3]), np.array([0])), None)
    worth = {}
    for terminal in ("never", "history"):
        gamma = step_discounts(batch, 0.5, None, terminal)
        returns, arrival, bootstrap = n_step_returns(batch.reward, batch.lengths, gamma, 1)
        value = torch.zeros(4)
        for _ in range(200):  # tabular SARSA over the places of the window, its end taken for its start
            following = torch.where(arrival[0] < 3, value[arrival[0].clamp(max=2)], value[0])
            value[:3] = returns[0] + bootstrap[0] * following
        worth[terminal] = float(value[0])
    assert worth["never"] == pytest.approx(2.0, abs=1e-5)
    assert worth["history"] == pytest.approx(1.75, abs=1e-5)


def test_health_asks_nothing_of_states_that_never_came() -> None:
    """Q of what follows the end is learnt by nobody: neither its size nor its support says anything."""
    q_value = torch.tensor([1.0, 2.0, 3.0])
    max_q, unsupported = torch.tensor([4.0, 900.0, 6.0]), torch.tensor([False, True, False])
    bootstrap = torch.tensor([0.5, 0.0, 0.5])
    figures = TransitionFigures(q_value, q_value, max_q, q_value, q_value, unsupported, None, None, bootstrap)
    losses = StepLosses(*(torch.zeros(()) for _ in range(5)), figures)
    for health in (q_health([figures]), losses):
        assert health.mean_max_q == pytest.approx(5.0)
        assert health.unsupported_argmax == 0.0
        assert health.mean_return == pytest.approx(2.0)
    over = replace(figures, bootstrap=torch.zeros(3))
    assert np.isnan(q_health([over]).over_estimation)
    assert StepLosses(*(torch.zeros(()) for _ in range(5)), over).mean_max_q == 0.0

"""n-step columns held against tables computed by hand and against a loop over single events."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import UserError
from recsys.mdp.builder import (
    NStepColumns,
    ReturnRule,
    Terminal,
    episodes_of,
    log_transitions,
    n_step_columns,
    n_step_returns,
    next_actions,
    step_discounts,
)
from tests.memory_log import Event, Told, memory_log, random_told, taken

REWARD = torch.tensor([[1.0, 2.0, 4.0, 8.0], [3.0, 5.0, 9.0, 9.0]])
LENGTHS = torch.tensor([4, 2])  # what stands behind the second row's end must not count
HOUR = 3600


def columns(
    reward: list[float], offsets: list[int], terminal: list[bool], n_step: int, discount: float = 0.5
) -> NStepColumns:
    return n_step_columns(
        np.array(reward), np.full(len(reward), discount), np.array(offsets), np.array(terminal), n_step
    )


def test_a_cut_episode_bootstraps_and_an_ended_one_does_not() -> None:
    found = columns([1, 2, 4, 8, 3, 5], [0, 4, 6], [True, False], n_step=2)
    # 1 + 2/2, 2 + 4/2, 4 + 8/2, 8 alone; 3 + 5/2, 5 alone
    assert found.n_step_return.tolist() == [2, 4, 8, 8, 5.5, 5]
    assert found.steps.tolist() == [2, 2, 2, 1, 2, 1]
    # the first episode ends: whoever arrives there stops; the second was only cut: γ^m
    assert found.bootstrap.tolist() == [0.25, 0.25, 0, 0, 0.25, 0.5]
    assert found.goes_on.tolist() == [True, True, False, False, False, False]
    assert next_actions(np.array([10, 11, 12, 13, 20, 21]), found).tolist() == [12, 13, -1, -1, -1, -1]


def test_a_session_of_one_event_is_its_reward() -> None:
    found = columns([7], [0, 1], [True], n_step=5)
    assert (found.n_step_return.tolist(), found.bootstrap.tolist(), found.steps.tolist()) == ([7], [0], [1])


def test_discount_follows_the_time_between_events() -> None:
    rule = ReturnRule(n_step=2, discount=0.25, unit_hours=2.0)
    seconds = np.array([0, 1 * HOUR, 1 * HOUR, 5 * HOUR, 9 * HOUR])
    offsets = np.array([0, 4, 4, 5])  # the middle history is empty
    discount = step_discounts(seconds, offsets, rule)
    # half a unit, none, two units, unknown = one unit; a history of its own: unknown again
    assert discount.tolist() == [0.5, 1.0, 0.0625, 0.25, 0.25]
    found = n_step_columns(np.array([1.0, 2, 4, 8, 3]), discount, offsets, np.zeros(3, bool), 3)
    assert found.n_step_return.tolist() == [1 + 2 * 0.5 + 4 * 0.5, 2 + 4 + 8 * 0.0625, 4 + 8 * 0.0625, 8, 3]
    assert found.bootstrap.tolist() == [0.5 * 0.0625, 0.0625 * 0.25, 0.0625 * 0.25, 0.25, 0.25]


def test_time_that_runs_backwards_never_raises_the_discount_above_one() -> None:
    rule = ReturnRule(n_step=1, discount=0.5, unit_hours=1.0)
    assert step_discounts(np.array([9 * HOUR, 0, HOUR]), np.array([0, 3]), rule).tolist() == [1.0, 0.5, 0.5]


def looped(
    reward: list[float], discount: list[float], offsets: list[int], terminal: list[bool], n_step: int
) -> list[tuple[float, float, int]]:
    """One event at a time, straight from the definition."""
    rows = []
    for start, end, ends in zip(offsets[:-1], offsets[1:], terminal, strict=True):
        for event in range(start, end):
            total, product, steps = 0.0, 1.0, 0
            while steps < n_step and event + steps < end:
                total += product * reward[event + steps]
                product *= discount[event + steps]
                steps += 1
            rows.append((total, 0.0 if ends and event + steps == end else product, steps))
    return rows


@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=6),
    n_step=st.integers(1, 8),
    seed=st.integers(0, 10**6),
)
def test_columns_equal_a_loop_over_events(lengths: list[int], n_step: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    reward = generator.normal(size=offsets[-1])
    discount = generator.choice([0.0, 0.3, 0.9, 1.0], offsets[-1])
    terminal = generator.random(len(lengths)) < 0.5
    found = n_step_columns(reward, discount, offsets, terminal, n_step)
    expected = looped(reward.tolist(), discount.tolist(), offsets.tolist(), terminal.tolist(), n_step)
    rows = np.array(expected).reshape(-1, 3)
    np.testing.assert_allclose(found.n_step_return, rows[:, 0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.bootstrap, rows[:, 1], rtol=1e-6)
    assert found.steps.tolist() == rows[:, 2].tolist()


# two sessions of two events and one of one; training ends inside the first history's second session
SESSIONS = [Event(1, 0, 0), Event(2, 60, 0), Event(3, 9000, 1), Event(4, 9060, 1), Event(5, 20000, 2)]


@pytest.mark.parametrize(
    ("terminal", "train_end", "bootstrap", "next_action"),
    [
        ("never", 5, [0.5, 0.5, 0.5, 0.5, 0.5], [2, 3, 4, 5, -1]),
        ("session", 5, [0.5, 0, 0.5, 0, 0], [2, -1, 4, -1, -1]),
        ("history", 5, [0.5, 0.5, 0.5, 0.5, 0], [2, 3, 4, 5, -1]),
        ("session", 3, [0.5, 0, 0.5], [2, -1, -1]),  # the cut splits a session: truncated
        ("session", 4, [0.5, 0, 0.5, 0], [2, -1, 4, -1]),  # the cut stands behind a session's end
        ("history", 4, [0.5, 0.5, 0.5, 0.5], [2, 3, 4, -1]),  # the user goes on behind the cut
    ],
)
def test_what_ends_an_episode_is_configured(
    terminal: Terminal, train_end: int, bootstrap: list[float], next_action: list[int]
) -> None:
    log = memory_log([Told(SESSIONS, train_end=train_end)])
    rule = ReturnRule(n_step=1, discount=0.5, terminal=terminal)
    (found,) = log_transitions(log, np.array([0]), rule)
    assert found.columns.bootstrap.tolist() == bootstrap
    assert found.next_action.tolist() == next_action
    assert found.action.tolist() == [1, 2, 3, 4, 5][:train_end]


@given(
    seed=st.integers(0, 10**6), rows_at_once=st.integers(1, 40), terminal=st.sampled_from(Terminal.__args__)
)
def test_a_log_in_parts_gives_the_transitions_of_the_whole(
    seed: int, rows_at_once: int, terminal: Terminal
) -> None:
    generator = np.random.default_rng(seed)
    log = memory_log([random_told(generator, int(events)) for events in generator.integers(1, 9, 6)])
    histories = generator.permutation(6)[:4]
    rule = ReturnRule(3, 0.9, unit_hours=1.0, terminal=terminal)
    (whole,) = log_transitions(log, histories, rule)
    parts = list(log_transitions(log, histories, rule, rows_at_once))
    for name in ("n_step_return", "bootstrap", "steps"):
        joined = np.concatenate([getattr(part.columns, name) for part in parts])
        assert joined.tolist() == getattr(whole.columns, name).tolist()
    assert np.concatenate([part.event for part in parts]).tolist() == whole.event.tolist()
    assert np.concatenate([part.next_action for part in parts]).tolist() == whole.next_action.tolist()
    training = [
        event
        for history in histories
        for event in log.history_offsets[history] + np.arange(log.history_train_end[history])
    ]
    assert whole.event.tolist() == training
    goes_on = whole.columns.goes_on
    arrival = whole.event[goes_on] + whole.columns.steps[goes_on]
    assert log.item[arrival].tolist() == whole.next_action[goes_on].tolist()


def test_a_session_begins_anew_with_each_history_though_ordinals_are_equal() -> None:
    offsets, ended = episodes_of(
        np.array([0, 0, 0]),
        np.array([0, 2, 3]),
        np.array([False, False]),
        np.array([False, False]),
        "session",
    )
    assert (offsets.tolist(), ended.tolist()) == ([0, 2, 3], [True, True])


def test_a_user_without_training_events_has_no_transitions() -> None:
    log = memory_log([taken(1, 2, train_end=0), taken(3)])
    (found,) = log_transitions(log, np.array([0, 1]), ReturnRule(2, 0.5, terminal="session"))
    assert found.event.tolist() == [2]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reward_that_is_no_number_is_refused_with_its_place(bad: float) -> None:
    with pytest.raises(UserError, match=r"reward of event 1 is (nan|inf), must be a finite number"):
        columns([1.0, bad], [0, 2], [False], n_step=1)


@pytest.mark.parametrize("bad", [-0.1, 1.5, np.nan])
def test_a_discount_out_of_bounds_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match=r"discount of event 0 is .*, must be within \[0, 1\]"):
        columns([1.0], [0, 1], [False], n_step=1, discount=bad)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"n_step": 0, "discount": 0.5}, "n_step is 0, must be 1 or more"),
        ({"n_step": 1, "discount": 1.2}, "discount is 1.2, must be within"),
        ({"n_step": 1, "discount": 0.5, "unit_hours": 0.0}, "unit_hours is 0.0, must be a positive number"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(UserError, match=told):
        ReturnRule(**settings)  # type: ignore[arg-type]


def test_returns_of_windows_are_those_computed_by_hand() -> None:
    returns, next_state, factor = n_step_returns(REWARD, LENGTHS, discount=0.5, n_step=2)
    # 1 + 2/2, 2 + 4/2, 4 + 8/2; the last step is truncated: one reward, bootstrap from the last state
    assert returns.tolist() == [[2.0, 4.0, 8.0, 8.0], [5.5, 5.0, 0.0, 0.0]]
    assert next_state.tolist() == [[2, 3, 4, 4], [2, 2, 0, 0]]
    assert factor.tolist() == [[0.25, 0.25, 0.25, 0.5], [0.25, 0.5, 0.0, 0.0]]


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("n_step", [1, 3, 10])  # 10 is longer than any window here
def test_windows_and_flat_events_have_one_arithmetic(per_step: bool, n_step: int) -> None:
    generator = np.random.default_rng(0)
    reward, lengths = generator.normal(size=(5, 7)), np.array([0, 1, 3, 6, 7])
    discount = generator.random((5, 7)) if per_step else np.full((5, 7), 0.5)
    found = n_step_returns(
        torch.from_numpy(reward),
        torch.from_numpy(lengths),
        torch.from_numpy(discount) if per_step else 0.5,
        n_step,
    )
    present = np.arange(7) < lengths[:, None]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = n_step_columns(reward[present], discount[present], offsets, np.zeros(5, bool), n_step)
    np.testing.assert_allclose(found[0].numpy()[present], flat.n_step_return, rtol=1e-5, atol=1e-6)
    assert (found[1].numpy() - np.arange(7))[present].tolist() == flat.steps.tolist()
    np.testing.assert_allclose(found[2].numpy()[present], flat.bootstrap, rtol=1e-5)
    for column in found:
        assert not column.numpy()[~present].any()

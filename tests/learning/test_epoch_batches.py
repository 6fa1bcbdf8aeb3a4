"""An epoch takes every window once, or draws as many of every fold by TD error and tells of them what was learnt."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from recsys.config import PretrainConfig
from recsys.learning.epoch_batches import EpochBatch, EpochBatches
from recsys.learning.step_losses import TransitionFigures
from recsys.logs.prepared import PreparedLog
from recsys.mdp.priorities import PriorityRule
from recsys.training_config import PriorityConfig
from tests.memory_log import Event, Told, memory_log, taken

FOLD = np.array([0, 1] * 10)


def twenty_users() -> PreparedLog:
    return memory_log([taken(*range(place % 7 + 2)) for place in range(20)])


def made(replay: str, log: PreparedLog, **settings: object) -> EpochBatches:
    raw = {"replay": replay, "batch_size": 3, "epochs": 3, "warmup_epochs": 1, **settings}
    config = PretrainConfig.model_validate(raw)
    return EpochBatches(log, np.arange(20), FOLD, config, 50, np.random.default_rng(0))


def figures(error: float, *places: tuple[int, int]) -> TransitionFigures:
    row, column = torch.tensor(places).T
    same = torch.full((len(places),), error)
    return TransitionFigures(same, same, same, None, None, None, row, column)


def of_fold(every: list[EpochBatch]) -> dict[int | None, int]:
    counted: dict[int | None, int] = {}
    for batch in every:
        counted[batch.fold] = counted.get(batch.fold, 0) + len(batch.windows)
    return counted


@pytest.mark.parametrize(("replay", "warmup"), [("uniform", False), ("prioritized", True)])
def test_without_priorities_every_window_comes_once_with_those_of_its_fold(replay: str, warmup: bool) -> None:
    count, drawn = made(replay, twenty_users()).of_epoch(warmup=warmup)
    every = list(drawn)
    assert len(every) == count
    assert sorted(h for batch in every for h in batch.windows.history.tolist()) == list(range(20))
    assert all((FOLD[batch.windows.history] == batch.fold).all() for batch in every)
    assert all(batch.weight is None and batch.draw is None for batch in every)


@pytest.mark.parametrize("replay", ["uniform", "prioritized"])
@pytest.mark.parametrize(("terminal", "short"), [("never", 0), ("session", 5), ("history", 5)])
def test_who_left_after_one_event_is_learnt_from_where_that_was_the_end(
    replay: str, terminal: str, short: int
) -> None:
    log = memory_log([taken(*range(place % 4 + 1)) for place in range(20)])
    _, drawn = made(replay, log, terminal=terminal).of_epoch(warmup=replay == "prioritized")
    lengths = [int(n) for batch in drawn for n in batch.windows.end - batch.windows.start]
    assert sorted(lengths) == sorted([1] * short + [2, 3, 4] * 5)


def test_prioritized_replay_draws_as_many_of_every_fold_and_most_where_errors_are_large() -> None:
    log = twenty_users()
    epochs = made("prioritized", log, priority={"alpha": 1.0, "epsilon": 1e-6})
    for _ in range(40):
        count, drawn = epochs.of_epoch(warmup=False)
        every = []
        for batch in drawn:
            assert (FOLD[batch.windows.history] == batch.fold).all()
            lengths = batch.windows.end - batch.windows.start
            where = [(row, place) for row, length in enumerate(lengths) for place in range(length)]
            large = torch.tensor([float(batch.windows.history[row] == 5) for row, _ in where])
            noted = figures(0.0, *where)
            noted = TransitionFigures(**{**vars(noted), "td_error": large})
            epochs.learnt(batch, noted)
            every.append(batch)
        assert len(every) == count
        assert of_fold(every) == {0: 10, 1: 10}
    # by now all errors are known: of its fold, history 5 alone has any
    assert {h for batch in every if batch.fold == 1 for h in batch.windows.history.tolist()} == {5}


def test_importance_weights_multiply_those_of_age_and_length() -> None:
    epochs = made("prioritized", twenty_users(), history_power=1.0)
    _, drawn = epochs.of_epoch(warmup=False)
    for batch in drawn:  # nothing learnt yet: equal priorities, importance weights of 1
        power = 1.0 / (batch.windows.end - batch.windows.start)
        assert batch.weight is not None
        np.testing.assert_allclose(batch.weight.numpy(), power / power.mean(), rtol=1e-5)


def test_annealing_ends_with_the_last_batch_of_the_last_epoch() -> None:
    epochs = made("prioritized", twenty_users())
    count, _ = epochs.of_epoch(warmup=False)
    assert epochs.priorities is not None
    assert epochs.priorities.rule.anneal_draws == 2 * count  # of three epochs, one of them warm-up


def test_the_configured_defaults_are_those_of_the_rule() -> None:
    rule, config = PriorityRule(), PriorityConfig()
    shared = {field.name for field in fields(rule)} - {"anneal_draws"}  # the length of the run decides that
    assert {name: getattr(rule, name) for name in shared} == config.model_dump()


@pytest.mark.parametrize(("terminal", "mixed"), [("never", False), ("history", True)])
def test_lengths_share_batches_where_ends_are_terminal(terminal: str, mixed: bool) -> None:
    log = memory_log([taken(*range(2 if place % 2 else 8)) for place in range(40)])
    config = PretrainConfig(batch_size=10, terminal=terminal)  # type: ignore[arg-type]
    _, drawn = EpochBatches(log, np.arange(40), None, config, 50, np.random.default_rng(0)).of_epoch(
        warmup=False
    )
    spread = [np.ptp(batch.windows.end - batch.windows.start) > 0 for batch in drawn]
    assert all(spread) if mixed else not any(spread[:-1])


def test_a_batch_of_windows_that_are_all_old_is_weighed_by_their_age_too() -> None:
    day = 86_400
    old = [Told([Event(0, days * day), Event(1, days * day + 60)]) for days in (0, 2)]
    log = memory_log([*old, Told([Event(0, 800 * day), Event(1, 800 * day + 60)])])
    config = PretrainConfig(half_life_days=2.0, batch_size=8)
    _, drawn = EpochBatches(
        log, np.arange(3), np.array([0, 0, 1]), config, 50, np.random.default_rng(0)
    ).of_epoch(warmup=False)
    weight = {
        int(h): float(w) for batch in drawn for h, w in zip(batch.windows.history, batch.weight, strict=True)
    }  # type: ignore[arg-type]
    assert weight == pytest.approx({0: 2 / 3, 1: 4 / 3, 2: 1.0})

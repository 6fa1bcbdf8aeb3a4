"""A task is a user to adapt to: the support set is what they did first, the query set a sample of all that follows.

A history gives several tasks: one begins where the history begins, the others at the start of a later session, read
as if the user were new there. The query reaches to the end of the training history, because what adaptation is for is
a user's taste and not the rest of the basket. A share of the supports may be what other policies would have logged
(support_policies.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from recsys.logs.prepared import PreparedLog, identified, training_histories
from recsys.mdp.state import StateBatch
from recsys.mdp.support_policies import OtherPolicies, kept_events
from recsys.mdp.windows import Windows, had_items, read_events, read_windows, taken_pairs
from recsys.randomness import numpy_generator
from recsys.types import LongArray


@dataclass(frozen=True)
class TaskBatch:
    """Tasks with their support events as tokens and their queries."""

    support: StateBatch  # the first shots events of each task; it knows all that the user takes, the query among it
    shots: torch.Tensor  # (task,)
    query_task: torch.Tensor  # (query,) sorted
    query_item: torch.Tensor  # (query,) distinct in a task, rewarded, not had in its support


def trainable(log: PreparedLog, *, identified_only: bool) -> LongArray:
    """Return the histories that are trained on; anonymous sessions are left out unless there is nothing else."""
    histories = training_histories(log)
    return identified(log, histories) if identified_only else histories


def old_and_new_tasks(
    log: PreparedLog, new_share: float, seed: int, *, identified_only: bool
) -> tuple[LongArray, LongArray]:
    """Split the training histories into (old, new) tasks; pretraining reads only old ones.

    New tasks are `new_share` of the identified users; an anonymous session is not a user to adapt to.
    """
    histories = trainable(log, identified_only=identified_only)
    users = histories[np.asarray(log.history_user[histories]) >= 0]
    drawn = numpy_generator(seed, "new-tasks").permutation(users)[: round(new_share * len(users))]
    return np.setdiff1d(histories, drawn), np.sort(drawn)


def task_starts(
    log: PreparedLog, histories: LongArray, min_events: int, *, first_only: bool = False
) -> Windows:
    """Return [session start, end of training] of every place where a task may begin; (start,).

    With `first_only` a task begins where its history does, as a new user's does.
    """
    length = log.history_train_end[histories]
    row = np.repeat(np.arange(len(histories)), length)
    place = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
    event = log.history_offsets[histories][row] + place
    session = np.asarray(log.session[event])
    starts = np.ones(len(event), bool)
    starts[1:] = (session[1:] != session[:-1]) & (not first_only)
    starts |= place == 0
    end = log.history_offsets[histories][row] + length[row]
    kept = starts & (end - event >= min_events)
    return Windows(event[kept], end[kept], histories[row][kept])


def draw_shots(available: LongArray, max_support: int, generator: np.random.Generator) -> LongArray:
    """Draw numbers of support events, P(k) ∝ log(1 + 1/k) up to `max_support`, leaving at least one event; (task,)."""
    drawn = np.floor(np.exp(generator.random(len(available)) * np.log(max_support + 1))).astype(np.int64)
    shots: LongArray = np.clip(np.minimum(drawn, available - 1), 1, max_support)
    return shots


def task_batches(
    log: PreparedLog,
    starts: Windows,
    batch_size: int,
    max_support: int,
    max_query: int,
    generator: np.random.Generator,
    others: OtherPolicies | None = None,
) -> Iterator[TaskBatch]:
    """Yield every start once, in random order, with a fresh number of shots; queries end after `max_query` events.

    A share of the supports is what `others` would have logged; their query is all that the support left out.
    """
    order = generator.permutation(len(starts))
    for first in range(0, len(order), batch_size):
        tasks = starts.take(order[first : first + batch_size])
        shots = draw_shots(tasks.end - tasks.start, max_support, generator)
        middle = tasks.start + shots
        if others is None:
            begin = middle
            support = read_windows(log, Windows(tasks.start, middle, tasks.history), generator)
        else:
            elsewhere = generator.random(len(tasks)) < others.share
            policy = np.where(elsewhere, generator.integers(0, len(others.names), len(tasks)), -1)
            begin = np.where(elsewhere, tasks.start, middle)
            events = kept_events(
                log.item, tasks.start, tasks.end - tasks.start, shots, policy, others, generator
            )
            support = read_events(log, events, tasks, shots, generator)
        task, item = _query(log, begin, np.minimum(tasks.end, middle + max_query), had_items(support).numpy())
        if not len(item):  # a small batch of users who only take again what they have: nothing to learn from
            continue
        support = replace(support, takes=taken_pairs(log, tasks.history))
        yield TaskBatch(support, torch.from_numpy(shots), torch.from_numpy(task), torch.from_numpy(item))


def _query(
    log: PreparedLog, start: LongArray, end: LongArray, support: LongArray
) -> tuple[LongArray, LongArray]:
    """Return (task, item) of the distinct, rewarded items of [start, end) that the support has not, by task."""
    lengths = end - start
    task = np.repeat(np.arange(len(start)), lengths)
    event = (
        np.arange(len(task)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(start, lengths)
    )
    rewarded = np.asarray(log.reward[event]) > 0
    width = len(log.content) + 1
    # one number per (task, item), so that distinct and absent are one-dimensional questions
    wanted = task[rewarded] * width + np.asarray(log.item[event])[rewarded]
    known = np.arange(len(support))[:, None] * width + support
    pairs = np.setdiff1d(wanted, known[support >= 0])
    return pairs // width, pairs % width

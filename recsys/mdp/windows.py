"""Windows of logged histories: stretches of the contiguous arrays that the sequence ranker learns from.

A window is a stretch of at most `max_events` events of one history, read as if the user were new at its start; so one
long history gives many short ones and the start of a history is never rarer than its middle. Window edges are moved
and events that share one timestamp are reordered at every epoch: their order in the log carries no information.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch

from recsys.logs.prepared import PreparedLog
from recsys.mdp.state import StateBatch, lay_tokens
from recsys.types import ByteArray, LongArray

ATTRIBUTE_DROPOUT = 0.3  # a live user often comes without attributes, and unknown must not mean anonymous
CUT: Final = 0  # what stands behind a window: the same session,
SESSION_OVER: Final = 1  # a later session, known to training or not,
HISTORY_OVER: Final = 2  # or nothing at all in the log
ROW_SHIFT: Final = 32  # bits of an item's index in a (row, item) pair


@dataclass(frozen=True)
class Windows:
    """Event ranges [start, end) with the history each belongs to, all (window,)."""

    start: LongArray
    end: LongArray
    history: LongArray

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: LongArray) -> "Windows":
        """Return some of the windows."""
        return Windows(self.start[rows], self.end[rows], self.history[rows])


@dataclass(frozen=True)
class WindowBatch(StateBatch):
    """Tokens of windows of a log, which knows how they go on; a live history has no such column."""

    ending: torch.Tensor  # (batch,) int8, what stands behind the last token
    had: torch.Tensor  # (batch, time) bool, all tokens but those that were shown without response
    takes: (
        torch.Tensor
    )  # (pair,) int64, sorted: what whole histories take, row << ROW_SHIFT | item; empty = not read


def cut_windows(
    log: PreparedLog, histories: LongArray, max_events: int, min_events: int, generator: np.random.Generator
) -> Windows:
    """Cut the training part of histories into windows at randomly shifted edges."""
    begin = log.history_offsets[histories]
    length = log.history_train_end[histories]
    # the first piece of a long history is shortened by a random shift, every other piece has full length
    first = np.where(length > max_events, generator.integers(1, max_events + 1, len(histories)), length)
    pieces = np.where(length > 0, 1 + np.maximum(0, -(-(length - first) // max_events)), 0)
    row = np.repeat(np.arange(len(histories)), pieces)
    number = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = np.where(number == 0, 0, first[row] + (number - 1) * max_events)
    end = np.minimum(np.where(number == 0, first[row], start + max_events), length[row])
    kept = end - start >= min_events
    return Windows((begin[row] + start)[kept], (begin[row] + end)[kept], histories[row][kept])


def batches(
    windows: Windows, batch_size: int, generator: np.random.Generator, *, similar_length: bool = True
) -> Iterator[Windows]:
    """Yield shuffled batches; windows of similar length share a batch so that little of it is padding."""
    order = generator.permutation(len(windows))
    if similar_length:
        length = (windows.end - windows.start)[order] // 8
        order = order[np.argsort(length, kind="stable")]
    starts = np.arange(0, len(order), batch_size)
    for start in generator.permutation(starts):
        yield windows.take(order[start : start + batch_size])


def read_windows(
    log: PreparedLog,
    windows: Windows,
    generator: np.random.Generator | None,
    *,
    whole_histories: bool = False,
) -> WindowBatch:
    """Return the tokens of windows; a generator, if given, reorders events of equal time and hides attributes.

    Asked for, the batch also knows what the users take outside their windows, in the training part of their histories.
    """
    lengths = windows.end - windows.start
    events = (
        np.arange(int(lengths.sum()))
        - np.repeat(np.cumsum(lengths) - lengths, lengths)
        + np.repeat(windows.start, lengths)
    )
    batch = read_events(log, events, windows, lengths, generator)
    return replace(batch, takes=taken_pairs(log, windows.history)) if whole_histories else batch


def read_events(
    log: PreparedLog,
    events: LongArray,  # (event,) window by window
    windows: Windows,  # that the events come from
    lengths: LongArray,  # (window,) events of each
    generator: np.random.Generator | None,
) -> WindowBatch:
    """Return the tokens of some events of windows, as `read_windows` does of all."""
    rows = np.repeat(np.arange(len(windows)), lengths)
    timestamp = np.asarray(log.timestamp[events])
    session = np.asarray(log.session[events])
    if generator is not None:
        events = events[np.lexsort((generator.random(len(events)), session, timestamp, rows))]
    attributes = attributes_of(log, windows.history)
    if generator is not None:
        attributes[generator.random(attributes.shape) < ATTRIBUTE_DROPOUT] = 0
    tokens = lay_tokens(
        item=log.item[events],
        event_type=log.event_type[events],
        reward=log.reward[events],
        timestamp=timestamp,
        session=session,
        lengths=lengths,
        attributes=attributes,
    )
    has = tokens.present
    if log.info.shown_type is not None:
        has = has & (tokens.event_type != log.info.shown_type)
    return WindowBatch(
        **vars(tokens),
        ending=torch.from_numpy(endings(log, windows)),
        had=has,
        takes=torch.empty(0, dtype=torch.int64),
    )


def taken_pairs(log: PreparedLog, histories: LongArray) -> torch.Tensor:
    """Return what histories take in their training parts as sorted row << ROW_SHIFT | item, (pair,)."""
    length = log.history_train_end[histories]
    row = np.repeat(np.arange(len(histories)), length)
    event = np.arange(len(row)) - np.repeat(
        np.cumsum(length) - length - log.history_offsets[histories], length
    )
    if log.info.shown_type is not None:
        did = np.asarray(log.event_type[event]) != log.info.shown_type
        row, event = row[did], event[did]
    return torch.from_numpy(np.unique((row << ROW_SHIFT) | np.asarray(log.item[event]).astype(np.int64)))


def endings(log: PreparedLog, windows: Windows) -> ByteArray:
    """Return what the log holds behind each window, (window,): a history cut for training goes on all the same."""
    session = log.session
    last = np.maximum(windows.end - 1, 0)
    after = np.minimum(windows.end, max(len(session) - 1, 0))
    over = windows.end >= log.history_offsets[windows.history + 1]
    changes = np.asarray(session[last]) != np.asarray(session[after])
    return np.where(over, HISTORY_OVER, np.where(changes, SESSION_OVER, CUT)).astype(np.int8)


def attributes_of(log: PreparedLog, histories: LongArray) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Return user attributes of histories, zeros for anonymous ones; (history, attribute)."""
    user = np.asarray(log.history_user[histories])
    attributes = np.zeros((len(user), log.user_attributes.shape[1]), np.int32)
    attributes[user >= 0] = log.user_attributes[user[user >= 0]]
    return attributes


def had_items(batch: StateBatch) -> torch.Tensor:
    """Return the items that users have by doing something with them, (batch, time); -1 elsewhere."""
    return batch.item.where(batch.had, -1) if isinstance(batch, WindowBatch) else batch.item


def ever_taken(batch: StateBatch, item: torch.Tensor) -> torch.Tensor:
    """Mark shared items that each row's user takes at any time, as far as the batch knows, (batch, item)."""
    if not isinstance(batch, WindowBatch) or not len(batch.takes):
        return (had_items(batch)[:, :, None] == item).any(dim=1)
    asked = (torch.arange(len(batch.item), device=item.device)[:, None] << ROW_SHIFT) | item
    place = torch.searchsorted(batch.takes, asked).clamp(max=len(batch.takes) - 1)
    return batch.takes[place] == asked


def first_seen(batch: StateBatch) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Mark tokens whose item the user has not had earlier in the same row; (batch, time), False on padding.

    What was shown without response is not had, neither then nor for a response later on.
    """
    item = had_items(batch).numpy()
    rows, columns = np.nonzero(item >= 0)
    flat = rows.astype(np.int64) * (int(item.max(initial=0)) + 1) + item[rows, columns]
    _, first = np.unique(
        flat, return_index=True
    )  # np.unique returns the earliest index; row-major order is time order
    mask = np.zeros(item.shape, bool)
    mask[rows[first], columns[first]] = True
    return mask

"""Which impression a response belongs to: hand-made logs."""

import pandas as pd
import pytest

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.evaluation.replay.attribution import attribute
from recsys.evaluation.replay.log import from_table, requests_of
from recsys.evaluation.replay.tally import Vocabulary
from tests.evaluation.replay.served_log import row as event

REWARD = RewardConfig(base={"click": 1.0, "purchase": 5.0})


def frame(*rows: tuple[float, str, str, str | None, int | None]) -> pd.DataFrame:
    """Return events of one user: (second, item, type, recommendation, position)."""
    import pyarrow as pa

    from recsys.logs.schema import EVENTS

    made = [
        event(str(number), 0, second, item, kind)
        | {c.RECOMMENDATION_ID: recommendation, c.POSITION: position, c.PROPENSITY: 0.5}
        for number, (second, item, kind, recommendation, position) in enumerate(rows)
    ]
    return next(iter(from_table(pa.Table.from_pylist(made, schema=EVENTS))))


def rewards(events: pd.DataFrame, window: float = 60.0) -> list[float]:
    earned = attribute(events, Vocabulary().codes(events[c.ITEM_ID]), REWARD, window)
    return earned.reward[(events[c.EVENT_TYPE] == c.IMPRESSION).to_numpy()].tolist()


def test_a_named_response_belongs_to_its_list_even_if_a_newer_one_shows_the_item() -> None:
    events = frame(
        (0, "a", c.IMPRESSION, "r1", 0),
        (10, "a", c.IMPRESSION, "r2", 0),
        (20, "a", c.CLICK, "r1", None),
    )
    assert rewards(events) == [1.0, 0.0]


def test_a_nameless_response_belongs_to_the_newest_impression_of_its_item() -> None:
    events = frame(
        (0, "a", c.IMPRESSION, "r1", 0),
        (10, "a", c.IMPRESSION, "r2", 0),
        (11, "b", c.IMPRESSION, "r3", 0),
        (20, "a", c.CLICK, None, None),
        (25, "z", c.CLICK, None, None),
    )
    assert rewards(events) == [0.0, 1.0, 0.0]


def test_the_window_is_closed_at_its_end_and_empty_before_the_impression() -> None:
    events = frame(
        (100, "a", c.IMPRESSION, "r1", 0),
        (99, "a", c.CLICK, None, None),
        (160, "a", c.CLICK, "r1", None),
        (161, "a", c.PURCHASE, "r1", None),
    )
    assert rewards(events) == [1.0]
    assert rewards(events, window=61.0) == [6.0]
    with pytest.raises(UserError, match="must be above 0"):
        rewards(events, window=0.0)


def test_what_was_not_claimed_is_counted() -> None:
    events = frame(
        (0, "a", c.IMPRESSION, "r1", 0), (5, "b", c.CLICK, None, None), (6, "a", c.CLICK, "r1", None)
    )
    earned = attribute(events, Vocabulary().codes(events[c.ITEM_ID]), REWARD, 60.0)
    assert (earned.by_recommendation, earned.by_item, earned.unclaimed) == (1, 0, 1)


def test_lists_that_cannot_be_used_are_counted_and_left_out() -> None:
    events = frame(
        (0, "a", c.IMPRESSION, "r1", 0),
        (0, "b", c.IMPRESSION, "r1", 2),  # a gap
        (1, "a", c.IMPRESSION, "r2", 1),
        (1, "b", c.IMPRESSION, "r2", 1),  # doubled
        (2, "b", c.IMPRESSION, "r3", 1),
        (2, "a", c.IMPRESSION, "r3", 0),
        (3, "a", c.IMPRESSION, "r4", 2),  # alone: a list of one
        (4, "a", c.IMPRESSION, None, 0),
    )
    events.loc[events[c.RECOMMENDATION_ID] == "r3", c.PROPENSITY] = [0.5, 0.25]
    vocabulary = Vocabulary()
    requests = requests_of(events, vocabulary.codes(events[c.ITEM_ID]))
    assert requests.recommendation == ["r3", "r4"]
    assert requests.length.tolist() == [2, 1]
    assert requests.item[0].tolist() == [0, 1]
    assert requests.item[1].tolist() == [0, -1]
    assert dict(requests.dropped) == {
        "impressions without a recommendation_id": 1,
        "lists with a gap or a doubled position": 2,
    }

"""Drift: quiet where users are those of before, heard where tastes, worth, newcomers or exploration change."""

import numpy as np
import pyarrow as pa
import pytest

from recsys import columns as c
from recsys.config import RewardConfig
from recsys.errors import UserError
from recsys.evaluation.drift import Drift, measure_drift
from recsys.evaluation.replay.log import EventSource, from_table
from recsys.logs.schema import EVENTS
from recsys.loop_config import DriftConfig

HOUR = 3_600_000_000
START = 1_700_000_000_000_000
CONFIG = DriftConfig(window_hours=10.0, reference_hours=40.0, min_lists=100, resamples=100)


def traffic(
    seed: int,
    *,
    taste: float = 0.0,
    rate: float = 0.3,
    new: float = 0.5,
    narrow: float = 0.0,
    users: int = 200,
) -> EventSource:
    """Return 40 hours of steady traffic and 10 of traffic that the arguments change."""
    chance = np.random.default_rng(seed)
    # the old users were there long before both windows
    rows = [row(f"old-{n}", f"old-{n}", START - 100 * HOUR, 0, c.CLICK) for n in range(users)]
    for window, (hours, share, tilt, wanted, tight) in enumerate(
        ((40, 0.5, 0.0, 0.3, 0.0), (10, new, taste, rate, narrow))
    ):
        for number in range(users):
            user = f"{window if chance.random() < share else 'old'}-{number}"
            personal = chance.normal(0, 0.3, 20)
            start = START + window * 40 * HOUR
            for _ in range(6):
                weight = np.exp(tight * np.arange(20) / 5 + personal)
                weight /= weight.sum()
                item = int(chance.choice(20, p=weight))
                moment = start + int(chance.random() * hours * HOUR)
                shown = f"{window}-{number}-{moment}"
                rows.append(
                    row(f"{shown}:0", user, moment, item, c.IMPRESSION)
                    | {c.RECOMMENDATION_ID: shown, c.POSITION: 0, c.PROPENSITY: float(weight[item])}
                )
                if chance.random() < wanted * np.exp(tilt * (item - 10) / 10):
                    rows.append(row(shown, user, moment + 1, item, c.CLICK) | {c.RECOMMENDATION_ID: shown})
    return from_table(pa.Table.from_pylist(rows, schema=EVENTS))


def row(event: str, user: str, moment: int, item: int, kind: str) -> dict[str, object]:
    return dict.fromkeys(EVENTS.names) | {
        c.EVENT_ID: event, c.USER_ID: user, c.SESSION_ID: "s", c.TIMESTAMP: moment, c.ITEM_ID: f"i{item}",
        c.EVENT_TYPE: kind,
    }  # fmt: skip


def measured(source: EventSource, config: DriftConfig = CONFIG) -> Drift:
    return measure_drift(source, RewardConfig(), 3600.0, config, 7)


def drifted(drift: Drift) -> set[str]:
    return {row.name for row in drift.rows if row.verdict == "drifted"}


def test_users_like_those_before_are_no_drift() -> None:
    quiet = [measured(traffic(seed)) for seed in range(3)]
    assert [drifted(drift) for drift in quiet] == [set()] * 3
    assert all(drift.verdict == "steady" for drift in quiet)
    # chance is taken off: what is left of the distances scatters about 0
    assert abs(np.mean([drift.rows[0].change for drift in quiet])) < 0.05


@pytest.mark.parametrize(
    ("changed", "heard"),
    [
        ({"taste": 2.0}, "item mix"),
        ({"rate": 0.15}, "reward rate"),
        ({"new": 1.0}, "cold share"),
        ({"narrow": 2.0}, "overlap lost"),
        ({"narrow": 4.0}, "log10 propensity"),
    ],
)
def test_each_change_is_heard_by_the_measure_that_is_for_it(changed: dict[str, float], heard: str) -> None:
    drift = measured(traffic(1, **changed))
    assert heard in drifted(drift)
    assert drift.verdict == "drifted"
    assert drift.sentence.startswith("Drifted: ")


def test_means_and_shares_are_those_of_the_log() -> None:
    drift = measured(traffic(3, rate=0.6))
    reward = next(row for row in drift.rows if row.name == "reward rate")
    assert reward.before == pytest.approx(0.2 * 0.3, rel=0.15)
    assert reward.now == pytest.approx(0.2 * 0.6, rel=0.15)
    assert reward.low < reward.change < reward.high
    assert sum(drift.lists) == 2400


def test_too_few_lists_say_nothing() -> None:
    drift = measured(traffic(1, taste=2.0), CONFIG.model_copy(update={"min_lists": 5000}))
    assert drift.verdict == "too few"
    assert "now, at least 5,000 of each are needed; wait for more, or set improve.drift." in drift.sentence
    with pytest.raises(UserError, match="0 lists"):
        measured(from_table(EVENTS.empty_table()))

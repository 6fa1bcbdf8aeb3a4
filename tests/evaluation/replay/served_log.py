"""A log that a real bundle served to users whose clicks follow a known rule, as canonical events."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys import columns as c
from recsys.logs.schema import EVENTS
from recsys.recommender import LoggedEvent, Recommender

START = 1_700_000_000.0
DRAWS = 6
Chance = Callable[[int, int], float]  # (item, position) -> probability of a click


@dataclass(frozen=True)
class World:
    """Clicks hang on the item and its position alone."""

    appeal: np.ndarray
    fading: float = 0.8

    def chance(self, item: int, position: int) -> float:
        return float(self.appeal[item] * self.fading**position)


def world(items: int, seed: int = 0) -> World:
    return World(np.random.default_rng(seed).uniform(0.05, 0.6, items))


def served_log(
    recommender: Recommender,
    rule: World,
    users: int,
    requests: int = 4,
    length: int = 3,
    seed: int = 0,
    name_feedback: bool = True,
    value: list[float] | None = None,
    other: Recommender | None = None,
    other_value: list[float] | None = None,
) -> pa.Table:
    """Serve users and log every list with its clicks.

    `value` receives the expected clicks of each list, `other_value` those of lists of `other` at the same moments: what
    replay estimates, histories being those that were logged.
    """
    generator = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    ids = recommender.catalogue.item_ids
    for user in range(users):
        events: list[LoggedEvent] = []
        clock = START + generator.random() * 86_400 * 5
        for request in range(requests):
            history = recommender.history(events)
            given = recommender.recommend(history, length, seed=int(generator.integers(2**31)))
            recommendation = f"r{user}-{request}"
            if other is not None and other_value is not None:
                theirs = other.history(events)
                for _ in range(DRAWS):
                    drawn = other.recommend(theirs, length, seed=int(generator.integers(2**31))).items
                    other_value.append(sum(rule.chance(item, at) for at, item in enumerate(drawn.tolist())))
            expected = 0.0
            for position, (item, propensity) in enumerate(
                zip(given.items.tolist(), given.propensities.tolist(), strict=True)
            ):
                rows.append(
                    row(f"{recommendation}:{position}", user, clock, ids[item], c.IMPRESSION)
                    | {
                        c.RECOMMENDATION_ID: recommendation,
                        c.POSITION: position,
                        c.PROPENSITY: propensity,
                        c.POLICY_VERSION: f"{recommender.version} {given.policy}",
                    }
                )
                expected += rule.chance(item, position)
                if generator.random() < rule.chance(item, position):
                    moment = clock + 5.0 + position
                    events.append(LoggedEvent(ids[item], c.CLICK, None, moment, f"s{user}"))
                    named = {c.RECOMMENDATION_ID: recommendation} if name_feedback else {}
                    rows.append(
                        row(f"{recommendation}:{position}c", user, moment, ids[item], c.CLICK) | named
                    )
            if value is not None:
                value.append(expected)
            clock += 600.0 + 3_000.0 * generator.random()
    return pa.Table.from_pylist(rows, schema=EVENTS)


def row(event: str, user: int, moment: float, item: str, kind: str) -> dict[str, object]:
    blank: dict[str, object] = dict.fromkeys(EVENTS.names)
    return blank | {
        c.EVENT_ID: event,
        c.USER_ID: f"u{user}",
        c.SESSION_ID: f"s{user}",
        c.TIMESTAMP: round(moment * 1e6),
        c.ITEM_ID: item,
        c.EVENT_TYPE: kind,
    }

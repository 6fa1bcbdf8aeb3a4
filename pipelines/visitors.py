"""Simulated visitors of a real endpoint: users of the world of recsys/logs/simulator.py who read lists from the top.

A visitor asks for a list, looks at one item after the other and responds as the world says, until the list or the
visit ends; what they saw and did goes to the endpoint with the times of their own clock, which lie in the days before
`end`. Visitors know nothing of each other, so all who are present ask at once.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from recsys import columns as c
from recsys.errors import UserError
from recsys.logs.simulator import RESPONSES, UserState, World
from recsys.logs.simulator_stream import RESPONSE_DELAY_S, SEGMENT, item_ids
from recsys.types import IntArray, LongArray

_ASKING: Final = 8  # requests at once
_BATCH: Final = 2_000  # events of one request
_DAY_S: Final = 86_400


@dataclass(frozen=True)
class Plan:
    """Who comes, when, and what they ask for."""

    visitors: int
    days: float  # over which they arrive
    end: datetime  # nobody asks later
    n: int = 3  # items of a list
    most_lists: int = 50  # of one visitor
    prefix: str = "v"  # of their ids


def visit(url: str, world: World, plan: Plan, generator: np.random.Generator) -> pd.DataFrame:
    """Let visitors use an endpoint; return one row per list in the order of their clocks.

    user_id, timestamp, recommendation_id, model, policy, variant, served_by, support_events, seen (items looked at) and
    reward. Raises UserError if httpx is missing or the endpoint refuses something.
    """
    with _Talk(url) as talk:
        return _Visits(world, plan, generator, talk).played()


class _Visits:
    """All visitors at once, in rounds: everybody present asks for one list and looks at it."""

    def __init__(self, world: World, plan: Plan, generator: np.random.Generator, talk: "_Talk") -> None:
        self.world, self.plan, self.generator, self.talk = world, plan, generator, talk
        self.names = [f"{plan.prefix}{number}" for number in range(plan.visitors)]
        self.users: UserState = world.begin(plan.visitors, generator)
        self.end_s = int(plan.end.timestamp())
        begin = plan.end - timedelta(days=plan.days)
        arrival = generator.random(plan.visitors) * plan.days * _DAY_S
        self.clock: LongArray = int(begin.timestamp()) + arrival.astype(np.int64)
        self.gone = np.zeros(plan.visitors, bool)
        self.lists = np.zeros(plan.visitors, np.int64)
        self.index_of = {item: place for place, item in enumerate(item_ids(world).to_pylist())}

    def played(self) -> pd.DataFrame:
        segments = [f"segment {number}" for number in self.users.segment]
        self.talk.send(
            [
                {"type": "user", "user": user, "attributes": {SEGMENT: segment}}
                for user, segment in zip(self.names, segments, strict=True)
            ]
        )
        rounds = []
        while len(present := self._present()):
            rounds.append(self._round(present))
        frame = pd.concat(rounds, ignore_index=True).sort_values(
            "timestamp", kind="stable", ignore_index=True
        )
        return frame.assign(timestamp=pd.to_datetime(frame["timestamp"], unit="s", utc=True))

    def _present(self) -> IntArray:
        here = ~self.gone & (self.clock < self.end_s) & (self.lists < self.plan.most_lists)
        return np.flatnonzero(here).astype(np.int32)

    def _round(self, present: IntArray) -> pd.DataFrame:
        answers = self.talk.ask([self.names[who] for who in present], self.plan.n)
        asked = self.clock[present].copy()
        given = [[self.index_of[item["item_id"]] for item in answer["items"]] for answer in answers]
        seen = np.zeros(len(present), np.int64)
        reward = np.zeros(len(present))
        looking = np.array([bool(items) for items in given])
        told: list[dict[str, Any]] = []
        for position in range(self.plan.n):
            rows = np.flatnonzero(looking)
            if not len(rows):
                break
            who = present[rows]
            shown = np.array([given[row][position] for row in rows], np.int32)
            outcome = self.world.step(self.users.at(who), shown, self.generator)
            self.users = self.users.put(who, outcome.users)
            told += [
                {
                    "user": self.names[present[row]],
                    "event_id": f"{answers[row]['recommendation_id']}/{position}",
                    "item_id": answers[row]["items"][position]["item_id"],
                    "event_type": RESPONSES[response],
                    "recommendation_id": answers[row]["recommendation_id"],
                    "position": position,
                    "timestamp": int(self.clock[present[row]]) + RESPONSE_DELAY_S,
                }
                for row, response in zip(rows.tolist(), outcome.response.tolist(), strict=True)
                if response
            ]
            seen[rows] += 1
            reward[rows] += outcome.reward
            self.clock[who] += outcome.gap_s
            self.gone[who] |= outcome.terminated
            looking[rows[outcome.session_ended]] = False
            looking &= np.array([len(items) > position + 1 for items in given])
        self.lists[present] += 1
        self.talk.send(list(_impressions(self.names, present, answers, seen, asked)) + told)
        columns = (c.RECOMMENDATION_ID, "model", "policy", "variant", "served_by", "support_events")
        return pd.DataFrame(
            {
                c.USER_ID: [self.names[who] for who in present],
                c.TIMESTAMP: asked,
                **{name: [answer[name] for answer in answers] for name in columns},
                "seen": seen,
                "reward": reward,
            }
        )


def _impressions(
    names: list[str], present: IntArray, answers: list[dict[str, Any]], seen: LongArray, asked: LongArray
) -> Iterator[dict[str, Any]]:
    """Yield what visitors saw of their lists: the items from the top down to where they stopped."""
    for who, answer, count, at in zip(present, answers, seen, asked, strict=True):
        yield {
            "type": "impression",
            "user": names[who],
            "recommendation_id": answer["recommendation_id"],
            "items": [item["item_id"] for item in answer["items"][:count]],
            "timestamp": int(at),
        }


class _Talk:
    """Requests to the endpoint from a few threads: a notebook has an event loop of its own, and would not lend it."""

    def __init__(self, url: str) -> None:
        try:
            import httpx
        except ImportError:
            raise UserError("visitors need httpx; pip install 'metaq[notebooks]'") from None
        self._http = httpx.Client(base_url=url, timeout=60.0)
        self._threads = ThreadPoolExecutor(_ASKING)

    def __enter__(self) -> "_Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        self._http.close()

    def ask(self, users: list[str], n: int) -> list[dict[str, Any]]:
        """Return a list for each user."""
        return list(
            self._threads.map(lambda user: self._post("/v1/recommend", {"user": user, "n": n}), users)
        )

    def send(self, rows: list[dict[str, Any]]) -> None:
        """Send events; raises UserError if one is refused."""
        for start in range(0, len(rows), _BATCH):
            answer = self._post("/v1/events", rows[start : start + _BATCH])
            if answer.get("rejected"):
                raise UserError(f"the endpoint refused an event: {answer['rejected'][0]['error']}")

    def _post(self, path: str, body: Any) -> dict[str, Any]:
        answer = self._http.post(path, json=body)
        if not answer.is_success:
            raise UserError(f"the endpoint answered {answer.status_code} to {path}: {answer.text[:200]}")
        content: dict[str, Any] = answer.json()
        return content

"""Simulated users at a real endpoint: they ask by HTTP, look at one item, respond by their world's rules, come back."""

import uuid
from dataclasses import dataclass, field

import httpx
import numpy as np

from recsys.logs.simulator import NONE, RESPONSES, World
from recsys.logs.simulator_stream import SEGMENT, item_ids


@dataclass
class Served:
    """What some users were shown and what came of it; one entry a list."""

    user: list[str] = field(default_factory=list)
    model: list[str] = field(default_factory=list)
    variant: list[str | None] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)

    def by_user(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """Return lists and reward of each user, (user, 2)."""
        _, place = np.unique(self.user, return_inverse=True)
        return np.stack([np.bincount(place), np.bincount(place, self.reward)], axis=1).astype(np.float64)


class Audience:
    """Users of a world, each with a life of its own; who has left for good is followed by somebody new."""

    def __init__(
        self, world: World, http: httpx.Client, users: int, seed: int, name: str, *, told: bool = False
    ) -> None:
        self._world, self._http, self._name, self._told = world, http, name, told
        self._chance = np.random.default_rng(seed)
        self._ids = item_ids(world).to_pylist()
        self._index = {item_id: index for index, item_id in enumerate(self._ids)}
        self._present = world.begin(users, self._chance)
        self._who: list[str] = [""] * users
        self._come = 0
        for row in range(users):
            self._arrive(row)

    def ask(self, lists: int) -> Served:
        """Let the users come in turn until they have been shown so many lists; raises if a request fails."""
        served = Served()
        for turn in range(lists):
            self._visit(turn % len(self._who), served)
        return served

    def _visit(self, row: int, served: Served) -> None:
        user = self._who[row]
        asked = {"user": user, "n": 1, "exclude_seen": False, "deadline_ms": 10_000}
        shown = self._http.post("/v1/recommend", json=asked).raise_for_status().json()
        item_id = shown["items"][0]["item_id"]
        rows = np.array([row])
        outcome = self._world.step(self._present.at(rows), np.array([self._index[item_id]]), self._chance)
        self._present = self._present.put(rows, outcome.users)
        if (response := int(outcome.response[0])) != NONE:
            event = {
                "event_id": uuid.uuid4().hex,
                "user": user,
                "item_id": item_id,
                "event_type": RESPONSES[response],
                "recommendation_id": shown["recommendation_id"],
            }
            self._http.post("/v1/events", json=event).raise_for_status()
        served.user.append(user)
        served.model.append(shown["model"])
        served.variant.append(shown["variant"])
        served.reward.append(float(outcome.reward[0]))
        if outcome.terminated[0]:
            self._present = self._present.put(rows, self._world.begin(1, self._chance))
            self._arrive(row)

    def _arrive(self, row: int) -> None:
        """Give a row's user a name, and tell the endpoint what is known of them."""
        self._who[row] = f"{self._name}-{self._come}"
        self._come += 1
        if self._told:
            segment = f"{SEGMENT} {int(self._present.segment[row])}"
            told = {"attributes": {SEGMENT: segment}}
            self._http.put(f"/v1/users/{self._who[row]}", json=told).raise_for_status()

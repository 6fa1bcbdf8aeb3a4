"""The live replay estimate: goes on only while somebody looks at it, a little at a time, away from any request.

Every two seconds it reads the newest lists, asks champion and challenger what they would have drawn, looks whether
responses have come in, and estimates anew. Models are asked on the event loop, which they share with requests, so each
piece of work is followed by a pause of so many times its length; sums are done in a thread.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from recsys.evaluation.intervals import Interval
from recsys.evaluation.live import SAID, LiveEstimate, estimate_live
from recsys.recommender import Recommender
from serving.console.served_lists import (
    WINDOW_S,
    ServedList,
    chances,
    earned,
    stacked,
    why_not,
)
from serving.dependencies import Service
from serving.event_log import Impression, from_row
from serving.identifiers import first_id
from serving.problems import Problem

log = logging.getLogger(__name__)

CHALLENGER: Final = "challenger"  # the alias
EVERY_S: Final = 2.0
PATIENCE_S: Final = 30.0  # without a reader it stops, and forgets what it held
FIRST: Final = 500  # lists of the last day to begin with, the newest
MOST_NEW: Final = 40  # lists a round; of more the newest are taken
MOST: Final = 2_000  # lists that are held
USERS: Final = 40  # whose events are read again in a round
PAUSE: Final = 50.0  # times the length of what was done
HISTORY: Final = 200  # events of a user in which responses are looked for
_NOTHING: Final = "Lists that this endpoint serves to users will be replayed here, as soon as there are some."


class LiveEstimator:
    """Follows the store while it is read."""

    def __init__(self) -> None:
        self._lists: OrderedDict[str, ServedList] = OrderedDict()  # oldest first
        self._left_out: Counter[str] = Counter()
        self._head = ""  # id of the newest line that was read
        self.pause = PAUSE
        self._wanted_until = 0.0
        self._turn = 0  # which users are looked at next
        self._task: asyncio.Task[None] | None = None
        self.told: dict[str, Any] = {}
        self._forget()

    def read(self, service: Service) -> dict[str, Any]:
        """Return the estimate as it stands, and let it go on."""
        self._wanted_until = time.monotonic() + PATIENCE_S
        if self.idle:
            self._task = asyncio.get_running_loop().create_task(self._follow(service))
        return self.told

    async def stop(self) -> None:
        """End what goes on."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _follow(self, service: Service) -> None:
        while time.monotonic() < self._wanted_until:
            try:
                await self.advance(service)
            except (
                Problem
            ) as problem:  # the store is away, or no model is in use: it is told where requests are
                log.info("the live estimate waits: %s", problem.message)
            except Exception:
                log.exception("the live estimate failed; it begins anew")
                self._forget()
            await asyncio.sleep(EVERY_S)
        self._forget()

    def _forget(self) -> None:
        self._lists.clear()
        self._left_out.clear()
        self._head = ""
        self.told = _told({}, 0, 0, 0, {}, None)

    @property
    def idle(self) -> bool:
        """Whether nothing goes on."""
        return self._task is None or self._task.done()

    async def advance(self, service: Service) -> None:
        """Do one round."""
        policies = self._policies(service)
        await self._take_in(service)
        await self._ask_models(policies)
        await self._look_for_responses(service, policies["champion"])
        versions = {role: model.version for role, model in policies.items()}
        ready = [one for one in self._lists.values() if set(versions.values()) <= set(one.chosen)]
        waiting = len(self._lists) - len(ready)
        found = None
        if ready:
            lists = stacked(ready, versions)
            found = await asyncio.to_thread(estimate_live, lists, versions)
        users = len({one.line.ask.user for one in ready})
        responses = sum(one.responded for one in ready)
        self.told = {
            **_told(versions, len(ready), users, responses, self._left_out, found),
            "waiting": waiting,
        }

    def _policies(self, service: Service) -> dict[str, Recommender]:
        """Return the challenger, if there is one, and the champion: models that are loaded anyhow."""
        snapshot = service.ready()
        loaded = {model.version: model for model in snapshot.others.values()}
        if snapshot.shadow is not None:
            loaded[snapshot.shadow.version] = snapshot.shadow
        loaded.pop(snapshot.champion.version, None)
        if not loaded:
            return {"champion": snapshot.champion}
        named = service.fleet.models()["aliases"].get(CHALLENGER)
        chosen = named if named in loaded else next(reversed(loaded))
        return {CHALLENGER: loaded[chosen], "champion": snapshot.champion}

    async def _take_in(self, service: Service) -> None:
        """Read the lists since the last round, the newest first, so that those beyond the bound are the oldest."""
        first = not self._head
        after = self._head or first_id(time.time() - WINDOW_S)
        rows = await service.store.recent(after, FIRST if first else MOST_NEW)
        if not rows:
            return
        self._head = rows[0][0]
        lines: list[Impression] = await asyncio.to_thread(lambda: [from_row(row) for row in reversed(rows)])
        for line in lines:
            reason = why_not(line)
            if reason is not None:
                self._left_out[reason] += 1
            else:
                self._lists[line.recommendation_id] = ServedList(line, np.zeros(len(line.item_ids)))
        while len(self._lists) > MOST:
            self._lists.popitem(last=False)

    async def _ask_models(self, policies: dict[str, Recommender]) -> None:
        """Ask the models about the newest lists that they have not been asked about, for as long as a round lasts."""
        until = time.monotonic() + EVERY_S
        for key in reversed(list(self._lists)):
            served = self._lists[key]
            missing = [model for model in policies.values() if model.version not in served.chosen]
            if not missing:
                continue
            for model in missing:
                began = time.perf_counter()
                served.chosen[model.version] = chances(model, served.line)
                await asyncio.sleep(self.pause * (time.perf_counter() - began))
            if time.monotonic() > until:
                return

    async def _look_for_responses(self, service: Service, champion: Recommender) -> None:
        """Read some users' events again; lists whose lines have gone are forgotten."""
        by_user: dict[str, list[str]] = {}
        for key in reversed(self._lists):
            by_user.setdefault(self._lists[key].line.ask.user, []).append(key)
        users = list(by_user)
        fresh = users[:USERS]  # those of the newest lists, and some of the others in turn
        others = users[USERS:]
        start = self._turn % max(1, len(others))
        self._turn = start + USERS
        for user in [*fresh, *others[start : start + USERS]]:
            began = time.perf_counter()
            events = await service.store.events(user, HISTORY)
            for key in by_user[user]:
                served = self._lists[key]
                served.reward = earned(served.line, events, champion.reward, champion.event_types)
                if await service.store.impression(key) is None:  # deleted with its user
                    del self._lists[key]
            await asyncio.sleep(self.pause * (time.perf_counter() - began))


def _told(
    versions: dict[str, str],
    lists: int,
    users: int,
    responses: int,
    left_out: Counter[str] | dict[str, int],
    found: LiveEstimate | None,
) -> dict[str, Any]:
    rows = []
    if found is not None:
        rows = [{"role": "logged", "name": "as served", **_bounds(found.logged)}]
        rows += [
            {"role": role, "name": role, "version": versions[role], **_bounds(interval)}
            for role, interval in reversed(list(found.values.items()))
        ]
    return {
        "versions": versions,
        "lists": lists,
        "users": users,
        "responses": responses,
        "waiting": 0,
        "left_out": dict(left_out),
        "assumption": SAID,
        "decision": None if found is None else found.decision,
        "sentence": _NOTHING if found is None else _sentence(versions, found),
        "rows": rows,
        "difference": None if found is None or found.difference is None else _bounds(found.difference),
        "gates": []
        if found is None
        else [{**asdict(gate), "policy": role} for role, gates in found.gates.items() for gate in gates],
    }


def _bounds(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _sentence(versions: dict[str, str], found: LiveEstimate) -> str:
    who = versions.get(CHALLENGER)
    if found.decision == "cannot say":
        failed = next(
            (role, gate) for role, gates in found.gates.items() for gate in gates if gate.verdict == "fail"
        )
        asked = f"whether {who} would do better" if who else "what the champion earns"
        return f"These logs cannot say {asked}: {failed[1].says} ({failed[0]})."
    if who is None:
        return (
            "The champion alone is watched. Let another version rank in the shadow, or in a variant of an experiment, "
            "to compare it here."
        )
    told = {
        "better": f"{who} would have earned more than the champion.",
        "worse": f"{who} would have earned less than the champion.",
        "no difference seen": f"No difference between {who} and the champion is seen.",
    }
    return told[found.decision or "no difference seen"]

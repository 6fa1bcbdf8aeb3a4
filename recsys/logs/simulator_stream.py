"""Logs of any size from the simulated world, a chunk of users at a time, as canonical tables.

Every shown item is an impression with its propensity; a response is an event of its own a few seconds later that
carries the same recommendation id. Users live their whole lives (to the last event: gone for good, terminal). Chance
is drawn for blocks of users of fixed size, so the log does not depend on how it is cut into chunks, and a longer log
begins with the users of a shorter one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.errors import UserError
from recsys.logs.schema import EVENTS, ITEMS, TIMESTAMP_TYPE
from recsys.logs.simulator import KINDS, NONE, RESPONSES, RealArray, UserState, World
from recsys.logs.simulator_policies import MOST_STEPS, WorldPolicy
from recsys.randomness import numpy_generator
from recsys.types import ByteArray, IntArray, LongArray

SEGMENT: Final = "segment"  # the user attribute
EPOCH_S: Final = 1_704_067_200  # 2024-01-01, when the first users arrive
_BLOCK: Final = 2048  # users whose chance is drawn together
RESPONSE_DELAY_S: Final = 3
_PER_SECOND: Final = 1_000_000


@dataclass(frozen=True)
class Actions:
    """What was shown to some users in their whole lives, user by user in time order; arrays of shape (action,)."""

    user: LongArray
    step: LongArray  # of the user's life
    session: IntArray  # ordinal in the user's life
    timestamp: LongArray  # seconds, UTC
    item: IntArray
    propensity: RealArray
    response: ByteArray  # code into RESPONSES

    def __len__(self) -> int:
        return len(self.user)

    def of_users(self, first: int, end: int) -> "Actions":
        """Return the actions of users first ≤ user < end."""
        part = slice(*np.searchsorted(self.user, [first, end]))
        return Actions(**{name: getattr(self, name)[part] for name in Actions.__dataclass_fields__})


@dataclass(frozen=True)
class LogChunk:
    """Some users with everything that was shown to them."""

    users: pa.Table
    events: pa.Table  # schema.EVENTS


def item_ids(world: World) -> pa.Array:
    """Return the items' ids, whose alphabetical order is the order of the items' indices."""
    width = len(str(world.settings.items - 1))
    number = pa.array(np.arange(world.settings.items)).cast(pa.string())
    padded = pc.utf8_lpad(number, width, "0")
    return pc.binary_join_element_wise("i", padded, "")


def items_table(world: World) -> pa.Table:
    """Return the catalogue: topic and kind are the categories, appeal is hidden."""
    topics = [f"topic {topic}" for topic in world.topic]
    kinds = [KINDS[kind] for kind in world.kind]
    columns = {
        c.ITEM_ID: item_ids(world),
        c.TITLE: pa.array([f"{kind} on {topic}" for topic, kind in zip(topics, kinds, strict=True)]),
        c.CATEGORIES: pa.array(list(zip(topics, kinds, strict=True)), pa.list_(pa.string())),
    }
    return pa.table(columns, schema=pa.schema([ITEMS.field(name) for name in columns]))


def stream_events(
    world: World,
    policy: WorldPolicy,
    users: int,
    seed: int,
    chunk_users: int = 16_384,
    arrival_days: float = 90.0,
    max_steps: int = MOST_STEPS,
) -> Iterator[LogChunk]:
    """Yield the lives of users 0 … users − 1 as the policy logs them, `chunk_users` at a time."""
    for name, value in (("users", users), ("chunk_users", chunk_users), ("max_steps", max_steps)):
        if value < 1:
            raise UserError(f"{name} is {value}, must be at least 1; give more {name}")
    if arrival_days < 0.0:
        raise UserError(f"arrival_days is {arrival_days}, must be at least 0; raise it")
    items = item_ids(world)
    waiting: list[tuple[IntArray, pa.Table]] = []
    begun = 0  # users of the chunk that is being filled
    for first in range(0, users, _BLOCK):
        generator = numpy_generator(seed, f"simulated users from {first}")
        segment, actions = simulate(world, policy, _BLOCK, generator, arrival_days, max_steps, first)
        end = min(first + _BLOCK, users)
        place = first
        while place < end:
            until = min(end, place + chunk_users - begun)
            part = actions.of_users(place, until)
            waiting.append((segment[place - first : until - first], _events(part, items, policy.name)))
            begun += until - place
            place = until
            if begun == chunk_users or until == users:
                yield _chunk(world, waiting, until)
                waiting, begun = [], 0


def simulate(
    world: World,
    policy: WorldPolicy,
    users: int,
    generator: np.random.Generator,
    arrival_days: float,
    max_steps: int = MOST_STEPS,
    first_user: int = 0,
) -> tuple[IntArray, Actions]:
    """Return the users' segments, (user,), and all that was shown to them.

    Raises UserError if there is nobody to show anything to.
    """
    for name, value in (("users", users), ("max_steps", max_steps)):
        if value < 1:
            raise UserError(f"{name} is {value}, must be at least 1; give more {name}")
    present: UserState = world.begin(users, generator)
    segment = present.segment
    rows = np.arange(users)
    clock = EPOCH_S + (generator.random(users) * arrival_days * 86_400).astype(np.int64)
    session = np.zeros(users, np.int32)
    columns: list[tuple[LongArray, LongArray, IntArray, LongArray, IntArray, RealArray, ByteArray]] = []
    for step in range(max_steps):
        if len(rows) == 0:
            break
        item, propensity = policy.act(present, generator)
        outcome = world.step(present, item, generator)
        columns.append(
            (rows + first_user, np.full(len(rows), step), session, clock, item, propensity, outcome.response)
        )
        stays = ~outcome.terminated
        rows, present = rows[stays], outcome.users.at(stays)
        session = (session + outcome.session_ended)[stays].astype(np.int32)
        clock = (clock + outcome.gap_s)[stays]
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    return segment, Actions(*(column[order] for column in joined))


def _events(actions: Actions, items: pa.Array, policy: str) -> pa.Table:
    """Return the impressions and the responses to them, each response behind its impression."""
    responded = actions.response != NONE
    row = np.repeat(np.arange(len(actions)), 1 + responded)
    is_response = np.zeros(len(row), np.bool_)
    is_response[1:] = row[1:] == row[:-1]
    user = pa.array(actions.user).cast(pa.string())
    shown = pc.binary_join_element_wise("r", user, pa.array(actions.step).cast(pa.string()), "-")
    session = pc.binary_join_element_wise("s", user, pa.array(actions.session).cast(pa.string()), "-")
    place = pa.array(row)
    shown = shown.take(place)
    code = np.where(is_response, actions.response[row], NONE)
    seconds = actions.timestamp[row] + RESPONSE_DELAY_S * is_response
    columns = {
        c.EVENT_ID: pc.binary_join_element_wise(
            shown, pa.array(["0", "1"]).take(pa.array(is_response.astype(np.int8))), ":"
        ),
        c.USER_ID: pc.binary_join_element_wise("u", user, "").take(place),
        c.SESSION_ID: session.take(place),
        c.TIMESTAMP: pa.array(seconds * _PER_SECOND).cast(TIMESTAMP_TYPE),
        c.ITEM_ID: items.take(pa.array(actions.item[row])),
        c.EVENT_TYPE: pa.array(RESPONSES).take(pa.array(code)),
        c.VALUE: pa.nulls(len(row), pa.float64()),
        c.RECOMMENDATION_ID: shown,
        c.POSITION: pa.array(np.zeros(len(row), np.int32), mask=is_response),
        c.PROPENSITY: pa.array(actions.propensity[row], mask=is_response),
        c.POLICY_VERSION: pa.array([policy, None]).take(pa.array(is_response.astype(np.int8))),
    }
    return pa.table(columns, schema=EVENTS)


def _chunk(world: World, waiting: list[tuple[IntArray, pa.Table]], end: int) -> LogChunk:
    """Return the pieces as one, of the users up to `end`."""
    segment = np.concatenate([piece for piece, _ in waiting])
    user = pa.array(np.arange(end - len(segment), end)).cast(pa.string())
    names = pa.array([f"segment {number}" for number in range(world.settings.segments)])
    users = {
        c.USER_ID: pc.binary_join_element_wise("u", user, ""),
        SEGMENT: names.take(pa.array(segment)),
    }
    return LogChunk(pa.table(users), pa.concat_tables([events for _, events in waiting]))

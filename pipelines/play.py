"""`recsys play`: what a bundle brings new users of the world that a simulated log comes from.

They are asked for as at the endpoint, one item at a time, by the same history, index and adaptation; what they had may
come again. Nothing is learnt meanwhile.
"""

from collections import deque
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from pipelines.named_policies import bundle_folder
from pipelines.progress import shown
from pipelines.simulate import print_report
from recsys.errors import UserError
from recsys.logged_event import LoggedEvent
from recsys.logs.simulator import NONE, RESPONSES, World
from recsys.logs.simulator_files import open_world
from recsys.logs.simulator_policies import MOST_STEPS, Lives, Tally
from recsys.logs.simulator_stream import EPOCH_S, RESPONSE_DELAY_S, SEGMENT, item_ids
from recsys.randomness import numpy_generator
from recsys.recommender import Recommender, load_recommender

NEWEST: Final = 200  # events of a user that are told; what is read of them is the bundle's affair


def play(
    folder: Path, policy: str, users: int, seed: int, *, explore: bool, registry: Path, name: str
) -> None:
    """Print what the bundle earns among `users` new users below policies of known worth.

    Raises UserError for a folder that holds no world, for what names no bundle, and for one of another catalogue.
    """
    world, logging = open_world(folder)
    bundle = bundle_folder(policy, registry, name)
    if bundle is None:
        raise UserError(f"{policy!r} names no bundle; give bundle@champion or bundle:FOLDER")
    recommender = load_recommender(bundle)
    lives = lives_of(world, recommender, users, seed, greedy=not explore, console=Console(stderr=True))
    how = "drawn as served" if explore else "its best item"
    print_report(world, users, seed, logging, {f"{policy}, {how}": lives})


def lives_of(
    world: World,
    recommender: Recommender,
    users: int,
    seed: int,
    *,
    greedy: bool = True,
    discount: float = 1.0,
    console: Console | None = None,
) -> Lives:
    """Return the whole lives of new users to whom what is recommended is shown."""
    index_of = _places(world, recommender)
    names = tuple(index_of)
    known = recommender.catalogue.item_ids
    chance = numpy_generator(seed, "play")
    present = world.begin(users, chance)
    rows, tally = np.arange(users), Tally(users, discount)
    told: list[deque[LoggedEvent]] = [deque(maxlen=NEWEST) for _ in rows]
    attributes = [{SEGMENT: f"segment {number}"} for number in present.segment]
    clock, session = np.full(users, EPOCH_S, np.int64), np.zeros(users, np.int64)
    with shown(console or Console(quiet=True), "play") as progress:
        progress.start(users, "users", "users who are gone")
        for _ in range(MOST_STEPS):
            if len(rows) == 0:
                break
            item = np.empty(len(rows), np.int64)
            for place, row in enumerate(rows.tolist()):
                history = recommender.history(tuple(told[row]), attributes[row])
                given = recommender.recommend(
                    history, 1, seed=int(chance.integers(2**31)), exclude_seen=False, greedy=greedy
                )
                item[place] = index_of[known[given.items[0]]]
            outcome = world.step(present, item, chance)
            for place, row in enumerate(rows.tolist()):
                answer = int(outcome.response[place])
                if answer != NONE or recommender.reads_impressions:
                    seconds = float(clock[row] + RESPONSE_DELAY_S * (answer != NONE))
                    event = LoggedEvent(
                        names[item[place]], RESPONSES[answer], None, seconds, f"s{session[row]}"
                    )
                    told[row].append(event)
            tally.add(rows, outcome.reward, outcome.session_ended)
            clock[rows] += outcome.gap_s
            session[rows] += outcome.session_ended
            stays = ~outcome.terminated
            progress.advance(int(outcome.terminated.sum()))
            rows, present = rows[stays], outcome.users.at(stays)
    truncated = np.zeros(users, np.bool_)
    truncated[rows] = True
    return tally.lives(truncated)


def _places(world: World, recommender: Recommender) -> dict[str, int]:
    """Return the world's index of each item; raises UserError if the bundle may show others."""
    index_of: dict[str, int] = {item: index for index, item in enumerate(item_ids(world).to_pylist())}
    strange = [item for item in recommender.catalogue.item_ids if item not in index_of]
    if strange:
        raise UserError(
            f"the bundle may show {strange[0]!r} and {len(strange) - 1:,} other items that the world does not have; "
            "give the folder of the log that the bundle learnt from"
        )
    return index_of

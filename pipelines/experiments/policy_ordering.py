"""Does replay order policies right? Ten policies of known value, one log, in the simulated world.

    python -m pipelines.experiments.policy_ordering --out ordering.json [--part lists|lives]

*lists*: lists of five from a thousand items. A fresh user looks at position k with probability .8^k and responds as the
world says. The log draws lists without replacement from the world's logging policy (temperature .7, a tenth at random).
True values are means over lists drawn from each policy, with the chance of responses and of the hidden type taken out.

*lives*: one item at a time, whole lives, discounted by .9; values are exact. Fitted Q evaluation beside importance
sampling, whose weights die over a life.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.experiments.command import run_command
from pipelines.experiments.policy_ordering_lives import lives
from pipelines.experiments.policy_ordering_worlds import ordering, policies
from recsys.evaluation.ope.accumulate import Accumulator
from recsys.evaluation.ope.estimators import Terms
from recsys.evaluation.ope.gates import refused, weight_gates
from recsys.evaluation.ope.lists import ListRounds, list_columns
from recsys.evaluation.ope.reward_models import folds_of
from recsys.evaluation.ope.slates import Slates
from recsys.evaluation.ope.sums import LOGGING
from recsys.logs.simulator import World, WorldSettings, make_world
from recsys.logs.simulator_values import class_rewards
from recsys.randomness import numpy_generator
from recsys.types import LongArray, RealArray

LENGTH, LOOKS = 5, 0.8


def expected_rewards(world: World) -> RealArray:
    """Return the mean reward of an item for a fresh user who looks at it, (type, item)."""
    rules = world.settings
    chance = (
        world.taste[:, world.topic]
        * world.appeal
        * np.asarray(rules.attraction)[world.kind]
        * rules.trust_response[rules.first_trust]
    )
    return np.asarray(chance * class_rewards(world)[world.kind], np.float64)


def drawn_lists(weights: RealArray, segment: LongArray, generator: np.random.Generator) -> LongArray:
    """Return lists drawn without replacement in proportion to weights, (list, position), by the Gumbel trick."""
    out = np.empty((len(segment), LENGTH), np.int64)
    for start in range(0, len(segment), 4096):
        rows = slice(start, start + 4096)
        keys = np.log(weights)[segment[rows]] + generator.gumbel(size=(len(segment[rows]), weights.shape[1]))
        top = np.argpartition(-keys, LENGTH, axis=1)[:, :LENGTH]
        order = np.argsort(-np.take_along_axis(keys, top, axis=1), axis=1)
        out[rows] = np.take_along_axis(top, order, axis=1)
    return out


def given_above(weights: RealArray, segment: LongArray, items: LongArray) -> RealArray:
    """Return the probability of each item given those above it, (list, position)."""
    own = weights[segment[:, None], items]
    above = np.concatenate([np.zeros((len(items), 1)), np.cumsum(own, axis=1)[:, :-1]], axis=1)
    return np.asarray(own / (1.0 - above))


def lists(world: World, rounds: int, seed: int) -> dict[str, Any]:
    """Return true and estimated values of the ten from one log of lists."""
    generator = numpy_generator(seed, "policy ordering")
    ten, worth = policies(world), expected_rewards(world)
    belief = world.type_share
    by_segment = belief.T @ worth  # (segment, item)
    looks = LOOKS ** np.arange(LENGTH)
    truth = {}
    for name, policy in ten.items():
        segment = world.begin(200_000, generator).segment.astype(np.int64)
        shown = drawn_lists(policy.probability, segment, generator)
        truth[name] = float((by_segment[segment[:, None], shown] * looks).sum(axis=1).mean())

    logged = ten["as logged"].probability
    users = world.begin(rounds, generator)
    segment = users.segment.astype(np.int64)
    item = drawn_lists(logged, segment, generator)
    looked = generator.random((rounds, LENGTH)) < looks
    # an impression is answered by a click or a purchase whose mean is what the item is worth
    chance = worth[users.type[:, None], item] / class_rewards(world)[world.kind[item]].clip(1e-9)
    responded = generator.random((rounds, LENGTH)) < chance
    bought = generator.random((rounds, LENGTH)) < np.asarray(world.settings.purchase_share)[world.kind[item]]
    click, purchase = world.settings.response_reward[1:]
    reward = looked * responded * np.where(bought, purchase, click)
    cluster = np.arange(rounds, dtype=np.int64)
    fold = folds_of(cluster, 3)
    model = fitted(segment, item, reward, fold, world)
    propensity = given_above(logged, segment, item)
    rows = {}
    for name, policy in ten.items():
        added = Accumulator()
        for start in range(0, rounds, 2048):
            part = slice(start, start + 2048)
            q_table = model[fold[part], segment[part]]  # (list, item)
            slates = Slates(
                reward[part],
                propensity[part],
                given_above(policy.probability, segment[part], item[part]),
                np.full(len(item[part]), LENGTH),
                np.take_along_axis(q_table, item[part], axis=1) * looks,
                values(policy.probability, q_table, segment[part], item[part]) * looks,
                cluster[part],
            )
            apart = ListRounds(slates, "cascade")
            columns = {LOGGING: Terms(apart.reward), **list_columns(apart)}
            added.add({"policy": apart}, columns)
        sums = added.sums()
        rows[name] = {
            "truth": truth[name],
            "estimates": dict(zip(sums.names, sums.estimates().tolist(), strict=True)),
            "refused": refused(weight_gates(sums, 0)),
            "effective": sums.weights[0].effective,
        }
    compared = ("snips", "dr", "sndr", "dm", "replay", "snips, independent", "snips, whole")
    return {"lists": rounds, "policies": rows, "ordering": ordering(rows, compared)}


def values(weights: RealArray, q_table: RealArray, segment: LongArray, item: LongArray) -> RealArray:
    """Return E_π q̂ at each position given the items above, (list, position)."""
    own = weights[segment[:, None], item]
    mass = np.cumsum(own, axis=1) - own
    gone = np.cumsum(own * np.take_along_axis(q_table, item, axis=1), axis=1)
    gone -= own * np.take_along_axis(q_table, item, axis=1)
    total = (weights[segment] * q_table).sum(axis=1, keepdims=True)
    return np.asarray((total - gone) / (1.0 - mass))


def fitted(
    segment: LongArray, item: LongArray, reward: RealArray, fold: LongArray, world: World
) -> RealArray:
    """Return q̂ of a looked-at item by fold and segment, (fold, segment, item), from the other folds, shrunk."""
    segments, items = world.settings.segments, world.settings.items
    looks = LOOKS ** np.arange(LENGTH)
    out = np.empty((3, segments, items))
    for number in range(3):
        kept = fold != number
        key = (segment[kept, None] * items + item[kept]).ravel()
        seen = np.bincount(key, np.broadcast_to(looks, item[kept].shape).ravel(), minlength=segments * items)
        earned = np.bincount(key, reward[kept].ravel(), minlength=segments * items)
        seen, earned = seen.reshape(segments, items), earned.reshape(segments, items)
        everyone = (earned.sum(axis=0) + 10.0 * earned.sum() / seen.sum()) / (seen.sum(axis=0) + 10.0)
        out[number] = (earned + 20.0 * everyone) / (seen + 20.0)
    return out


def main() -> None:
    """Run one part or both, over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--lists", type=int, default=60_000)
    parser.add_argument("--users", type=int, default=8_000)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--part", choices=("lists", "lives", "both"), default="both")
    parser.add_argument("--out", type=Path, default=Path("ordering.json"))
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for seed in map(int, given.seeds.split(",")):
        world = make_world(WorldSettings(items=given.items), seed)
        if given.part in ("lists", "both"):
            found[f"lists {seed}"] = lists(world, given.lists, seed)
        if given.part in ("lives", "both"):
            found[f"lives {seed}"] = lives(world, given.users, seed)
        for part in ("lists", "lives"):
            for name, row in found.get(f"{part} {seed}", {}).get("ordering", {}).items():
                print(part, seed, name, {key: round(value, 3) for key, value in row.items()}, flush=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)

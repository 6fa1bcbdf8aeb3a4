"""Whole lives, one item at a time: fitted Q evaluation beside importance sampling, whose weights die over a life."""

from typing import Any

import numpy as np
import torch

from pipelines.experiments.policy_ordering_worlds import ordering, policies
from recsys.evaluation.ope.fqe import FQESettings, FQESteps, fit_q, values_under
from recsys.evaluation.ope.trajectories import (
    Trajectories,
    per_decision_is,
    sequential_dr,
    weighted_per_decision_is,
    weighted_sequential_dr,
)
from recsys.logs.simulator import NONE, World
from recsys.logs.simulator_stream import simulate
from recsys.models.vector_network import VectorNetwork, VectorShape
from recsys.randomness import numpy_generator
from recsys.types import LongArray

DISCOUNT = 0.9


def lives(world: World, users: int, seed: int) -> dict[str, Any]:
    """Return exact and estimated discounted values of the ten from one log of whole lives."""
    generator = numpy_generator(seed, "policy ordering, lives")
    ten = policies(world)
    logged = ten["as logged"]
    segment_of, actions = simulate(world, logged, users, generator, arrival_days=30.0)
    segment = segment_of[actions.user].astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(actions.user, minlength=users))]).astype(np.int64)
    reward = np.asarray(world.settings.response_reward)[actions.response].astype(np.float64)
    features = observed(world, actions.item, actions.response, actions.session, segment, offsets)
    last = np.zeros(len(reward), bool)
    last[offsets[1:] - 1] = True
    following = np.where(last, 0, np.minimum(np.arange(len(reward)) + 1, len(reward) - 1))
    rows = {}
    for name, policy in ten.items():
        chances = policy.probability.astype(np.float32)
        steps = FQESteps(
            lambda rows: torch.from_numpy(features[rows]),
            lambda rows: torch.from_numpy(features[following[rows]]),
            actions.item.astype(np.int64),
            reward.astype(np.float32),
            np.where(last, 0.0, DISCOUNT).astype(np.float32),
            lambda rows, chances=chances: chances[segment[following[rows]]],  # type: ignore[misc]
        )
        torch.manual_seed(seed)
        shape = VectorShape(
            features.shape[1], world.settings.items, hidden=(64,), action_features=16, dueling=True
        )
        network = VectorNetwork(shape)
        fit_q(network, steps, FQESettings(rounds=25, updates=40, batch=512, rate=5e-3), generator)
        q_logged, value = values_under(
            network,
            steps.state,
            lambda rows, chances=chances: chances[segment[rows]],
            steps.action,  # type: ignore[misc]
        )
        made = Trajectories(
            offsets,
            reward,
            actions.propensity,
            policy.probability[segment, actions.item],
            DISCOUNT,
            q_logged.astype(np.float64),
            value.astype(np.float64),
        )
        found = {
            "fqe": float(value[offsets[:-1]].mean()),
            "pdis": float(per_decision_is(made).numerator.mean()),
            "wpdis": float(weighted_per_decision_is(made).numerator.mean()),
            "dr": float(sequential_dr(made).numerator.mean()),
            "wdr": float(weighted_sequential_dr(made).numerator.mean()),
        }
        effective = made.effective_by_step()
        alive = int(np.argmax(effective < 100.0)) if (effective < 100.0).any() else len(effective)
        rows[name] = {
            "truth": policy.start_value(world, DISCOUNT),
            "estimates": found,
            "steps with an effective sample of 100": alive,
            "refused": False,
        }
    return {
        "users": users,
        "policies": rows,
        "ordering": ordering(rows, ("fqe", "pdis", "wpdis", "dr", "wdr")),
    }


def observed(
    world: World, item: Any, response: Any, session: Any, segment: LongArray, offsets: LongArray
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return what a recommender sees before each step, (step, feature): segment, recent topics, responses, session."""
    first = np.zeros(len(item), bool)
    first[offsets[:-1]] = True
    start = first | np.append(True, session[1:] != session[:-1])
    parts = [np.eye(world.settings.segments)[segment], start[:, None]]
    topic = np.eye(world.settings.topics)[world.topic[item]]
    kind = np.eye(3)[world.kind[item]] * (response != NONE)[:, None]
    silent = (response == NONE)[:, None]
    cut = start.copy()
    for lag in (1, 2, 3):
        back = np.concatenate([np.zeros((lag, topic.shape[1])), topic[:-lag]])
        parts.append(np.where(cut[:, None], 0.0, back))
        parts.append(np.where(cut[:, None], 0.0, np.concatenate([np.zeros((lag, 1)), silent[:-lag]])))
        cut = cut | np.concatenate([np.ones(lag, bool), start[:-lag]])
    # trust is moved by answered bait and lasting items, over a whole life
    moved = np.cumsum(kind, axis=0) - kind
    parts.append(np.tanh((moved - np.repeat(moved[offsets[:-1]], np.diff(offsets), axis=0)) / 3.0))
    return np.concatenate(parts, axis=1).astype(np.float32)

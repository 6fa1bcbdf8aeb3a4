"""What history alone allows: a recommender who knows the rules of the world but not a user's type and trust.

Satiation and boredom follow from what was shown and how it was answered. Of type and trust it keeps the exact belief
b(type, trust), updated by Bayes' rule at each response and each return, and shows

    argmax_i Σ b(type, trust) Q(s, i)

(QMDP, Littman et al. 1995: it values what it will know as if it knew it already, so it does not explore on purpose).
With Q of discount 0 this is the myopic recommender on the same footing. Both are yardsticks for learners, which see the
same histories and do not know the rules.
"""

import numpy as np
import numpy.typing as npt

from recsys.logs.simulator import KINDS, NONE, Outcome, RealArray, UserState, World
from recsys.logs.simulator_policies import MOST_STEPS, Lives, Tally
from recsys.logs.simulator_values import class_lines
from recsys.types import BoolArray, IntArray


def run_belief(
    world: World,
    value: RealArray,  # V of what follows, (type, recent, trust, boredom): `solve(world, discount).value`, or zeros
    users: int,
    generator: np.random.Generator,
    planning_discount: float = 1.0,
    discount: float = 1.0,
    max_steps: int = MOST_STEPS,
) -> Lives:
    """Play the belief's greedy policy for some new users, each until gone or after `max_steps`."""
    lines = class_lines(world, value, planning_discount)
    item_class = world.topic * len(KINDS) + world.kind
    present = world.begin(users, generator)
    belief = first_belief(world, present.segment)
    rows = np.arange(users)
    tally = Tally(users, discount)
    for _ in range(max_steps):
        if len(rows) == 0:
            break
        level = lines.level[:, present.recent, :, present.boredom]  # (user, type, trust, topic)
        slope = lines.slope[:, present.recent, :, present.boredom]  # (user, type, trust, topic, kind)
        by_topic = np.einsum("uke,uket->ut", belief, level)
        by_class = np.einsum("uke,uketc->uktc", belief, slope).reshape(len(rows), len(world.taste), -1)
        q_values = by_topic[:, world.topic]
        for kind, appeal in enumerate(world.appeal):  # over types of users
            q_values += by_class[:, kind, item_class] * appeal
        item = q_values.argmax(axis=1).astype(np.int32)
        outcome = world.step(present, item, generator)
        belief = updated_belief(world, belief, present, item, outcome)
        tally.add(rows, outcome.reward, outcome.session_ended)
        stays = ~outcome.terminated
        rows, belief, present = rows[stays], belief[stays], outcome.users.at(stays)
    truncated: BoolArray = np.zeros(users, np.bool_)
    truncated[rows] = True
    return tally.lives(truncated)


def first_belief(world: World, segment: IntArray) -> RealArray:
    """Return b(type, trust) of new users, (user, type, trust): P(type | segment) at the first trust."""
    belief = np.zeros((len(segment), world.settings.types, len(world.settings.trust_response)))
    belief[:, :, world.settings.first_trust] = world.type_share.T[segment]
    return belief


def updated_belief(
    world: World,
    belief: RealArray,  # (user, type, trust)
    users: UserState,  # before; of it only what history tells is read
    item: npt.NDArray[np.integer],
    outcome: Outcome,  # of it the response and whether the session ended; who is gone needs no belief
) -> RealArray:
    """Return the belief after one shown item, by Bayes' rule."""
    rules = world.settings
    topic, kind = world.topic[item], world.kind[item]
    at_full_trust = (
        world.taste[:, topic].T
        * np.asarray(rules.freshness)[world.count[users.recent, topic]][:, None]
        * np.asarray(rules.attraction)[kind][:, None]
        * world.appeal[:, item].T
    )  # (user, type)
    p = at_full_trust[..., None] * np.asarray(rules.trust_response)
    responded = (outcome.response != NONE)[:, None, None]
    belief = belief * np.where(responded, p, 1.0 - p)
    trust = np.arange(len(rules.trust_response))
    step = np.asarray(rules.trust_step)
    moves = np.zeros((len(KINDS), len(trust), len(trust)))  # P(trust after | trust, kind, response)
    for number, share in enumerate(rules.trust_move):
        moves[number, trust, trust] += 1.0 - share
        moves[number, trust, np.clip(trust + step[number], 0, len(trust) - 1)] += share
    belief = np.where(responded, np.einsum("uke,uef->ukf", belief, moves[kind]), belief)
    came_back = outcome.session_ended[:, None, None]
    belief = np.where(came_back, belief * np.asarray(rules.return_share), belief)
    total = belief.sum(axis=(1, 2), keepdims=True)
    posterior: RealArray = belief / np.where(total > 0.0, total, 1.0)
    return posterior

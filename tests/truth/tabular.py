"""Small Markov decision processes solved in numpy, and the learner run on everything that can happen in them.

The batch holds every stretch of n steps that the logging policy can take, weighted by its probability: no sampling
noise stands between what is learnt and the fixed point of the rule.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from recsys.config import PretrainConfig
from recsys.learning.dqn import DQNLearner
from recsys.learning.optimizer import optimizer_for, step
from recsys.learning.target_network import TargetSchedule, frozen_copy
from recsys.mdp.transition import TransitionBatch
from recsys.models.vector_network import VectorNetwork, VectorShape

Table = npt.NDArray[np.float64]
SUCCESSORS = 2  # of each state and action
SUPPORT = 0.25  # actions whose probability is below this share of the likeliest one's are not supported


@dataclass(frozen=True)
class Process:
    """A finite process and the policy that logged it; the discount may depend on the step taken (semi-Markov)."""

    chance: Table  # (state, action, next state)
    reward: Table  # (state, action, next state)
    discount: Table  # (state, action, next state); 0 = the episode ends there
    policy: Table  # (state, action)

    @property
    def mean_reward(self) -> Table:
        return (self.chance * self.reward).sum(-1)

    def backed_up(self, value: Table) -> Table:
        """r(s, a) + Σ P γ V, (state, action)."""
        return self.mean_reward + (self.chance * self.discount) @ value

    def fixed_point(self, value_of: object, iterations: int = 500) -> Table:
        """Q = r + P γ value_of(Q), by iteration."""
        q = np.zeros_like(self.policy)
        for _ in range(iterations):
            q = self.backed_up(value_of(q))  # type: ignore[operator]
        return q

    def of_policy(self) -> Table:
        return self.fixed_point(lambda q: (self.policy * q).sum(1))

    def optimal(self) -> Table:
        return self.fixed_point(lambda q: q.max(1))

    @property
    def supported(self) -> npt.NDArray[np.bool_]:
        return self.policy >= SUPPORT * self.policy.max(1, keepdims=True)

    def supported_optimum(self) -> Table:
        return self.fixed_point(lambda q: np.where(self.supported, q, -np.inf).max(1))

    def n_step_optimum(self, n_step: int) -> Table:
        """Fixed point of n steps of which all but the first follow the log, then the best: not Q* for n > 1."""

        def value(q: Table) -> Table:
            v = q.max(1)
            for _ in range(n_step - 1):
                v = (self.policy * self.backed_up(v)).sum(1)
            return v

        return self.fixed_point(value)


def random_process(seed: int, states: int = 6, actions: int = 3, discount: float = 0.7) -> Process:
    """Each action leads to two states; one action of each state is rare, and often the best."""
    generator = np.random.default_rng(seed)
    chance = np.zeros((states, actions, states))
    for s in range(states):
        for a in range(actions):
            chance[s, a, generator.choice(states, SUCCESSORS, replace=False)] = generator.dirichlet([2, 2])
    reward = generator.uniform(-0.5, 0.5, chance.shape)
    rare = generator.integers(actions, size=states)
    policy = generator.uniform(0.3, 0.6, (states, actions))
    policy[np.arange(states), rare] = 0.04
    reward[np.arange(states), rare] += 0.4
    policy /= policy.sum(1, keepdims=True)
    return Process(chance, reward, np.full(chance.shape, discount), policy)


def everything(process: Process, n_step: int = 1, cut: float = 0.0) -> TransitionBatch:
    """Return all n-step stretches, weighted by probability; a share `cut` of them end with the log (truncated)."""
    states, actions, _ = process.chance.shape
    s, a = (x.ravel() for x in np.indices((states, actions)))
    start, first = s, a
    weight = process.policy[s, a]  # states alike, actions as logged
    total, product = np.zeros(len(s)), np.ones(len(s))
    for _ in range(n_step):
        row, s_next = np.nonzero(process.chance[s, a])
        here = s[row], a[row], s_next
        weight = weight[row] * process.chance[here]
        total = total[row] + product[row] * process.reward[here]
        product = product[row] * process.discount[here]
        start, first = start[row], first[row]
        row = np.repeat(np.arange(len(s_next)), actions)
        a = np.tile(np.arange(actions), len(s_next))
        s = s_next[row]
        weight = weight[row] * process.policy[s, a]
        total, product, start, first = total[row], product[row], start[row], first[row]
    following = a
    if cut:
        weight = np.concatenate([weight * (1 - cut), weight * cut])
        total, product, start, first, s = (np.tile(x, 2) for x in (total, product, start, first, s))
        following = np.concatenate([following, np.full(len(following), -1)])
    eye = torch.eye(states)
    return TransitionBatch(
        state=eye[torch.from_numpy(start)],
        action=torch.from_numpy(first),
        n_step_return=torch.from_numpy(total).float(),
        bootstrap=torch.from_numpy(product).float(),
        next_state=eye[torch.from_numpy(s)],
        next_action=torch.from_numpy(following),
        weight=torch.from_numpy(weight / weight.mean()).float(),
        index=torch.arange(len(start)),
    )


def settings(**changes: object) -> PretrainConfig:
    """Return the settings of a bare one-step task, with changes."""
    bare: dict[str, object] = {
        "target": "max",
        "n_step": 1,
        "warmup_epochs": 0,
        "clip_targets": False,
        "td_loss": "mse",
        "supervised_weight": 0.0,
        "conservative_weight": 0.0,
        "return_weight": 0.0,
        "dueling": False,
        "support_threshold": SUPPORT,
        "max_gradient_norm": None,
        "target_tau": 0.05,
    }
    return PretrainConfig.model_validate({**bare, **changes})


def new_learner(config: PretrainConfig, states: int, actions: int, temperature: float = 1.0) -> DQNLearner:
    """Return a learner over a table: the state is one-hot and its own hidden layer."""
    torch.manual_seed(0)
    shape = VectorShape(
        states,
        actions,
        hidden=(),
        dueling=config.dueling,
        behavior=config.supervised_weight > 0,
        return_head=config.return_weight > 0,
        quantiles=config.quantiles,
    )
    network = VectorNetwork(shape, temperature)
    return DQNLearner(network, frozen_copy(network), None, config, None, torch.Generator().manual_seed(0))


def learnt(learner: DQNLearner, batch: TransitionBatch, updates: int = 600, rate: float = 0.03) -> Table:
    """Run the update on one batch with a falling rate; return Q, (state, action)."""
    optimizer = optimizer_for(learner.network, rate, 0.0)
    schedule = TargetSchedule.of(learner.config)
    for update in range(1, updates + 1):
        step(optimizer, learner.losses(batch).total, 1 - update / (updates + 1), None)
        schedule.follow(learner.target, learner.network, update)
    return q_table(learner)


@torch.no_grad()
def q_table(learner: DQNLearner) -> Table:
    """Return Q of every state and action."""
    assert isinstance(learner.network, VectorNetwork)
    states = learner.network(torch.eye(learner.network.shape.features))
    return learner.network.q_all(states).numpy().astype(np.float64)

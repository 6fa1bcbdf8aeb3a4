"""Meta Q-learning over tasks with vector states: the ranker's inner loop between the state and the action.

    Q_u(s, a) = Q_θ(s, a) + w_uᵀφ(s, a),    w_u = AdaptationPrior.adapt of the task's support transitions

The evidence of a support transition is r + γU(s') against what the meta Q expected in s, as in recsys/adaptation.py.
U is one value head for all tasks, trained on the adapted max-Q of them all: what a state is worth hardly depends on
the task, which action is good there does. The outer loss is the double-Q TD loss of Q_u on other transitions of the
task, with a target network that adapts to the same support; it reaches Q_θ, φ and the prior through the solve.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipelines.experiments.cartpole import ACTIONS, FEATURES
from pipelines.experiments.cartpole_presets import Preset
from pipelines.experiments.cartpole_replay import TaskReplay
from recsys.adaptation import AdaptationPrior, FastWeights, SupportSet
from recsys.learning.losses import mean, td_loss
from recsys.learning.optimizer import optimizer_for, step
from recsys.learning.target_network import TargetSchedule, frozen_copy
from recsys.learning.targets import greedy, td_target
from recsys.mdp.transition import TransitionBatch
from recsys.models.vector_network import VectorNetwork, VectorShape
from recsys.randomness import derive_seed, numpy_generator
from recsys.types import BoolArray

MAX_GRADIENT_NORM = 10.0


@dataclass(frozen=True)
class MetaSettings:
    """What the outer loop adds to a preset."""

    features: int = 16  # of φ
    tasks: int = 16  # of an update; each has batch_size / tasks queries
    support: int = 64  # transitions that are adapted to at most
    longest: int = 1_000  # beginning of a life that they are drawn from
    noise: float = 1.0  # σ² at first
    value_weight: float = 0.5  # of the loss of U


class MetaNetwork(nn.Module):
    """Q_θ and U, the features φ, the prior over fast weights."""

    def __init__(self, hidden: tuple[int, ...], settings: MetaSettings) -> None:
        super().__init__()
        self.settings = settings
        self.base = VectorNetwork(VectorShape(FEATURES, ACTIONS, hidden, return_head=True))
        # f(s) of a network without advantage features is its last hidden layer; its "actions" are (action, feature)
        self.features = VectorNetwork(VectorShape(FEATURES, ACTIONS * settings.features, hidden))
        self.prior = AdaptationPrior(settings.features, event_types=1)
        nn.init.constant_(self.prior.log_noise, float(np.log(settings.noise)))

    def phi(self, state: torch.Tensor) -> torch.Tensor:
        """Return φ(s, a) of every action, (batch, action, feature)."""
        return self.features.q_all(self.features(state)).view(len(state), ACTIONS, -1)

    def adapt(self, rows: TransitionBatch, present: BoolArray) -> FastWeights:
        """Return the fast weights of tasks from supports: rows, (task · support,), present, (task, support)."""
        shape = present.shape
        states = self.base(rows.state)
        with torch.no_grad():
            value = self.base(rows.next_state).behavior_return
        q_value = self.base.q_all(states)
        chosen = rows.action[:, None]
        support = SupportSet(
            item=rows.action.view(shape),
            event_type=torch.zeros(shape, dtype=torch.int64),
            reward=rows.n_step_return.view(shape),
            target=td_target(rows.n_step_return, rows.bootstrap, value, None).view(shape),
            mean_q=q_value.mean(dim=1).view(shape),
            q=q_value.gather(1, chosen).view(shape),
            present=torch.from_numpy(present),
            attributes=torch.zeros((shape[0], 0), dtype=torch.int64),
        )
        phi = self.phi(rows.state).gather(1, chosen[..., None].expand(-1, -1, self.settings.features))
        return self.prior.adapt(phi.view(*shape, -1), support)

    def q_all(self, state: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        """Return Q_u of every action, (batch, action), for one w_u per state, (batch, feature)."""
        return self.base.q_all(self.base(state)) + (self.phi(state) @ fast[..., None])[..., 0]


class MetaLearner:
    """The outer loop: one update per call."""

    def __init__(self, preset: Preset, settings: MetaSettings, updates: int, seed: int) -> None:
        torch.manual_seed(derive_seed(seed, "family-network"))
        self.network = MetaNetwork(preset.hidden, settings)
        self.target = frozen_copy(self.network)
        self.preset, self.settings, self.updates = preset, settings, updates
        self.optimizer = optimizer_for(self.network, preset.learning_rate, 0.0)
        self.schedule = TargetSchedule(preset.target_tau, preset.target_interval)
        self.chance = numpy_generator(seed, "family-replay")
        self.done = 0

    @property
    def width(self) -> int:
        """How many transitions a support has at most."""
        return self.settings.support

    @torch.no_grad()
    def fast(self, rows: TransitionBatch, present: BoolArray) -> torch.Tensor:
        """Return w_u of tasks, (task, feature)."""
        return self.network.adapt(rows, present).mean

    @torch.no_grad()
    def q_all(self, state: torch.Tensor, fast: torch.Tensor) -> torch.Tensor:
        """Return the Q that acts, (batch, action)."""
        return self.network.q_all(state, fast)

    def update(self, replay: TaskReplay) -> dict[str, float]:
        """Take one step on some tasks; return what it saw."""
        settings = self.settings
        task = self.chance.choice(np.flatnonzero(replay.total > 0), settings.tasks)
        support, present = replay.beginnings(task, settings.support, settings.longest, self.chance)
        query = replay.queries(task, self.preset.batch_size // settings.tasks, self.chance)
        return self.learn(support, present, query)

    def learn(self, support: TransitionBatch, present: BoolArray, query: TransitionBatch) -> dict[str, float]:
        """Take one step on tasks' supports and as many queries of each, task by task; return what it saw."""
        losses, figures = self.losses(support, present, query)
        rate_factor = max(0.0, 1.0 - self.done / self.updates) if self.preset.falling_rate else 1.0
        step(self.optimizer, losses, rate_factor, MAX_GRADIENT_NORM)
        self.done += 1
        self.schedule.follow(self.target, self.network, self.done)
        return figures

    def losses(
        self, support: TransitionBatch, present: BoolArray, query: TransitionBatch
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the TD loss of adapted Q plus the loss of U, and figures."""
        network, target = self.network, self.target
        fast = _per_query(network.adapt(support, present).mean, len(query))
        states = network.base(query.state)
        shift = (network.phi(query.state) @ fast[..., None])[..., 0]
        q_value = (network.base.q_all(states) + shift).gather(1, query.action[:, None])[:, 0]
        with torch.no_grad():
            place = greedy(network.q_all(query.next_state, fast), None)[1]
            target_fast = _per_query(target.adapt(support, present).mean, len(query))
            q_next = target.q_all(query.next_state, target_fast).gather(1, place[:, None])[:, 0]
            goal = td_target(query.n_step_return, query.bootstrap, q_next, None)
            adapted_value = target.q_all(query.state, target_fast).max(dim=1).values
        td = mean(td_loss(q_value, goal, "huber", 1.0))
        value = mean(td_loss(states.behavior_return, adapted_value, "huber", 1.0))
        figures = {
            "td": float(td.detach()),
            "value": float(value.detach()),
            "q": float(q_value.detach().mean()),
        }
        figures["shift"] = float(shift.detach().abs().mean())
        return td + value * self.settings.value_weight, figures


def _per_query(fast: torch.Tensor, queries: int) -> torch.Tensor:
    """Return one row per query, (task · query, feature), from one per task."""
    return fast.repeat_interleave(queries // len(fast), dim=0)

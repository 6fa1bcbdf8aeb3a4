"""CartPole-v1 with the ranker's own update code, beside a bare DQN at equal steps and settings.

    python -m pipelines.experiments.cartpole --seed 1 --steps 100000 [--peer cleanrl] [--preset steady]

The learner is `DQNLearner` over a vector network: candidates are the two actions, there is no supervised head, no
conservative term and no clipping of targets. Episodes become transitions through the same builder as logs do: a pole
that falls is terminal, the limit of 500 steps truncates. Result: mean return of the greedy policy over 100 episodes,
and the curve of training returns; the policy is the last one or, where the preset says so, that of the best twenty
training episodes, for either contestant. The task counts as solved at 475.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipelines.experiments.cartpole_peers import BareDQN, d3rlpy_result
from pipelines.experiments.cartpole_presets import PRESETS, Preset
from pipelines.experiments.command import run_command
from recsys.config import PretrainConfig
from recsys.errors import UserError
from recsys.learning.dqn import DQNLearner
from recsys.learning.optimizer import BestEpoch, optimizer_for, step
from recsys.learning.target_network import TargetSchedule, frozen_copy
from recsys.mdp.builder import n_step_columns, next_actions
from recsys.mdp.replay_buffer import UniformReplay
from recsys.mdp.transition import TransitionBatch
from recsys.mdp.transition_store import RingStore, vector_schema
from recsys.models.vector_network import VectorNetwork, VectorShape
from recsys.randomness import derive_seed, numpy_generator, torch_generator

if TYPE_CHECKING:
    import gymnasium

FEATURES, ACTIONS, SOLVED, EVALUATION_EPISODES = 4, 2, 475.0, 100


@dataclass
class Result:
    """What one contestant reached."""

    contestant: str
    seed: int
    steps: int
    mean_return: float = 0.0  # of the greedy policy that is kept
    least_return: float = 0.0
    episodes: int = 0  # of training
    seconds: float = 0.0
    curve: list[tuple[int, float]] = field(
        default_factory=list
    )  # (step, mean of the last 20 training episodes)


def learner_of(
    preset: Preset, updates: int, seed: int
) -> tuple[Callable[[TransitionBatch], None], VectorNetwork]:
    """Return (one update on a batch, the network that acts); a falling rate reaches zero after `updates`."""
    config = PretrainConfig(
        discount=preset.discount,
        n_step=preset.n_step,
        target="max",
        clip_targets=False,
        supervised_weight=0.0,
        conservative_weight=0.0,
        return_weight=0.0,
        warmup_epochs=0,
        dueling=False,
        target_tau=preset.target_tau,
        target_interval=preset.target_interval,
        max_gradient_norm=10.0,
        learning_rate=preset.learning_rate,
        weight_decay=0.0,
    )
    torch.manual_seed(derive_seed(seed, "cartpole-network"))
    network = VectorNetwork(VectorShape(FEATURES, ACTIONS, preset.hidden))
    target = frozen_copy(network)
    learner = DQNLearner(network, target, None, config, None, torch_generator(seed, "cartpole"))
    optimizer = optimizer_for(network, config.learning_rate, config.weight_decay)
    schedule = TargetSchedule.of(config)
    done = 0

    def learn(batch: TransitionBatch) -> None:
        nonlocal done
        rate_factor = max(0.0, 1.0 - done / updates) if preset.falling_rate else 1.0
        step(optimizer, learner.losses(batch).total, rate_factor, config.max_gradient_norm)
        done += 1
        schedule.follow(target, network, done)

    return learn, network


def ours(preset: Preset, steps: int, seed: int) -> tuple[Callable[[], None], VectorNetwork, RingStore]:
    """Return (one update, the network that acts, where its episodes go)."""
    updates = max(1, (steps - preset.first_update) // preset.steps_per_update)
    learn, network = learner_of(preset, updates, seed)
    store = RingStore(preset.buffer, vector_schema(FEATURES))
    replay = UniformReplay(store)
    chance = numpy_generator(seed, "cartpole-replay")

    def update() -> None:
        learn(replay.sample(preset.batch_size, chance))

    return update, network, store


def run(
    contestant: str,
    preset: Preset,
    steps: int,
    seed: int,
    environment: "gymnasium.Env[np.ndarray, int] | None" = None,
) -> Result:
    """Learn for some steps in an environment, CartPole-v1 if none is given, then play greedily."""
    started = time.process_time()
    chance = numpy_generator(seed, "cartpole-exploration")
    result = Result(contestant, seed, steps)
    network: torch.nn.Module
    if contestant == "ours":
        update, learning, store = ours(preset, steps, seed)
        act, network = acting(learning), learning
    else:
        store = RingStore(preset.buffer, vector_schema(FEATURES))
        torch.manual_seed(derive_seed(seed, "cartpole-network"))
        peer = BareDQN(store, preset, numpy_generator(seed, "cartpole-replay"), steps)
        update, act, network = peer.update, peer.act, peer.q
    best = BestEpoch(patience=steps)
    environment = new_environment() if environment is None else environment
    returns: list[float] = []
    taken = 0
    while taken < steps:
        states, actions, rewards, done = [], [], [], False
        state, _ = environment.reset(seed=derive_seed(seed, f"episode-{len(returns)}") % 2**31)
        ended = False
        while not done:
            epsilon = max(preset.final_epsilon, 1.0 - taken / (preset.exploration * steps))
            action = int(chance.integers(ACTIONS)) if chance.random() < epsilon else act(state)
            states.append(state)
            actions.append(action)
            state, reward, ended, truncated, _ = environment.step(action)
            rewards.append(float(reward))
            taken += 1
            done = bool(ended) or bool(truncated)
            if taken >= preset.first_update and taken % preset.steps_per_update == 0 and len(store):
                update()
        store_episode(store, [*states, state], actions, rewards, bool(ended), preset)
        returns.append(sum(rewards))
        if len(returns) % 20 == 0:
            result.curve.append((taken, float(np.mean(returns[-20:]))))
            if preset.keep_best:
                best.offer(result.curve[-1][1], [network], len(returns))
    if best.weights:
        best.restore([network])
    result.episodes = len(returns)
    scores = evaluate(act, seed, environment)
    result.mean_return, result.least_return = float(np.mean(scores)), float(np.min(scores))
    result.seconds = time.process_time() - started
    return result


def store_episode(
    store: RingStore,
    states: list[np.ndarray],
    actions: list[int],
    rewards: list[float],
    ended: bool,
    preset: Preset,
) -> None:
    """Store one episode's transitions; `states` holds one more than there are actions."""
    length = len(actions)
    columns = n_step_columns(
        np.array(rewards),
        np.full(length, preset.discount),
        np.array([0, length]),
        np.array([ended]),
        preset.n_step,
    )
    seen = np.array(states, np.float32)
    action = np.array(actions, np.int64)
    store.append(
        {
            "state": seen[:-1],
            "action": action,
            "n_step_return": columns.n_step_return,
            "bootstrap": columns.bootstrap,
            "next_state": seen[np.arange(length) + columns.steps],
            "next_action": next_actions(action, columns),
        }
    )


def new_environment() -> "gymnasium.Env[np.ndarray, int]":
    """Return CartPole-v1; raises UserError where Gymnasium is missing."""
    try:
        import gymnasium
    except ImportError:
        raise UserError(
            "gymnasium is missing, must be installed for CartPole; pip install 'metaq[simulator]'"
        ) from None
    return gymnasium.make("CartPole-v1")


def acting(network: VectorNetwork) -> Callable[[np.ndarray], int]:
    """Return the greedy policy."""

    @torch.inference_mode()
    def act(state: np.ndarray) -> int:
        return int(network.q_all(network(torch.from_numpy(state)[None])).argmax())

    return act


def evaluate(
    act: Callable[[np.ndarray], int], seed: int, environment: "gymnasium.Env[np.ndarray, int]"
) -> list[float]:
    """Return the returns of greedy episodes from starts that training never saw."""
    returns = []
    for episode in range(EVALUATION_EPISODES):
        state, _ = environment.reset(seed=derive_seed(seed, f"evaluation-{episode}") % 2**31)
        total, done = 0.0, False
        while not done:
            state, reward, ended, truncated, _ = environment.step(act(state))
            total += float(reward)
            done = bool(ended) or bool(truncated)
        returns.append(total)
    return returns


def main() -> None:
    """Run one contestant and print its result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="steady")
    parser.add_argument("--peer", choices=("cleanrl", "d3rlpy"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    preset = PRESETS[asked.preset]
    if asked.peer == "d3rlpy":
        print(d3rlpy_result(preset, asked.steps, asked.seed))
    else:
        print(json.dumps(asdict(run(asked.peer or "ours", preset, asked.steps, asked.seed))))


if __name__ == "__main__":
    run_command(main)

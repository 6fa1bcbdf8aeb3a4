"""Learning in the simulated world: offline from a log, and online from what the network itself showed.

Both are `DQNLearner` over windows of histories with the ranker's loss; they differ in whose actions the histories hold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipelines.experiments.long_term_play import Behavior, Played, play_network
from recsys.config import PretrainConfig
from recsys.learning.dqn import DQNLearner
from recsys.learning.losses import NegativeSampler
from recsys.learning.optimizer import optimizer_for, step
from recsys.learning.target_network import TargetSchedule, frozen_copy, soft_update
from recsys.logs.prepared import PreparedLog, training_histories
from recsys.logs.simulator import NONE, World
from recsys.logs.simulator_prepared import prepared_actions
from recsys.logs.simulator_stream import Actions
from recsys.mdp.windows import batches, cut_windows, read_windows
from recsys.models.q_network import NetworkShape, QNetwork
from recsys.randomness import derive_seed, numpy_generator, torch_generator


@dataclass(frozen=True)
class Learning:
    """A network's size and how it learns."""

    config: PretrainConfig
    item_features: int = 16
    hidden: int = 48
    max_events: int = 50


def fresh_network(log: PreparedLog, learning: Learning, seed: int) -> QNetwork:
    """Return a network that knows the items' content and nothing else."""
    shape = NetworkShape(
        items=log.content.shape[0],
        content_features=log.content.shape[1],
        item_features=learning.item_features,
        hidden=learning.hidden,
        layers=1,
        encoder="recurrent",
        event_types=len(log.info.event_types),
        attribute_sizes=tuple(len(values) for values in log.info.user_attribute_values),
        max_events=learning.max_events,
        dropout=0.0,
        id_dropout=0.0,
        dueling=learning.config.dueling,
        responses=learning.config.response_weight > 0,
    )
    torch.manual_seed(derive_seed(seed, "long-term network"))
    network = QNetwork(shape, learning.config.temperature)
    network.start_from_content(np.array(log.content))
    return network


class Trainer:
    """Takes updates from windows of whatever log it is given; optimizer and target network go on between logs."""

    def __init__(self, network: QNetwork, log: PreparedLog, learning: Learning, seed: int) -> None:
        config = learning.config
        self.network, self.learning = network, learning
        self.target = frozen_copy(network)
        popularity = np.bincount(log.item[log.reward > 0], minlength=len(log.content)).astype(np.float32)
        largest = float(np.max(log.reward)) / (1.0 - config.discount)
        self.learner = DQNLearner(
            network,
            self.target,
            NegativeSampler.from_popularity(popularity),
            config,
            (0.0, largest),
            torch_generator(seed, "long-term"),
        )
        self.optimizer = optimizer_for(network, config.learning_rate, config.weight_decay)
        self.schedule = TargetSchedule.of(config)
        self.shuffling = numpy_generator(seed, "long-term windows")
        self.updates = 0

    def epoch(
        self,
        log: PreparedLog,
        rate_factor: Callable[[float], float],
        warmup: bool = False,
        most: int | None = None,
    ) -> None:
        """Read windows of every training history once, or take `most` updates."""
        config = self.learning.config
        windows = cut_windows(log, training_histories(log), self.learning.max_events, 1, self.shuffling)
        if not warmup:
            self.learner.refresh_index()
        self.network.train()
        count = -(-len(windows) // config.batch_size)
        count = min(count, most or count)
        # lives of one length would share a batch, and a mean over each batch would count short, unhappy lives most
        shuffled = batches(windows, config.batch_size, self.shuffling, similar_length=False)
        for taken, rows in enumerate(shuffled):
            if taken == count:
                break
            losses = self.learner.losses(read_windows(log, rows, self.shuffling), warmup=warmup)
            step(self.optimizer, losses.total, rate_factor(taken / count), config.max_gradient_norm)
            self.updates += 1
            self.schedule.follow(self.target, self.network, self.updates)
        self.network.eval()


def learn_offline(log: PreparedLog, learning: Learning, seed: int) -> QNetwork:
    """Return a network that has learnt from a log alone; with a TD weight of 0, by cross-entropy alone.

    What is returned is the target network, a running mean of the last updates: rewards are so noisy beside the
    differences between items that the network of the last update acts clearly worse.
    """
    config = learning.config
    network = fresh_network(log, learning, seed)
    trainer = Trainer(network, log, learning, seed)
    for epoch in range(config.epochs):
        warmup = config.td_weight == 0 or epoch < config.warmup_epochs
        if epoch == config.warmup_epochs:
            soft_update(trainer.target, network, 1.0)
        trainer.epoch(log, learning_rate_over(config.epochs, epoch), warmup)
    return trainer.target


@dataclass(frozen=True)
class Online:
    """How a network learns from what it shows itself."""

    rounds: int = 80
    users: int = 800  # whole lives a round
    updates: int = 50  # a round
    kept_rounds: int = 12  # of experience
    exploration: tuple[float, float] = (0.3, 0.02)  # from the first round to the last
    temperature: tuple[float, float] = (0.03, 0.005)

    def behavior(self, number: int) -> Behavior:
        """Return how the round of that number explores: less by a constant factor a round."""
        done = number / max(1, self.rounds - 1)
        exploration, temperature = (
            first * (last / first) ** done for first, last in (self.exploration, self.temperature)
        )
        return Behavior(exploration, temperature)


@dataclass(frozen=True)
class Curve:
    """What online learning took and came to."""

    actions: list[int]  # shown up to and with each round
    returns: list[float]  # mean of the round's lives, exploration included


def learn_online(
    world: World, log: PreparedLog, learning: Learning, online: Online, seed: int
) -> tuple[QNetwork, Curve]:
    """Return a network that learnt from its own actions; `log` lends it the catalogue and nothing that was done."""
    network = fresh_network(log, learning, seed)
    trainer = Trainer(network, log, learning, seed)
    chance = numpy_generator(seed, "long-term online")
    kept: list[Played] = []
    curve = Curve([], [])
    shown = 0
    for number in range(online.rounds):
        behavior = online.behavior(number)
        played = play_network(
            world,
            trainer.target,
            online.users,
            chance,
            learning.config.discount,
            log.info.event_types,
            behavior,
        )
        shown += len(played.actions)
        curve.actions.append(shown)
        curve.returns.append(float(played.lives.returns.mean()))
        kept = [*kept, played][-online.kept_rounds :]
        experience = joined_lives(world, kept)
        trainer.epoch(experience, learning_rate_over(online.rounds, number), most=online.updates)
    return trainer.target, curve


def learning_rate_over(stretches: int, number: int) -> Callable[[float], float]:
    """Return the learning rate's factor within one stretch: it falls to 0 linearly over all of them."""
    return lambda done: 1.0 - (number + done) / stretches


def joined_lives(world: World, rounds: Sequence[Played]) -> PreparedLog:
    """Return the lives of some rounds as one log."""
    first = np.cumsum([0, *(len(played.segment) for played in rounds)])
    parts = [
        replace(played.actions, user=played.actions.user + shift)
        for played, shift in zip(rounds, first[:-1], strict=True)
    ]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in Actions.__dataclass_fields__
    }
    return prepared_actions(world, np.concatenate([played.segment for played in rounds]), Actions(**columns))


def without_silence(actions: Actions) -> Actions:
    """Return the answered actions alone: what a log of feedback holds."""
    answered = actions.response != NONE
    return Actions(**{name: getattr(actions, name)[answered] for name in Actions.__dataclass_fields__})


def with_flat_rewards(log: PreparedLog) -> PreparedLog:
    """Return the log with every response worth 1."""
    return replace(log, reward=(log.reward > 0).astype(np.float32))

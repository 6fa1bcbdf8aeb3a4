"""The Q-learning update, one for every task: targets, losses, what each transition tells of the Q-function's health.

A batch is encoded (encoding.py), its next states get candidates (next_actions.py), a rule picks a' and the target
(targets.py), losses are summed by their weights (losses.py). What differs between the ranker over histories and a
task with vector states ends with the encoding.
"""

import copy

import torch

from recsys.config import PretrainConfig
from recsys.learning.encoding import (
    EncodedTransitions,
    Encoding,
    LoggedActions,
    Mask,
    VectorEncoding,
    WindowEncoding,
)
from recsys.learning.losses import (
    NegativeSampler,
    cross_entropy,
    quantile_loss,
    sampled_cross_entropy,
    td_loss,
    weighted_mean,
)
from recsys.learning.next_actions import AllActions, BestActions, LikelyActions, NextActions, NextActionSource
from recsys.learning.remembered import RememberedTarget
from recsys.learning.step_losses import StepLosses, TransitionFigures
from recsys.learning.targets import expected_value, greedy, next_action, supported, td_target
from recsys.mdp.state import StateBatch
from recsys.mdp.transition import TransitionBatch
from recsys.models.q_network import QNetwork, q_of_candidates, q_of_pairs
from recsys.models.vector_network import VectorNetwork

Network = QNetwork | VectorNetwork


class DQNLearner:
    """Turns batches into losses, by configuration; the caller steps the optimizer and moves the target network.

    A ranker (QNetwork) learns from windows of histories, with negatives from `sampler`; a vector network from batches
    of transitions, over all of its actions, of which `mask` may rule some out by state. `remembered` spares it most
    passes of the target network over a fixed log. Given a `policy`, next actions are the best by that network, which
    stands still: what is learnt is Q of that policy (fitted Q evaluation, Le et al. 2019).
    """

    def __init__(
        self,
        network: Network,
        target: Network,
        sampler: NegativeSampler | None,
        config: PretrainConfig,
        target_range: tuple[float, float] | None,
        generator: torch.Generator,
        mask: Mask | None = None,
        remembered: RememberedTarget | None = None,
        policy: Network | None = None,
    ) -> None:
        if policy is not None and (config.target == "sarsa" or not config.double):
            raise ValueError(
                f"target is {config.target} and double {config.double}; a policy chooses where the first is a maximum "
                "and the second true"
            )
        self.network = network
        self.target = target
        self.config = config
        self.target_range = target_range if config.clip_targets else None
        self.generator = generator
        self.mask = mask
        self.remembered = remembered
        self.policy = policy
        self.device = next(network.parameters()).device
        self.sampler = None if sampler is None else sampler.to(self.device)
        self.next_actions: NextActionSource
        chooser = network if policy is None else policy
        if isinstance(chooser, VectorNetwork) and isinstance(target, VectorNetwork):
            self.next_actions = AllActions(chooser, target)
        elif isinstance(chooser, QNetwork) and isinstance(target, QNetwork):
            likely = LikelyActions(chooser, target, config.bootstrap_candidates)
            self.next_actions = likely if policy is None else BestActions(chooser, target)
        else:
            raise TypeError("network and target must be of one kind")

    def refresh_index(self) -> None:
        """Let the candidates of next states follow the target network."""
        self.next_actions.refresh()

    def watching(self, generator: torch.Generator) -> "DQNLearner":
        """Return a learner over the same networks and candidates that draws from a generator of its own."""
        watcher = copy.copy(self)
        watcher.generator = generator
        return watcher

    def losses(
        self, batch: StateBatch | TransitionBatch, *, warmup: bool = False, weight: torch.Tensor | None = None
    ) -> StepLosses:
        """Return the losses of one batch; while warming up, only supervised ones.

        `weight`, (window,), are importance weights of windows; transitions bring their own.
        """
        encoding = self._encoded(batch, weight)
        logged = encoding.logged()
        supervised, conservative, q_logged = self._of_logged_actions(logged)
        config = self.config
        response = td = returns = none = torch.zeros((), device=self.device)
        if config.response_weight > 0:
            response = self._of_responses(encoding)
        figures = None
        if not warmup:
            transitions = encoding.transitions()
            if transitions.here is not logged.states:  # values are learnt in other states than behaviour is
                q_logged = None
            td, returns, figures = self._of_transitions(transitions, q_logged)
        weighted = (
            (config.supervised_weight, supervised),
            (config.conservative_weight, conservative),
            (config.response_weight, response),
            (config.td_weight, td),
            (config.return_weight, returns),
        )
        total = sum((weight * loss for weight, loss in weighted if weight > 0), start=none)
        return StepLosses(
            total, supervised.detach(), response.detach(), td.detach(), conservative.detach(), figures
        )

    def _encoded(self, batch: StateBatch | TransitionBatch, weight: torch.Tensor | None) -> Encoding:
        network, target, policy = self.network, self.target, self.policy
        if isinstance(batch, TransitionBatch):
            if (
                not isinstance(network, VectorNetwork)
                or not isinstance(target, VectorNetwork)
                or isinstance(policy, QNetwork)
            ):
                raise TypeError("transitions between feature vectors need a VectorNetwork")
            return VectorEncoding(
                network, target, batch, self.config, self.device, self.mask, self.remembered, policy
            )
        if (
            not isinstance(network, QNetwork)
            or not isinstance(target, QNetwork)
            or isinstance(policy, VectorNetwork)
        ):
            raise TypeError("windows of histories need a QNetwork")
        return WindowEncoding(
            network, target, batch, self.config, self.generator, self.device, weight, policy
        )

    def _of_logged_actions(
        self, logged: LoggedActions
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return (behaviour loss, conservative loss, Q of the logged actions if it was needed)."""
        config = self.config
        supervised = conservative = torch.zeros((), device=self.device)
        scale = 1.0 / self.network.temperature
        states, action, weight = logged.states, logged.action, logged.weight
        if config.supervised_weight == 0 and config.conservative_weight == 0:
            return supervised, conservative, None
        if isinstance(self.network, VectorNetwork):
            behavior_logit = self.network.behavior_all(states)
            if config.supervised_weight > 0 and behavior_logit is not None:
                supervised = weighted_mean(cross_entropy(behavior_logit, action), weight)
            if config.conservative_weight == 0:
                return supervised, conservative, None
            q_value = self.network.q_all(states)
            conservative = weighted_mean(cross_entropy(q_value * scale, action), weight)
            return supervised, conservative, q_value.gather(1, action[:, None])[:, 0]
        if self.sampler is None:
            raise RuntimeError("a ranker learns behaviour against negatives; give the learner a sampler")
        negative = self.sampler.draw(config.negatives, self.generator)
        log_probability = self.sampler.log_probability
        positive_side, negative_side = self.network.item_side(action), self.network.item_side(negative)
        if config.supervised_weight > 0:
            own = (states.behavior * positive_side.vectors).sum(-1) + positive_side.behavior_bias
            others = states.behavior @ negative_side.vectors.T + negative_side.behavior_bias
            supervised = weighted_mean(
                sampled_cross_entropy(own, action, others, negative, log_probability), weight
            )
        if config.conservative_weight > 0:
            asked = states if logged.earlier is None else logged.earlier
            own = q_of_pairs(asked, positive_side) * scale
            others = q_of_candidates(asked.advantage, asked.value, negative_side) * scale
            conservative = weighted_mean(
                sampled_cross_entropy(own, action, others, negative, log_probability, logged.taken(negative)),
                weight,
            )
        return supervised, conservative, None

    def _of_responses(self, encoding: Encoding) -> torch.Tensor:
        """Return the cross-entropy of how what was shown was answered."""
        if not isinstance(encoding, WindowEncoding):
            raise TypeError("responses are learnt from windows of histories; set response_weight to 0")
        logged = encoding.responses()
        logit = encoding.network.response_logits(logged.states, logged.item)
        return weighted_mean(cross_entropy(logit, logged.event_type), logged.weight)

    def _of_transitions(
        self, transitions: EncodedTransitions, q_logged: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, TransitionFigures]:
        """Return (TD loss, loss of the return head, figures)."""
        config, here, weight = self.config, transitions.here, transitions.weight
        n_step_return, bootstrap = transitions.n_step_return, transitions.bootstrap
        with torch.no_grad():
            value, max_q, unsupported = self._next_value(transitions)
            target = td_target(n_step_return, bootstrap, value, self.target_range)
        side = None
        if q_logged is None or config.quantiles > 1:
            side = self.network.item_side(transitions.action)
        if q_logged is None and side is not None:
            q_logged = q_of_pairs(here, side)
        assert q_logged is not None  # noqa: S101 - one of the two branches gave it
        if config.quantiles > 1 and side is not None:
            quantile = q_logged[:, None] + self.network.quantile_offsets(here, transitions.action, side)
            each = quantile_loss(quantile, target, config.huber_threshold)
            target = target.mean(dim=1)
        else:
            each = td_loss(q_logged, target, config.td_loss, config.huber_threshold)
        returns = torch.zeros((), device=self.device)
        logged_return = None
        if config.return_weight > 0:
            logged_return = n_step_return + bootstrap * transitions.through_target().behavior_return
            goal = logged_return if self.target_range is None else logged_return.clamp(*self.target_range)
            returns = weighted_mean((here.behavior_return - goal) ** 2, weight)
        q_value = q_logged.detach()
        figures = TransitionFigures(
            (target - q_value).abs(),
            q_value,
            max_q,
            logged_return,
            transitions.realised,
            unsupported,
            transitions.row,
            transitions.column,
            bootstrap,
        )
        return weighted_mean(each, weight), returns, figures

    def _next_value(
        self, transitions: EncodedTransitions
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return (value of the next state, (state,) or (state, quantile); max supported Q; argmax unsupported?)."""
        config = self.config
        candidates = self.next_actions.of(transitions)
        q_choice = candidates.q_online if config.double else None
        if q_choice is None:
            q_choice = candidates.q_target
        allowed, logit, unsupported = candidates.allowed, candidates.behavior_logit, None
        if logit is not None:
            permitted = logit if allowed is None else logit.masked_fill(~allowed, -torch.inf)
            support = supported(permitted, config.support_threshold)
            if allowed is not None:
                support = support & allowed
            unsupported = ~support.gather(1, greedy(q_choice, allowed)[1][:, None])[:, 0]
            if config.target != "max":
                allowed = support
        place, max_q = next_action(config.target, q_choice, allowed, candidates.logged)
        value = candidates.q_target.gather(1, place[:, None])[:, 0]
        if config.quantiles > 1:
            item = candidates.at(place)
            there = transitions.through_target()
            offsets = self.target.quantile_offsets(there, item, self.target.item_side(item))
            value = value[:, None] + offsets
        if config.target == "sarsa":
            after = self._value_after_the_log(transitions, candidates)
            cut = transitions.next_action < 0
            value = (
                torch.where(cut, after, value)
                if value.ndim == 1
                else value.where(~cut[:, None], after[:, None])
            )
        return value, max_q, unsupported

    def _value_after_the_log(self, transitions: EncodedTransitions, candidates: NextActions) -> torch.Tensor:
        """Return what stands for Q of the logged next action where the log was cut, (state,)."""
        if self.config.truncated_sarsa == "return_head":
            return transitions.through_target().behavior_return
        if candidates.behavior_logit is None:
            raise RuntimeError("expected SARSA asks the behaviour head; give the network one")
        return expected_value(candidates.q_target, candidates.behavior_logit, candidates.allowed)

"""What a request asks of a student, on numpy arrays: the query of one user, adapted to their events.

The rules are those of mdp/state.py, models/student.py and adaptation.py, which training, evaluation and this share or
are held to: made from the same weights, this form says the same to 1e-5 (tests/test_request_form.py). It exists because
one user in PyTorch is dispatch and little else (docs/distillation.md has the table).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.linalg import lapack
from torch.nn.functional import softplus

from recsys.adaptation import AdaptationPrior
from recsys.mdp.state import History
from recsys.models.item_table import ItemTable
from recsys.models.request_state import (
    KEPT_LENGTH,
    RequestState,
    RequestStates,
    Starts,
    array,
    number,
)
from recsys.models.small_gram import gram, lower_factor
from recsys.models.student import StudentNetwork
from recsys.types import FloatArray, IntArray


@dataclass(frozen=True)
class RequestWeights:
    """A user's posterior N(w_u, Σ) over fast weights, as FastWeights for one user."""

    mean: FloatArray  # w_u, (feature,)
    features: FloatArray  # Φ, (support, feature)
    factor: FloatArray  # lower Cholesky factor of ΦΦᵀ + σ² W⁻¹, (support, support)
    noise: FloatArray  # σ² / ρ^age, (support,)

    def learnt(self) -> FloatArray:
        """Return D, (support, feature), with Σ = I − DᵀD."""
        learnt: FloatArray = lapack.strtrs(self.factor, self.features, lower=1)[0]
        return learnt

    def deviations(self, draws: int, generator: np.random.Generator) -> FloatArray:
        """Return draws of the fast weights less their mean, (draw, feature), as recsys/posterior.py draws them."""
        phi = self.features.astype(np.float64)
        drawn = generator.standard_normal((draws, phi.shape[1]))
        seen = drawn @ phi.T + np.sqrt(self.noise) * generator.standard_normal((draws, len(phi)))
        solved = lapack.dpotrs(self.factor.astype(np.float64), seen.T, lower=1)[0]
        found: FloatArray = (drawn - solved.T @ phi).astype(np.float32)
        return found


class RequestForm:
    """History -> (query, fast weights) for one user."""

    def __init__(
        self,
        student: StudentNetwork,
        prior: AdaptationPrior,
        table: ItemTable,
        max_events: int,
        discount: float,
    ) -> None:
        self.max_events = max_events
        self._state = RequestState(student)
        self._prior = RequestPrior(prior, discount)
        self._mean_vector, self._mean_bias = array(table.mean_vector), array(table.mean_bias)
        self.show(table.vectors.numpy(), table.bias.numpy(), table.features.numpy())

    def show(self, vectors: FloatArray, bias: FloatArray, features: FloatArray) -> None:
        """Read items from other columns, where a table has grown."""
        self._vectors, self._bias, self._features = vectors, bias, features

    def query(
        self, history: History, *, adapt: bool, memory: bool
    ) -> tuple[FloatArray, RequestWeights | None]:
        """Return [f(s), w_u, 1, V(s)] and the posterior, if there is something to adapt to.

        The first three parts of the query rank, V makes them a Q-value. Raises LinAlgError.
        """
        history = newest(history, self.max_events)
        vectors = self._vectors[history.item]
        states = self._state.of(history, vectors)
        fast = self._adapted(history, states, vectors) if adapt and len(history) else None
        asked = states.advantage[-1]
        if not memory:
            asked = asked.copy()
            asked[self._state.learnt :] = 0.0
        weights = self._prior.start(history.attributes) if fast is None else fast.mean
        return np.concatenate([asked, weights, _ONE, states.value[-1:]]), fast

    def adapted(self, history: History) -> RequestWeights:
        """Return the posterior given a history, which must not be empty. Raises LinAlgError."""
        history = newest(history, self.max_events)
        vectors = self._vectors[history.item]
        return self._adapted(history, self._state.of(history, vectors), vectors)

    def _adapted(self, history: History, states: RequestStates, vectors: FloatArray) -> RequestWeights:
        advantage = states.advantage[:-1]
        mean_advantage = advantage.dot(self._mean_vector) + self._mean_bias
        own_advantage = np.vecdot(advantage, vectors) + self._bias[history.item]
        return self._prior.adapt(self._features[history.item], history, states, mean_advantage, own_advantage)


def newest(history: History, events: int) -> History:
    """Return the newest events, with items and event types as numpy indexes by them: no gather converts them anew."""
    kept = history.last(events)
    return replace(kept, item=kept.item.astype(np.intp), event_type=kept.event_type.astype(np.intp))


class RequestPrior:
    """The inner loop of recsys/adaptation.py for one user."""

    def __init__(self, prior: AdaptationPrior, discount: float) -> None:
        self._discount, self._n_step = discount, int(prior.n_step)
        self._gain, self._offset = array(prior.gain), array(prior.offset)
        self._own = array(torch.sigmoid(prior.mix_logit))
        self._others = array(torch.sigmoid(-prior.mix_logit))
        self._growth = number(prior.growth)
        self._log_noise = number(prior.log_noise)
        self._decay = number(softplus(prior.log_decay))
        self._of_size: dict[int, _OfSize] = {}
        amortised = prior.amortised
        attributes: list[FloatArray] = []
        self._read: FloatArray | None = None
        if amortised is not None:
            attributes = [array(table) for table in amortised.attributes.parameters()]
            self._read = np.ascontiguousarray(array(amortised.read.weight).T)
            self._read_bias = array(amortised.read.bias) + array(amortised.event_type.weight)  # by event type
            self._write = np.ascontiguousarray(array(amortised.write.weight).T)
        self._starts = Starts(array(prior.mean), attributes)

    def start(self, attributes: IntArray) -> FloatArray:
        """Return w_0 before any event, (feature,)."""
        return self._starts.of(attributes)

    def adapt(
        self,
        features: FloatArray,  # (support, feature)
        history: History,
        states: RequestStates,
        mean_advantage: FloatArray,  # Q̄ − V, (support,)
        own_advantage: FloatArray,  # Q − V, (support,)
    ) -> RequestWeights:
        """Return the posterior given all events of a history."""
        events = len(history)
        size = self._of_size.get(events) or self._shared(events)
        start = self.start(history.attributes)
        if self._read is not None:
            pair = features.dot(self._read[:-1])
            pair += history.reward[:, None] * self._read[-1]
            pair += self._read_bias[history.event_type]
            np.maximum(pair, 0.0, out=pair)
            moved: FloatArray = size.mean.dot(pair).dot(self._write)
            start = start + moved
        surprise = size.returns.dot(np.concatenate([history.reward, states.behavior_return[1:]]))
        surprise -= states.value[:-1]
        surprise -= self._others * mean_advantage
        surprise -= self._own * own_advantage
        evidence = self._gain[history.event_type]
        evidence *= surprise
        evidence += self._offset[history.event_type]
        evidence *= size.growth
        evidence -= features.dot(start)
        factor = lower_factor(gram(features), size.noise)
        solved = lapack.spotrs(factor, evidence, lower=1)[0]
        return RequestWeights(start + solved.dot(features), features, factor, size.noise)

    def _shared(self, events: int) -> "_OfSize":
        noise = np.exp(self._log_noise + self._decay * np.arange(events - 1, -1, -1)).astype(np.float32)
        noise.flags.writeable = False  # every request of this size has it
        returns = returns_matrix(events, self._n_step, self._discount)
        mean = np.full(events, (1.0 + events) ** -0.5, np.float32)
        found = _OfSize(noise, returns, np.full((), events**self._growth, np.float32), mean)
        if events <= KEPT_LENGTH:
            self._of_size[events] = found
        return found


@dataclass(frozen=True)
class _OfSize:
    """What the inner loop asks of every support of one size."""

    noise: FloatArray  # σ² / ρ^age, (support,)
    returns: FloatArray  # (support, 2 · support)
    growth: FloatArray  # k^b, ()
    mean: FloatArray  # 1 / √(1 + k) of the amortised prior for each event, (support,)


def returns_matrix(events: int, n_step: int, discount: float) -> FloatArray:
    """Return the map from [r_0 … r_{k−1}, U(s_1) … U(s_k)] to n-step returns, (support, 2 · support).

    Σ_{j<m} γ^j r_{t+j} + γ^m U(s_{t+m}), m = min(n, k − t).
    """
    at = np.arange(events)
    ahead = at - at[:, None]  # of event j, seen from event t
    steps = np.minimum(events - at, n_step)[:, None]
    rewards = np.where((ahead >= 0) & (ahead < steps), float(discount) ** np.maximum(ahead, 0), 0.0)
    bootstrap = np.where(ahead + 1 == steps, float(discount) ** steps, 0.0)
    found: FloatArray = np.concatenate([rewards, bootstrap], axis=1).astype(np.float32)
    return found


_ONE = np.ones(1, np.float32)

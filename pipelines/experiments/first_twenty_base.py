"""Q_θ(s, i) of the first twenty interactions: what every adaptive policy starts from, learnt from the log alone.

    Q_θ(s, i) = f(s, i) · b(segment, i) · v_i + later_i

b is the chance of an answer, v_i what an answer to the item is worth on average (a purchase among answers is rare luck,
so its mean says more than the one seen), later_i what follows (item_values). f = exp(−Σ_k c_k cos(x_i, x_{i−k})) is
freshness: an item like the last two of the session is answered less. Whoever likes a topic is shown and answers it
more, so c is fitted against the means of segment and item: within them the logging policy, which knows segments alone,
shows at random.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from recsys.logs.prepared import PreparedLog
from recsys.mdp.state import StateBatch
from recsys.types import FloatArray, LongArray

LOOKS_BACK = 2  # items of the session that make one like them stale
FEWEST_ANSWERS, FEWEST_SHOWN, PRIOR_STRENGTH = 20.0, 40.0, 5.0  # pseudo-observations of what is shrunk


@dataclass(frozen=True)
class StateValues:
    """What a state and an item are worth before anything is known of the user but the segment."""

    chance: torch.Tensor  # b, (segment code, item)
    worth: torch.Tensor  # v, (item,)
    staleness: torch.Tensor  # c, (LOOKS_BACK,)
    direction: torch.Tensor  # content of length one, (item, feature)

    def fresh_then(self, states: StateBatch) -> torch.Tensor:
        """Return f of every event when it was shown, (user, time)."""
        shown = self._shown(states)
        users, time = states.item.shape
        log_fresh = torch.zeros(users, time)
        for back in range(1, min(LOOKS_BACK, time - 1) + 1):
            alike = (shown[:, back:] * shown[:, :-back]).sum(-1)
            for place in range(back):  # no session has begun in between
                alike = alike * (states.new_session[:, back - place : time - place] == 0)
            log_fresh[:, back:] -= self.staleness[back - 1] * alike
        return log_fresh.exp()

    def fresh_now(self, states: StateBatch) -> torch.Tensor:
        """Return f of every item if it were shown next, (user, item)."""
        shown, row = self._shown(states), torch.arange(len(states.item))
        log_fresh = torch.zeros(len(states.item), len(self.worth))
        for back in range(1, min(LOOKS_BACK, states.item.shape[1]) + 1):
            last = shown[row, (states.lengths - back).clamp(min=0)]
            told = (states.lengths >= back)[:, None]
            log_fresh -= self.staleness[back - 1] * told * (last @ self.direction.T)
        return log_fresh.exp()

    def chance_of(self, states: StateBatch) -> torch.Tensor:
        """Return b of every item for the users' segments, (user, item)."""
        return self.chance[states.attributes[:, 0]]

    def surprise(self, states: StateBatch, fresh: torch.Tensor) -> torch.Tensor:
        """Return answered − f b of every event, zero on padding; (user, time)."""
        expected = fresh * self.chance_of(states).gather(1, states.item.clamp(min=0))
        return ((states.reward > 0).float() - expected) * states.present

    def _shown(self, states: StateBatch) -> torch.Tensor:
        return self.direction[states.item.clamp(min=0)] * states.present[..., None]


@dataclass(frozen=True)
class Shown:
    """Every event of a log flat, as least squares reads it; all (event,) but `alike`."""

    item: LongArray
    user: LongArray
    segment: LongArray  # code
    answered: FloatArray
    alike: FloatArray  # cosine to the item k before in the session, (event, LOOKS_BACK)

    @staticmethod
    def of(log: PreparedLog, direction: FloatArray) -> "Shown":
        """Return the events of a log."""
        item, session = np.asarray(log.item).astype(np.int64), np.asarray(log.session)
        history = np.repeat(np.arange(len(log.history_offsets) - 1), np.diff(log.history_offsets))
        segment = np.asarray(log.user_attributes)[np.asarray(log.history_user)[history], 0].astype(np.int64)
        alike = np.zeros((len(item), LOOKS_BACK), np.float32)
        for back in range(1, LOOKS_BACK + 1):
            same = (session[back:] == session[:-back]) & (history[back:] == history[:-back])
            alike[back:, back - 1] = (direction[item[back:]] * direction[item[:-back]]).sum(axis=1) * same
        return Shown(item, history, segment, (np.asarray(log.reward) > 0).astype(np.float32), alike)


def learn_values(log: PreparedLog) -> tuple[StateValues, Shown, FloatArray]:
    """Return Q_θ without later_i, the log's events, and f of each."""
    content = np.array(log.content, np.float32)
    direction = content / np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-9)
    shown = Shown.of(log, direction)
    features = np.concatenate([np.ones((len(content), 1), np.float32), content], axis=1)
    got = shown.answered > 0
    worth = shrunk_means(
        features,
        shown.item[got],
        np.asarray(log.reward)[got],
        np.ones(int(got.sum()), np.float32),
        FEWEST_ANSWERS,
    )
    fresh = np.ones(len(shown.item), np.float32)
    chance, staleness = chances(features, shown, fresh), np.zeros(LOOKS_BACK)
    for _ in range(2):
        expected = chance[shown.segment, shown.item]

        def error(c: FloatArray, expected: FloatArray = expected) -> float:
            return float(np.mean((shown.answered - np.exp(-shown.alike @ c) * expected) ** 2))

        staleness = minimize(error, np.full(LOOKS_BACK, 0.1), method="Nelder-Mead", options={"maxiter": 60}).x
        fresh = np.exp(-shown.alike @ staleness).astype(np.float32)
        chance = chances(features, shown, fresh)
    tensors = (
        torch.from_numpy(np.asarray(part, np.float32)) for part in (chance, worth, staleness, direction)
    )
    return StateValues(*tensors), shown, fresh


def chances(features: FloatArray, shown: Shown, fresh: FloatArray) -> FloatArray:
    """Return b, (segment code, item): the item's mean, and what a segment's answers say beyond it."""
    everybody = shrunk_means(features, shown.item, shown.answered, fresh, FEWEST_SHOWN)
    found = np.tile(everybody, (int(shown.segment.max()) + 1, 1))
    for code in np.unique(shown.segment):
        of = shown.segment == code
        beyond = shown.answered[of] - fresh[of] * everybody[shown.item[of]]
        found[code] += shrunk_means(features, shown.item[of], beyond, fresh[of], FEWEST_SHOWN)
    return found


def shrunk_means(
    features: FloatArray, item: LongArray, said: FloatArray, weight: FloatArray, strength: float
) -> FloatArray:
    """Return m, (item,), with said ≈ weight · m_item: by ridge from content, and the item's own rest, shrunk."""
    read = features[item] * weight[:, None]
    gram = read.T @ read + PRIOR_STRENGTH * np.eye(features.shape[1], dtype=np.float32)
    base: FloatArray = features @ np.linalg.solve(gram, read.T @ said)
    rest = np.bincount(item, (said - weight * base[item]) * weight, len(features))
    return (base + rest / (np.bincount(item, weight**2, len(features)) + strength)).astype(np.float32)

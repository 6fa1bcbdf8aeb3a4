"""A prior over new users from the log's users: empirical Bayes by expectation-maximisation (Dempster et al. 1977).

    answered = f (b + w_uᵀ E_i) + noise,     w_u ~ N(0, I)

is factor analysis with known loadings f and missing cells (Roweis & Ghahramani 1999): E-step, the posterior of every
user's w; M-step, ridge regression of each item's vector on those posteriors, shrunk towards what its content says. The
prior covariance of users' deviations from Q_θ is then E Eᵀ, low-rank and learnt, where a bandit has an isotropic one.
What a new user's events say is `AdaptationPrior.adapt`, the inner loop that is served.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from pipelines.experiments.first_twenty_base import Shown, StateValues
from recsys.adaptation import NO_DECAY, AdaptationPrior, FastWeights, SupportSet
from recsys.logs.prepared import PreparedLog
from recsys.mdp.state import StateBatch
from recsys.types import FloatArray

ROUNDS, SHRINKAGE, FIRST_SPREAD = 10, 50.0, 0.1


@dataclass(frozen=True)
class Tastes:
    """E and the noise: all that the log's users say of how users differ."""

    vectors: torch.Tensor  # E, (item, feature)
    prior: AdaptationPrior

    def adapt(self, values: StateValues, states: StateBatch) -> FastWeights:
        """Return the posterior of w_u after what was shown and answered."""
        if states.item.shape[1] == 0:
            return self.prior.before_support(states.attributes)
        fresh = values.fresh_then(states)
        answered = (states.reward > 0).float()
        expected = answered - values.surprise(states, fresh)
        item = states.item.clamp(min=0)
        support = SupportSet(
            item,
            states.event_type,
            states.reward,
            answered,
            expected,
            expected,
            states.present,
            states.attributes,
        )
        return self.prior.adapt(fresh[..., None] * self.vectors[item], support)

    def variance(self, fast: FastWeights) -> torch.Tensor:
        """Return E_iᵀ Σ E_i of every user and item, (user, item)."""
        if fast.features.shape[1] == 0:
            return self.vectors.square().sum(-1).expand(len(fast.mean), -1)
        return fast.variance(self.vectors)


def learn_tastes(
    log: PreparedLog, shown: Shown, values: StateValues, fresh: FloatArray, features: int, seed: int
) -> Tastes:
    """Return the tastes that explain best how the log's users differ from Q_θ; `shown` and `fresh` are of the log."""
    content = np.array(log.content, np.float32)
    beyond = shown.answered - fresh * values.chance.numpy()[shown.segment, shown.item]
    users, items, events = int(shown.user.max()) + 1, len(content), np.arange(len(beyond))
    by_user, by_item = (
        sparse.csr_matrix((np.ones(len(events), np.float32), (of, events)), shape=(rows, len(events)))
        for of, rows in ((shown.user, users), (shown.item, items))
    )
    table = sparse.csr_matrix((beyond, (shown.user, shown.item)), shape=(users, items))
    _, size, axes = randomized_svd(table, features, random_state=seed % 2**32)
    vectors = axes.T * np.sqrt(size)
    vectors = (vectors * (FIRST_SPREAD / vectors.std())).astype(np.float32)
    noise, eye = float(beyond.var()), np.eye(features, dtype=np.float32)
    read = np.concatenate([np.ones((items, 1), np.float32), content], axis=1)
    mean, second = np.zeros((users, features)), np.zeros((users, features, features))
    for _ in range(ROUNDS):
        loaded = vectors[shown.item] * fresh[:, None]
        gram = (by_user @ _outer(loaded)).reshape(users, features, features)
        covariance = np.linalg.inv(gram / noise + eye)
        told = by_user @ (loaded * beyond[:, None])
        mean = (covariance @ told[..., None])[..., 0] / noise
        second = mean[:, :, None] * mean[:, None, :] + covariance
        weighed = second.reshape(users, -1)[shown.user] * (fresh**2)[:, None]
        gram_of_item = (by_item @ weighed.astype(np.float32)).reshape(items, features, features)
        told_of_item = by_item @ (mean[shown.user] * (beyond * fresh)[:, None])
        of_content = read @ np.linalg.lstsq(read, vectors, rcond=None)[0]
        right = told_of_item + SHRINKAGE * of_content
        vectors = np.linalg.solve(gram_of_item + SHRINKAGE * eye, right[..., None])[..., 0].astype(np.float32)
        loaded = vectors[shown.item] * fresh[:, None]
        left = beyond - (loaded * mean[shown.user]).sum(axis=1)
        unsure = ((loaded[:, None, :] @ covariance[shown.user])[:, 0] * loaded).sum(axis=1)
        noise = float((left**2).mean() + unsure.mean())
    spread = np.linalg.cholesky(second.mean(axis=0))
    return Tastes(
        torch.from_numpy((vectors @ spread).astype(np.float32)),
        _plain_prior(features, len(log.info.event_types), noise),
    )


def _plain_prior(features: int, event_types: int, noise: float) -> AdaptationPrior:
    """Return the inner loop as Bayesian regression has it: evidence is the surprise itself, nothing is forgotten."""
    prior = AdaptationPrior(features, event_types)
    with torch.no_grad():
        prior.log_noise.fill_(float(np.log(noise)))
        prior.log_decay.fill_(NO_DECAY)
    return prior


def _outer(rows: FloatArray) -> FloatArray:
    return (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)

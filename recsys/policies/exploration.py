"""How a served list is drawn from scores, with the exact probability of what was drawn.

The propensity of an item is its probability given the state and the items above it; their product is the list's. Every
policy fills positions one after the other from the items left, R, with scores

    s_k(i) = s(i) − d · max(0, max_{j above k} cos(e_i, e_j)),                      d = diversity,

so that diversity is part of the policy and of its propensities:

    greedy          argmax s_k                                                       propensity 1
    epsilon         (1 − ε) 1{i = argmax s_k} + ε / |R|
    plackett_luce   softmax(s_k / temperature); with d = 0 in one pass by the Gumbel trick (Kool et al. 2019)
    thompson        one of M draws of the posterior, m ~ uniform, then epsilon by its scores s_k^m. What is logged is
                    the probability with m summed out, Σ_m P(m | items above) p_m(i), P(m | items above) ∝ Π p_m(item
                    above): which draw it was is not part of the state. ε keeps every probability above zero.

Ties go to the item that stands first.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt

from recsys.config import ExplorationConfig
from recsys.types import BoolArray, FloatArray, IntArray, RealArray

TENTH = 10
NOISE = 1e-6  # scores closer than this, relative to their size, are equal


@lru_cache(maxsize=256)  # a request's list says it, and a server has few policies
def policy_name(config: ExplorationConfig, ranker: str = "", *, sampled: bool = True) -> str:
    """Return the policy as logs show it; what ranks stands before a slash, if it has a name.

    Where nothing can be sampled from a posterior, thompson is epsilon, and says so.
    """
    numbers = {
        "greedy": {},
        "epsilon": {"epsilon": config.epsilon},
        "plackett_luce": {"temperature": config.temperature},
        "thompson": {"samples": config.samples, "epsilon": config.epsilon},
    }
    kind = "epsilon" if config.kind == "thompson" and not sampled else config.kind
    told = [f"{name}={value:g}" for name, value in numbers[kind].items()]
    if config.diversity:
        told.append(f"diversity={config.diversity:g}")
    drawn = f"{kind}({', '.join(told)})" if told else kind
    return f"{ranker}/{drawn}" if ranker else drawn


def spread(scores: FloatArray) -> float:
    """Return what lies between the first and the tenth of scores, (candidate,), best first: the unit of a temperature.

    Scores of baselines have scales of their own, which change with the length of a history; in this unit a temperature
    explores alike for all of them. Where ten are equal the last candidate takes the tenth's place; 1 if all are.
    """
    if not len(scores):
        return 1.0
    first = float(scores[0])
    for place in (min(TENTH, len(scores)), len(scores)):
        other = float(scores[place - 1])
        if first - other > NOISE * max(abs(first), abs(other), 1e-30):
            return first - other
    return 1.0


def draw_list(
    scores: FloatArray,  # (candidate,), best first
    count: int,
    config: ExplorationConfig,
    generator: np.random.Generator,
    samples: FloatArray | None = None,  # scores under draws of the posterior, (draw, candidate)
    vectors: FloatArray | None = None,  # of length 1 or 0, (candidate, feature); diversity needs them
) -> tuple[IntArray, FloatArray]:
    """Return (places in `scores`, propensities) of a list, both (position,).

    Raises ValueError where the policy is to be diverse and there are no vectors.
    """
    count = min(count, len(scores))
    if config.diversity and vectors is None:
        raise ValueError("diversity needs the candidates' vectors; hand them over, or set diversity to 0")
    if count == 0 or (config.kind == "greedy" and not config.diversity):
        return np.arange(count, dtype=np.int32), np.ones(count, np.float32)
    if config.kind == "plackett_luce" and not config.diversity:
        return _gumbel(scores, count, config.temperature, generator)
    if config.kind == "thompson" and samples is not None:
        return _sequential(samples, count, config, generator, vectors)
    return _sequential(scores[None], count, config, generator, vectors)


def _gumbel(
    scores: FloatArray, count: int, temperature: float, generator: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    logits = (scores.astype(np.float64) - scores.max()) / temperature
    drawn = np.argsort(-(logits + generator.gumbel(size=len(logits))), kind="stable")
    drawn_logits = logits[drawn]
    # log Σ over the items not yet shown, for every position at once, from the tail of the drawn order
    remaining = np.logaddexp.accumulate(drawn_logits[::-1])[::-1]
    propensity = np.exp(drawn_logits[:count] - remaining[:count])
    return drawn[:count].astype(np.int32), propensity.astype(np.float32)


def _sequential(
    scores: FloatArray,  # (draw, candidate)
    count: int,
    config: ExplorationConfig,
    generator: np.random.Generator,
    vectors: FloatArray | None,
) -> tuple[IntArray, FloatArray]:
    """Fill one position after the other; draws of the posterior are equally likely at first."""
    current = scores.astype(np.float64)  # (draw, candidate), −∞ where shown
    draw = int(generator.integers(len(current)))
    belief = np.full(len(current), 1.0 / len(current))  # P(draw | items above)
    alike = np.zeros(current.shape[1])  # to the most similar item above
    places = np.empty(count, np.int32)
    propensities = np.empty(count, np.float64)
    for position in range(count):
        chances = _chances(current, config)  # (draw, candidate)
        place = _drawn(chances[draw], generator)
        places[position] = place
        likelihood = chances[:, place]
        propensities[position] = belief @ likelihood
        belief = belief * likelihood / propensities[position]
        if config.diversity:
            nearer: RealArray = np.maximum(
                alike, cast(FloatArray, vectors) @ cast(FloatArray, vectors)[place]
            )
            current -= config.diversity * (nearer - alike)
            alike = nearer
        current[:, place] = -np.inf
    return places, propensities.astype(np.float32)


def _chances(current: RealArray, config: ExplorationConfig) -> RealArray:
    """Return the probability of each item at the next position, (draw, candidate)."""
    left = current > -np.inf
    if config.kind == "plackett_luce":
        weights = np.exp((current - current.max(axis=1, keepdims=True)) / config.temperature)
        return cast(RealArray, weights / weights.sum(axis=1, keepdims=True))
    epsilon = 0.0 if config.kind == "greedy" else config.epsilon
    chances: RealArray = left * np.float64(epsilon / max(1, int(left[0].sum())))
    chances[np.arange(len(current)), current.argmax(axis=1)] += 1.0 - epsilon
    return chances


def _drawn(chances: RealArray, generator: np.random.Generator) -> int:
    """Return a place drawn by chances that sum to one, never one without a chance."""
    reached = np.cumsum(chances)
    place = int(np.searchsorted(reached, generator.random() * reached[-1], side="right"))
    place = min(place, len(chances) - 1)
    return place if chances[place] > 0 else int(np.flatnonzero(chances)[-1])


@dataclass(frozen=True)
class ListDistribution:
    """What a list could be: candidates, best first, drawn one after the other without replacement."""

    items: IntArray  # (candidate,)
    scores: RealArray  # under each draw of the posterior, (draw, candidate)
    config: ExplorationConfig
    vectors: FloatArray | None = None  # (candidate, feature); diversity needs them

    @staticmethod
    def softmax(items: IntArray, logits: RealArray) -> "ListDistribution":
        """Return the Plackett-Luce distribution of logits, (candidate,)."""
        return ListDistribution(items, logits[None], ExplorationConfig(kind="plackett_luce", temperature=1.0))

    def given_above(self, shown: npt.NDArray[np.integer]) -> RealArray:
        """Return the probability of each candidate at each position given what was shown above, (position, candidate).

        Shown items that are no candidates take nobody's place, and say nothing of which draw it was.
        """
        own = self.items == np.asarray(shown)[:, None]  # (position, candidate)
        if not len(self.items):
            return np.zeros(own.shape)
        if len(self.scores) > 1 or self.config.diversity:
            return self._one_by_one(own)
        taken: BoolArray = np.zeros_like(own)
        taken[1:] = np.logical_or.accumulate(own, axis=0)[:-1]
        left = np.where(taken, -np.inf, self.scores)
        chances = np.zeros(own.shape)
        some = ~taken.all(axis=1)
        if self.config.kind == "plackett_luce":  # rows of any kind are read alike, all at once
            chances[some] = _chances(left[some], self.config)
        else:
            for position in np.flatnonzero(some):
                chances[position] = _chances(left[position][None], self.config)[0]
        return chances

    def _one_by_one(self, own: BoolArray) -> RealArray:
        current = self.scores.astype(np.float64)
        belief = np.full(len(current), 1.0 / len(current))  # P(draw | items above)
        alike = np.zeros(current.shape[1])
        found = np.zeros(own.shape)
        for position, candidate in enumerate(own):
            if not np.isfinite(current[0]).any():
                break
            chances = _chances(current, self.config)
            found[position] = belief @ chances
            for place in np.flatnonzero(candidate & np.isfinite(current[0])):
                likelihood = chances[:, place]
                if (total := float(belief @ likelihood)) > 0:
                    belief = belief * likelihood / total
                if self.config.diversity:
                    vectors = cast(FloatArray, self.vectors)
                    nearer: RealArray = np.maximum(alike, vectors @ vectors[place])
                    current -= self.config.diversity * (nearer - alike)
                    alike = nearer
                current[:, place] = -np.inf
        return found

    def propensities(self, shown: npt.NDArray[np.integer]) -> RealArray:
        """Return the probability of each shown item given those above it, (position,); 0 for what is no candidate."""
        own = self.items == np.asarray(shown)[:, None]
        chances: RealArray = np.where(own, self.given_above(shown), 0.0).sum(axis=1)
        return chances

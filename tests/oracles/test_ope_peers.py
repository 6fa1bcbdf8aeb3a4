"""Agreement with independent implementations where formulas coincide; where they do not, why.

Peers live in an environment of their own (`make bench-peers`, .bench/ope): their pins clash with ours.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.evaluation.ope.accumulate import sum_rounds
from recsys.evaluation.ope.estimators import (
    ClippedIPS,
    OptimisticShrinkageDR,
    SwitchDR,
    direct_method,
    doubly_robust,
    ips,
    replay,
    self_normalised_dr,
    snips,
)
from recsys.evaluation.ope.likelihood import likelihood_interval
from recsys.evaluation.ope.rounds import Rounds, reduce_rounds
from recsys.evaluation.ope.slates import (
    Slates,
    slate_cascade_dr,
    slate_independent,
    slate_interaction,
    slate_pseudo_inverse,
    slate_standard,
)
from recsys.evaluation.ranking import (
    QuerySets,
    average_precision,
    graded_ndcg,
    hit_rate,
    hits,
    ndcg,
    precision,
    ranked_gains,
    recall,
    reciprocal_rank,
    tie_order,
    top_items,
)

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".bench" / "ope" / "bin" / "python"
pytestmark = pytest.mark.skipif(
    not PEERS.exists(), reason="the peers' environment .bench/ope is missing; `make bench-peers` makes it"
)


def asked(what: str, tmp_path: Path, **arrays: Any) -> dict[str, Any]:
    np.savez(tmp_path / "given.npz", **arrays)
    script = Path(__file__).with_name("ope_peers.py")
    done = subprocess.run(
        [PEERS, script, what, tmp_path / "given.npz"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_rounds_agree_with_open_bandit_pipeline_and_vowpal_wabbit(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rounds, actions = 2000, 12
    behaviour, evaluation = generator.dirichlet(np.ones(actions), (2, rounds))
    action = (generator.random((rounds, 1)) > np.cumsum(behaviour, axis=1)).sum(axis=1).clip(0, actions - 1)
    given = {
        "action": action,
        "reward": generator.random(rounds),
        "propensity": behaviour[np.arange(rounds), action],
        "evaluation": evaluation,
        "q_values": generator.random((rounds, actions)),
    }
    peers = asked("rounds", tmp_path, threshold=3.0, **given)
    ours_of = {
        "ips": ips, "clipped": ClippedIPS(3.0), "snips": snips, "dm": direct_method, "dr": doubly_robust,
        "sndr": self_normalised_dr, "switch": SwitchDR(3.0), "dros": OptimisticShrinkageDR(3.0),
        "vw ips": ips, "vw snips": snips,
    }  # fmt: skip
    sums = sum_rounds(reduce_rounds(**given), ours_of)
    ours = dict(zip(sums.names, sums.estimates(), strict=True))
    for name in ours_of:
        assert ours[name] == pytest.approx(peers[name], rel=1e-6), name
    best = np.eye(actions)[evaluation.argmax(axis=1)]
    exact = sum_rounds(reduce_rounds(**{**given, "evaluation": best}), {"replay": replay}).estimates()[1]
    assert exact == pytest.approx(peers["replay"], rel=1e-6)
    # not copied: the peer's replay answers 0 for every policy that draws
    assert peers["replay of a policy that draws"] == 0.0
    assert sum_rounds(reduce_rounds(**given), {"replay": replay}).estimates()[1] > 0.3


def test_lists_agree_with_open_bandit_pipeline_and_vowpal_wabbit(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    lists, length, items = 60, 3, 6
    item = np.stack([generator.permutation(items)[:length] for _ in range(lists)])
    reward = generator.random((lists, length))
    propensity, chosen = generator.uniform(0.1, 0.9, (2, lists, length))
    q_values = generator.random((lists, length, items))
    distribution = generator.dirichlet(np.ones(items), (lists, length))
    place = np.ix_(np.arange(lists), np.arange(length))
    peers = asked(
        "slates",
        tmp_path,
        item=item, reward=reward, propensity=propensity, chosen=chosen, q_values=q_values, distribution=distribution,
    )  # fmt: skip
    slates = Slates(
        reward,
        propensity,
        chosen,
        np.full(lists, length),
        q_values[(*place, item)],
        (distribution * q_values).sum(axis=2),
    )
    for name, estimator in (
        ("standard", slate_standard),
        ("independent", slate_independent),
        ("interaction", slate_interaction),
        ("cascade-dr", slate_cascade_dr),
        ("pseudo-inverse", slate_pseudo_inverse),
    ):
        assert estimator(slates).numerator.mean() == pytest.approx(peers[name], rel=1e-6), name


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rounds", [50, 1000])
def test_likelihood_intervals_are_vowpal_wabbits_for_independent_rounds(
    tmp_path: Path, rounds: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    propensity = generator.uniform(0.05, 0.9, rounds)
    chosen = np.minimum(propensity * generator.gamma(0.3 + seed, 1.0 / (0.3 + seed), rounds), 1.0)
    reward = (generator.random(rounds) < 0.3).astype(float)
    log = Rounds(reward, propensity, chosen, max_weight=20.0)
    peers = asked("intervals", tmp_path, weight=log.weight, reward=reward, max_weight=20.0)
    sums = sum_rounds(log, {"snips": snips})
    for name, most in (("known", 20.0), ("unknown", np.inf)):
        got = likelihood_interval(sums, {"snips": 1.0}, reward_range=(0.0, 1.0), max_weight=most)
        assert [got.low, got.high] == pytest.approx(peers[name], abs=1e-6), name


def test_ranking_metrics_agree_with_trec_eval_and_scikit_learn(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    users, items, cutoff = 40, 30, 10
    scores = generator.permuted(np.tile(np.arange(items, dtype=np.float64), (users, 1)), axis=1)  # no ties
    relevant = generator.random((users, items)) < 0.15
    gain = generator.integers(0, 4, (users, items)).astype(np.float64)
    peers = asked("ranking", tmp_path, scores=scores, relevant=relevant.astype(int), gain=gain, cutoff=cutoff)
    ties = tie_order(items, 0)
    query = QuerySets.of([np.flatnonzero(row).astype(np.int32) for row in relevant])
    ranked = top_items(scores.astype(np.float32), np.zeros(scores.shape, bool), items, ties)
    hit = hits(ranked, query)
    top, sizes = hit[:, :cutoff], query.sizes
    ours = {
        "ndcg": ndcg(top, sizes),
        "rr": reciprocal_rank(top),
        "precision": precision(top),
        "hit": hit_rate(top),
        "ap": average_precision(
            hit, sizes
        ),  # over all positions; at a cutoff ours divides by what fits into it
        # ours divides by what fits into the list, trec_eval by all that is relevant
        "recall": recall(top, sizes) * np.minimum(sizes, cutoff) / np.maximum(sizes, 1),
        "graded ndcg": graded_ndcg(
            ranked_gains(scores.astype(np.float32), gain.astype(np.float32), cutoff, ties),
            gain.astype(np.float32),
        ),
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values, peers[name], atol=1e-6, err_msg=name)

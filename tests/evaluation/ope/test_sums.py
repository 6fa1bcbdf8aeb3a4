"""One pass, in chunks, over any number of columns: the same sums however the log is cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import UserError
from recsys.evaluation.ope.accumulate import Accumulator, hashed, sum_rounds, sum_stream, terms_of
from recsys.evaluation.ope.clustered import clustered_intervals
from recsys.evaluation.ope.estimators import doubly_robust, ips, self_normalised_dr, snips
from recsys.evaluation.ope.rounds import Rounds, reduce_rounds
from tests.truth.bandits import bandit

ESTIMATORS = {"ips": ips, "snips": snips, "dr": doubly_robust, "sndr": self_normalised_dr}


def rounds_of(number: int, per_cluster: int = 1) -> Rounds:
    world = bandit(0.8)
    return world.log(number, np.random.default_rng(number), world.mean, per_cluster=per_cluster)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(1, 5), st.integers(2, 64))
@settings(max_examples=30, deadline=None)
def test_sums_do_not_depend_on_where_a_log_is_cut(sizes: list[int], per_cluster: int, blocks: int) -> None:
    whole = rounds_of(sum(sizes), per_cluster)
    edges = np.cumsum([0, *sizes])
    chunks = [{"policy": whole.at(slice(a, b))} for a, b in pairwise(edges.tolist())]
    cut = sum_stream(iter(chunks), ESTIMATORS, blocks)
    one = sum_stream(iter([{"policy": whole}]), ESTIMATORS, blocks)
    np.testing.assert_allclose(cut.estimates(), one.estimates(), rtol=1e-10)
    np.testing.assert_allclose(cut.count, one.count)
    np.testing.assert_allclose(cut.numerator, one.numerator, atol=1e-9)
    assert cut.weights[0].largest == one.weights[0].largest


def test_without_clusters_each_round_is_its_own_while_they_fit() -> None:
    sums = sum_rounds(rounds_of(900), ESTIMATORS)
    assert len(sums) == 900
    assert set(sums.count) == {1.0}
    dealt = sum_rounds(rounds_of(10_000), ESTIMATORS, blocks=64)
    assert len(dealt) == 64
    assert dealt.count.max() - dealt.count.min() <= 1.0


def test_blocks_keep_the_standard_error_of_clusters() -> None:
    """Fewer blocks than clusters lose degrees of freedom and nothing else."""
    rounds = rounds_of(60_000, per_cluster=3)
    exact = clustered_intervals(sum_rounds(rounds, ESTIMATORS, blocks=20_000))
    few = clustered_intervals(sum_rounds(rounds, ESTIMATORS, blocks=2_000))
    for name in ESTIMATORS:
        assert few[name].mean == pytest.approx(exact[name].mean, abs=1e-12)
        assert few[name].high - few[name].low == pytest.approx(exact[name].high - exact[name].low, rel=0.06)


def test_clusters_are_spread_evenly_and_never_split() -> None:
    cluster = np.repeat(np.arange(50_000), 2)
    block = hashed(cluster, 128)
    assert (block[::2] == block[1::2]).all()
    count = np.bincount(block, minlength=128)
    assert count.min() > 0.8 * count.mean()
    assert count.max() < 1.2 * count.mean()


def test_two_policies_share_rounds_and_blocks() -> None:
    world = bandit(0.8)
    rounds = world.log(500, np.random.default_rng(0), world.mean)
    same = sum_rounds({"a": rounds, "b": rounds.at(slice(None))}, {"ips": ips})
    assert same.names == ("logging", "a/ips", "b/ips")
    assert same.estimates()[1] == same.estimates()[2]
    assert [same.policy_of(place) for place in range(3)] == [None, 0, 1]


BAD = [
    ({"propensity": np.array([0.5, 0.0])}, "must lie in above 0 to 1"),
    ({"propensity": np.array([0.5, 1.5])}, "must lie in above 0 to 1"),
    ({"chosen": np.array([0.5, -0.1])}, "must lie in 0 to 1"),
    ({"reward": np.array([1.0, np.nan])}, "not finite"),
    ({"reward": np.array([1.0])}, "differ in length"),
    ({"q_logged": np.array([1.0, 1.0])}, "must both be given"),
    ({"max_weight": 0.0}, "must be above 0"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_rounds_are_refused_with_the_remedy(change: dict[str, object], message: str) -> None:
    good = {"reward": np.zeros(2), "propensity": np.full(2, 0.5), "chosen": np.full(2, 0.5)}
    with pytest.raises(UserError, match=message):
        Rounds(**{**good, **change})  # type: ignore[arg-type]


def test_tables_that_are_no_distributions_are_refused() -> None:
    action, reward, propensity = np.zeros(2, int), np.zeros(2), np.full(2, 0.5)
    with pytest.raises(UserError, match=r"sum to 0\.9"):
        reduce_rounds(action, reward, propensity, np.array([[0.5, 0.5], [0.5, 0.4]]))
    with pytest.raises(UserError, match="actions reach from 0 to 2"):
        reduce_rounds(np.array([0, 2]), reward, propensity, np.full((2, 2), 0.5))
    with pytest.raises(UserError, match="must be as many"):
        reduce_rounds(action, reward[:1], propensity, np.full((2, 2), 0.5))


def test_an_empty_log_and_a_missing_model_are_refused() -> None:
    with pytest.raises(UserError, match="0 rounds"):
        Accumulator().sums()
    plain = Rounds(np.zeros(2), np.full(2, 0.5), np.full(2, 0.5))
    with pytest.raises(UserError, match="0 reward models"):
        terms_of({"policy": plain}, {"dr": doubly_robust})
    with pytest.raises(UserError, match="no estimator 'dr'"):
        sum_rounds(plain, {"ips": ips}).column("dr")

"""The tree's sums and finds held against a plain array of the same weights."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import UserError
from recsys.mdp import sum_tree
from recsys.mdp.sum_tree import SumTree


@pytest.fixture(params=[(2, 2), (3, 5), (16, 8192)], ids=["deep", "odd", "as shipped"])
def shape(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small families and tops, so that few leaves make several levels."""
    fan_out, top = request.param
    monkeypatch.setattr(sum_tree, "FAN_OUT", fan_out)
    monkeypatch.setattr(sum_tree, "TOP", top)
    return


@st.composite
def update_sequences(draw: st.DrawFn) -> tuple[int, list[list[tuple[int, float]]]]:
    leaves = draw(st.integers(1, 70))
    weight = st.one_of(st.just(0.0), st.floats(0.0, 1e6, width=32))
    update = st.lists(st.tuples(st.integers(0, leaves - 1), weight), max_size=12)
    return leaves, draw(st.lists(update, min_size=1, max_size=8))


def applied(leaves: int, updates: list[list[tuple[int, float]]]) -> tuple[SumTree, np.ndarray]:
    tree, plain = SumTree(leaves), np.zeros(leaves)
    for update in updates:
        for leaf, weight in update:  # one by one: the last weight of an equal leaf stays
            plain[leaf] = weight
        tree.update(np.array([u[0] for u in update], np.int64), np.array([u[1] for u in update], float))
    return tree, plain


@pytest.mark.usefixtures("shape")
class TestAnyShape:
    """Whatever the tree's fan-out."""

    @given(sequence=update_sequences())
    def test_sums_equal_those_of_an_array_after_any_updates(
        self, sequence: tuple[int, list[list[tuple[int, float]]]]
    ) -> None:
        tree, plain = applied(*sequence)
        assert tree.weights.tolist() == plain.tolist()
        assert tree.total == pytest.approx(plain.sum(), rel=1e-12)

    @given(sequence=update_sequences(), seed=st.integers(0, 10**6))
    def test_a_mass_is_found_in_the_leaf_that_holds_it(
        self, sequence: tuple[int, list[list[tuple[int, float]]]], seed: int
    ) -> None:
        leaves, updates = sequence
        tree, plain = applied(leaves, [*updates, [(0, 1.0)]])
        mass = np.random.default_rng(seed).random(20) * tree.total
        mass[:2] = 0.0, np.nextafter(tree.total, 0)
        found = tree.find(mass)
        assert (plain[found] > 0).all()
        running = np.cumsum(plain)
        slack = 1e-9 * running[-1]
        assert (mass <= running[found] + slack).all()
        assert (mass >= running[found] - plain[found] - slack).all()

    def test_whole_numbers_are_found_exactly(self) -> None:
        weights = np.random.default_rng(0).integers(0, 4, 60).astype(float)
        tree = SumTree(60)
        tree.update(np.arange(60), weights)
        # without rounding, each unit of mass belongs to one leaf, whose weight it counts
        found = tree.find(np.arange(weights.sum()) + 0.5)
        assert np.bincount(found, minlength=60).tolist() == weights.tolist()
        assert tree.find(np.arange(weights.sum())).tolist() == found.tolist()


def test_a_stratified_batch_draws_each_leaf_as_often_as_its_share() -> None:
    tree = SumTree(4)
    tree.update(np.arange(4), np.array([1.0, 0.0, 2.0, 5.0]))
    for seed in range(20):
        counts = np.bincount(tree.sample(80, np.random.default_rng(seed)), minlength=4)
        assert counts.tolist() == [10, 0, 20, 50]


def test_a_hundred_thousand_leaves_are_searched_exactly() -> None:
    generator = np.random.default_rng(0)
    weights = generator.integers(0, 3, 100_000).astype(float)
    tree = SumTree(100_000)
    tree.update(np.arange(100_000), weights)
    mass = generator.integers(0, int(weights.sum()), 5_000) + 0.5
    assert tree.find(mass).tolist() == np.searchsorted(np.cumsum(weights), mass).tolist()


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_a_bad_weight_is_refused_before_anything_changes(bad: float) -> None:
    tree = SumTree(3)
    tree.update(np.array([0]), np.array([2.0]))
    with pytest.raises(UserError, match=r"priority of transition 2 is .*, must be a finite number"):
        tree.update(np.array([1, 2]), np.array([1.0, bad]))
    assert tree.weights.tolist() == [2.0, 0.0, 0.0]


@pytest.mark.parametrize("leaf", [-1, 3])
def test_a_leaf_that_is_not_there_is_refused(leaf: int) -> None:
    with pytest.raises(IndexError, match="within 0 to 2"):
        SumTree(3).update(np.array([leaf]), np.array([1.0]))


def test_a_tree_of_nothing_but_zeros_is_refused() -> None:
    with pytest.raises(UserError, match="all priorities are 0"):
        SumTree(3).sample(2, np.random.default_rng(0))


def test_a_tree_without_leaves_is_refused() -> None:
    with pytest.raises(UserError, match="0 leaves"):
        SumTree(0)

"""Probabilities and importance weights held against values computed by hand."""

import numpy as np
import pytest
from scipy import stats

from recsys.errors import UserError
from recsys.mdp.priorities import Priorities, PriorityRule

PLAIN = PriorityRule(alpha=1.0, beta=1.0, epsilon=1e-9)


def with_errors(errors: list[float], rule: PriorityRule) -> Priorities:
    made = Priorities(len(errors), rule)
    made.set_errors(np.arange(len(errors)), np.array(errors))
    return made


def test_probabilities_are_powers_of_the_errors() -> None:
    made = with_errors([-1.0, 3.0, 8.0], PriorityRule(alpha=0.5, epsilon=1.0))
    # √(1 + 1), √(3 + 1), √(8 + 1)
    expected = np.array([2**0.5, 2.0, 3.0])
    np.testing.assert_allclose(made.probabilities(), expected / expected.sum())


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        # errors 1, 1, 2, 4: P = 1/8, 1/8, 1/4, 1/2; N P = 1/2, 1/2, 1, 2; largest weight that of N P = 1/2
        (1.0, {0: 1.0, 1: 1.0, 2: 1 / 2, 3: 1 / 4}),
        (0.5, {0: 1.0, 1: 1.0, 2: 2**-0.5, 3: 1 / 2}),
        (0.0, {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}),
    ],
)
def test_importance_weights_are_those_computed_by_hand(beta: float, expected: dict[int, float]) -> None:
    # so many draws per annealing that β stays what it is
    made = with_errors([1, 1, 2, 4], PriorityRule(alpha=1.0, beta=beta, anneal_draws=10**12, epsilon=1e-12))
    place, weight = made.draw(64, 4, np.random.default_rng(0))
    assert set(place.tolist()) == {0, 1, 2, 3}
    np.testing.assert_allclose(weight, [expected[p] for p in place.tolist()], rtol=1e-6)


def test_weights_of_a_batch_are_scaled_by_the_largest_in_it() -> None:
    made = with_errors([0.0, 2.0, 2.0], PLAIN)  # the first is never drawn, its weight would be huge
    _, weight = made.draw(8, 3, np.random.default_rng(0))
    assert weight.tolist() == [1.0] * 8


def test_full_weights_undo_the_sampling() -> None:
    """Σ over draws of w · f is the plain mean of f, whatever the priorities, if β is 1."""
    generator = np.random.default_rng(0)
    values, errors = generator.normal(size=50), generator.random(50) + 0.1
    made = with_errors(errors.tolist(), PLAIN)
    place, weight = made.draw(400_000, 50, generator)
    assert np.average(values[place], weights=weight) == pytest.approx(values.mean(), abs=2e-3)


def test_beta_rises_linearly_to_one_and_stays() -> None:
    rule = PriorityRule(beta=0.4, anneal_draws=4)
    assert [rule.beta_at(draw) for draw in range(6)] == pytest.approx([0.4, 0.55, 0.7, 0.85, 1.0, 1.0])
    made = with_errors([1.0, 3.0], PriorityRule(alpha=1.0, beta=0.0, anneal_draws=2, epsilon=1e-12))
    lightest = [float(made.draw(16, 2, np.random.default_rng(0))[1].min()) for _ in range(4)]
    assert lightest == pytest.approx([1.0, 3**-0.5, 1 / 3, 1 / 3])


def test_frequencies_are_the_probabilities() -> None:
    generator = np.random.default_rng(0)
    made = with_errors(generator.random(40).tolist(), PriorityRule())
    # one at a time: a stratified batch would fit too well
    drawn = np.concatenate([made.draw(1, 40, generator)[0] for _ in range(8_000)])
    found = stats.chisquare(np.bincount(drawn, minlength=40), 8_000 * made.probabilities())
    assert 0.001 < found.pvalue < 0.999


def test_no_power_is_uniform() -> None:
    made = with_errors([0.0, 5.0, 100.0, 1.0], PriorityRule(alpha=0.0))
    assert made.probabilities().tolist() == [0.25] * 4


def test_what_is_new_has_the_largest_priority_seen() -> None:
    made = Priorities(3, PriorityRule(alpha=1.0, epsilon=1e-12))
    made.add(np.array([0, 1]))
    assert made.probabilities().tolist() == [0.5, 0.5, 0.0]  # what was never added is never drawn
    made.set_errors(np.array([0]), np.array([3.0]))
    made.set_errors(np.array([0]), np.array([0.5]))  # the largest stays though its owner has shrunk
    made.add(np.array([2]))
    np.testing.assert_allclose(made.probabilities(), np.array([0.5, 1.0, 3.0]) / 4.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_error_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match="training has diverged"):
        with_errors([1.0, bad], PriorityRule())


@pytest.mark.parametrize(
    ("name", "bad", "told"),
    [
        ("alpha", -0.1, r"alpha is -0\.1, must be within"),
        ("beta", 1.1, r"beta is 1\.1, must be within"),
        ("sequence_mix", float("nan"), "sequence_mix is nan, must be within"),
        ("anneal_draws", 0, "anneal_draws is 0, must be 1 or more"),
        ("epsilon", 0.0, r"epsilon is 0\.0, must be positive"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(name: str, bad: float, told: str) -> None:
    with pytest.raises(UserError, match=told):
        PriorityRule(**{name: bad})  # type: ignore[arg-type]


def test_a_restored_sampler_goes_on_exactly() -> None:
    rule = PriorityRule(anneal_draws=10)
    made = with_errors(np.random.default_rng(0).random(30).tolist(), rule)
    made.draw(8, 30, np.random.default_rng(1))
    other = Priorities(30, rule)
    other.restore(made.state())
    for either in (made, other):
        either.add(np.array([4]))
    for seed in range(3):
        one, two = (either.draw(8, 30, np.random.default_rng(seed)) for either in (made, other))
        assert one[0].tolist() == two[0].tolist()
        assert one[1].tolist() == two[1].tolist()


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match="of 2 places, must be of 3"):
        Priorities(3, PriorityRule()).restore(Priorities(2, PriorityRule()).state())

"""What to ask: against brute force over determinants, and in cases whose answer is plain."""

import numpy as np
import pytest

from recsys.evidence import what_to_ask
from recsys.posterior import Posterior


def test_the_most_uncertain_known_item_is_asked_first() -> None:
    features = np.array([[1.0, 0.0], [0.0, 3.0], [0.0, 9.0]])
    assert what_to_ask(features, [0.5, 0.5, 0.0], 2, 1.0).tolist() == [1, 0]


def test_no_two_questions_ask_the_same() -> None:
    features = np.array([[3.0, 0.0], [3.0, 0.01], [0.0, 2.0]])
    assert what_to_ask(features, np.ones(3), 2, 0.1).tolist() == [1, 2]


def test_what_has_been_learnt_is_not_asked_again() -> None:
    features = np.array([[3.0, 0.0], [0.0, 2.0]])
    posterior = Posterior(np.zeros(2), 0.1)
    posterior.observe(features[0])
    assert what_to_ask(features, np.ones(2), 1, 0.1, posterior.learnt()).tolist() == [1]


def test_each_choice_takes_most_variance_given_the_choices_before() -> None:
    generator = np.random.default_rng(0)
    features, noise = generator.normal(size=(30, 5)), 0.4
    chance = generator.random(30)
    asked = what_to_ask(features, chance, 6, noise)
    precision = np.eye(5)
    left = set(range(30))
    for item in asked.tolist():
        covariance = np.linalg.inv(precision)
        worth = {i: chance[i] * features[i] @ covariance @ features[i] for i in left}
        assert item == max(worth, key=worth.__getitem__)
        precision += np.outer(features[item], features[item]) / noise
        left.remove(item)


def test_only_allowed_items_are_asked_and_each_once() -> None:
    features = np.random.default_rng(1).normal(size=(10, 3))
    allowed = np.arange(10) < 4
    assert sorted(what_to_ask(features, np.ones(10), 99, 1.0, allowed=allowed).tolist()) == [0, 1, 2, 3]


def test_chances_must_speak_of_every_item() -> None:
    with pytest.raises(ValueError, match="one chance per item"):
        what_to_ask(np.ones((3, 2)), np.ones(2), 1, 1.0)

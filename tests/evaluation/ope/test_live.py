"""The live estimate finds known values, and says when logs cannot say."""

import numpy as np
import pytest

from recsys.evaluation.live import LiveLists, estimate_live, recomputed
from recsys.evaluation.ope.slates import Slates

ITEMS = 6
WORTH = np.array([0.8, 0.5, 0.3, 0.2, 0.1, 0.0])  # chance of a reward of 1, wherever an item stands


def plackett_luce(logits: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Return the probability of each shown item given those above, (list, position)."""
    weight = np.exp(logits)
    left = weight.sum() - np.concatenate(
        [np.zeros((len(lists), 1)), np.cumsum(weight[lists], axis=1)[:, :-1]], axis=1
    )
    return weight[lists] / left


def drawn(logits: np.ndarray, count: int, seed: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    lists = np.argsort(-(logits + generator.gumbel(size=(count, ITEMS))), axis=1)[:, :width]
    return lists, (generator.random(lists.shape) < WORTH[lists]).astype(float)


LOGGING, OTHER = np.zeros(ITEMS), np.array([1.0, 0.5, 0.0, 0.0, -0.5, -1.0])


def made(count: int, policies: dict[str, np.ndarray], made_by: str = "v1", width: int = 2) -> LiveLists:
    lists, reward = drawn(LOGGING, count, 3, width)
    return LiveLists(
        reward,
        plackett_luce(LOGGING, lists),
        {name: plackett_luce(logits, lists) for name, logits in policies.items()},
        np.full(count, width),
        np.arange(count),
        [made_by] * count,
    )


def test_a_better_challenger_is_found_better_and_its_value_is_near_the_truth():
    """In lists of one, where the assumption holds whatever a reward hangs on."""
    lists = made(4_000, {"challenger": OTHER, "champion": LOGGING}, width=1)
    found = estimate_live(lists, {"challenger": "v2", "champion": "v1"})
    truth = float(np.exp(OTHER) @ WORTH / np.exp(OTHER).sum())
    assert found.decision == "better"
    assert found.difference.low > 0
    assert found.values["challenger"].mean == pytest.approx(truth, rel=0.05)
    assert found.values["challenger"].low < truth < found.values["challenger"].high
    assert found.values["champion"].mean == pytest.approx(found.logged.mean)


def test_the_same_policy_twice_shows_no_difference():
    found = estimate_live(
        made(500, {"challenger": LOGGING, "champion": LOGGING}), {"challenger": "v1", "champion": "v1"}
    )
    assert found.decision == "no difference seen"
    assert (found.difference.mean, found.difference.low) == (0.0, pytest.approx(0.0, abs=1e-9))


@pytest.mark.parametrize(
    ("lists", "gate"),
    [
        (made(60, {"challenger": OTHER, "champion": LOGGING}), "lists"),
        (made(300, {"challenger": 9 * OTHER, "champion": LOGGING}), "effective sample size"),
        (made(600, {"challenger": OTHER, "champion": OTHER}), "A/A: propensities recomputed"),
    ],
    ids=["too few", "too far away", "not the policy that logged"],
)
def test_logs_that_cannot_say_are_refused_by_name(lists, gate):
    found = estimate_live(lists, {"challenger": "v2", "champion": "v1"})
    assert found.decision == "cannot say"
    failed = {each.name for gates in found.gates.values() for each in gates if each.verdict == "fail"}
    assert gate in failed


def test_without_responses_nothing_can_be_said():
    silent = made(600, {"champion": LOGGING})
    silent = LiveLists(
        np.zeros_like(silent.reward),
        silent.propensity,
        silent.chosen,
        silent.length,
        silent.user,
        silent.made_by,
    )
    found = estimate_live(silent, {"champion": "v1"})
    assert found.decision == "cannot say"
    assert next(g for g in found.gates["champion"] if g.name == "responses").verdict == "fail"


def test_one_policy_alone_has_a_value_and_no_verdict():
    found = estimate_live(made(600, {"champion": LOGGING}), {"champion": "v1"})
    assert (found.decision, found.difference) == (None, None)


def test_lists_of_others_say_nothing_of_a_bundles_own_propensities():
    lists = made(50, {"champion": LOGGING}, made_by="another")
    slates = Slates(lists.reward, lists.propensity, lists.chosen["champion"], lists.length)
    assert recomputed(slates, lists.made_by, "v1").verdict == "warn"

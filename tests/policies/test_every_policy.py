"""What every baseline must hold: shapes, determinism, odd logs, a checkerboard, and the way to disk and back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.errors import UserError
from recsys.logs.prepared import Role, training_histories
from recsys.mdp.state import History, empty_history
from recsys.policies.ease import Ease, EaseOptions
from recsys.policies.policy import KeptPolicy
from recsys.policies.sequence import SequencePolicy
from recsys.policies.storage import load_policy, save_policy
from tests.memory_log import Event, Told, history, memory_log, random_history, random_told, taken
from tests.policies.made import MADE, SMALL

ITEMS = 6
NOBODY = empty_history(np.array([0], np.int32))
every = pytest.mark.parametrize("made", MADE.values(), ids=MADE.keys())


def some_log(users: int = 20):
    generator = np.random.default_rng(1)
    return memory_log([random_told(generator, 12, ITEMS) for _ in range(users)], items=ITEMS)


def some_people() -> list[History]:
    generator = np.random.default_rng(2)
    return [random_history(generator, events, ITEMS) for events in (0, 1, 5, 30)]


@every
def test_users_are_scored_one_by_one_as_they_are_together(made: Callable[[], KeptPolicy]) -> None:
    log, people, policy = some_log(), some_people(), made()
    assert policy.fit(log, training_histories(log)) is policy
    together = policy.scores(people)
    assert together.shape == (len(people), ITEMS)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    for row, person in enumerate(people):
        np.testing.assert_allclose(policy.scores([person])[0], together[row], rtol=1e-4, atol=1e-5)
    assert policy.scores([]).shape == (0, ITEMS)


@every
def test_the_same_log_and_seed_give_the_same_scores(made: Callable[[], KeptPolicy]) -> None:
    log, people = some_log(), some_people()
    torch.manual_seed(0)
    first = made().fit(log, training_histories(log)).scores(people)
    torch.manual_seed(1)
    np.testing.assert_array_equal(made().fit(log, training_histories(log)).scores(people), first)


@every
def test_nothing_is_learnt_from_cold_users_or_after_the_cut(made: Callable[[], KeptPolicy]) -> None:
    train = [taken(0, 1, 2, train_end=2), taken(1, 0)]
    other = [taken(4, 5, role=Role.COLD_TEST), taken(4, 3, role=Role.COLD_VALIDATION)]
    people = [history(Event(0)), NOBODY]
    log = memory_log([*train, *other], items=ITEMS)
    without = memory_log([taken(0, 1), taken(1, 0)], items=ITEMS)
    expected = made().fit(without, training_histories(without)).scores(people)
    np.testing.assert_array_equal(made().fit(log, training_histories(log)).scores(people), expected)


@every
@pytest.mark.parametrize(
    ("told", "items"),
    [
        ([taken(0), taken(0), taken(0, 0)], 1),  # a single-item catalogue
        ([taken(1, 2, 3)], ITEMS),  # one user
        ([taken(1)], ITEMS),  # one event
        ([Told([Event(1, reward=-1.0), Event(2, reward=0.0)])], ITEMS),  # nothing rewarded
        ([taken(1, 2, attribute=None), taken(2, 3, attribute=None)], ITEMS),  # nobody identified
    ],
)
def test_odd_logs_give_finite_scores(made: Callable[[], KeptPolicy], told: list[Told], items: int) -> None:
    log = memory_log(told, items=items)
    people = [NOBODY, history(Event(0)), history(Event(items - 1), Event(0))]  # items nobody took among them
    scores = made().fit(log, training_histories(log)).scores(people)
    assert scores.shape == (3, items)
    assert np.isfinite(scores).all()


@every
def test_what_was_learnt_survives_the_disk(made: Callable[[], KeptPolicy], tmp_path: Path) -> None:
    log, people = some_log(), some_people()
    policy = made().fit(log, training_histories(log))
    save_policy(policy, tmp_path / "kept")
    again = load_policy(tmp_path / "kept")
    assert isinstance(policy, type(again))  # a sequence model comes back without what trains it
    assert again.options == policy.options
    np.testing.assert_array_equal(again.scores(people), policy.scores(people))


def test_a_folder_without_a_policy_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no policy at .*give a folder"):
        load_policy(tmp_path)
    (tmp_path / "policy.json").write_text('{"kind": "oracle", "options": {}}')
    with pytest.raises(UserError, match="'oracle'; it must be one of popularity"):
        load_policy(tmp_path)
    (tmp_path / "policy.json").write_text('{"kind": "ease", "options": {"l2": "much"}}')
    with pytest.raises(UserError, match=r"policy\.json: l2"):
        load_policy(tmp_path)


COLLABORATIVE = {
    name: made
    for name, made in MADE.items()
    if name not in ("popularity", "ease_of_frequent", "gru4rec", "sasrec")
} | {
    "ease_weak": lambda: Ease(EaseOptions(l2=1.0)),
    "gru4rec": lambda: SequencePolicy(replace(SMALL, epochs=12, learning_rate=1e-2)),
    "sasrec": lambda: SequencePolicy(replace(SMALL, encoder="attention", epochs=12, learning_rate=1e-2)),
}


@pytest.mark.parametrize("made", COLLABORATIVE.values(), ids=COLLABORATIVE.keys())
def test_a_checkerboard_is_continued(made: Callable[[], KeptPolicy]) -> None:
    """Even users take even items and odd users odd ones, but never their own; the missing square comes first."""
    items, users = 12, 36
    chance = np.random.default_rng(0)
    boards = [
        [item for item in range(items) if item % 2 == user % 2 and item != user % items]
        for user in range(users)
    ]
    log = memory_log([taken(*chance.permutation(board).tolist()) for board in boards], items=items)
    policy = made().fit(log, training_histories(log))
    people = [history(*(Event(item, 3600 * place) for place, item in enumerate(board))) for board in boards]
    scores = policy.scores(people)
    for user, board in enumerate(boards):
        scores[user, board] = -np.inf
    assert np.argmax(scores, axis=1).tolist() == [user % items for user in range(users)]

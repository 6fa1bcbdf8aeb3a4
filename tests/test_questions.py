"""What a recommender would ask: known items, none that the user has had, none that is not for sale."""

from pathlib import Path

import numpy as np

from recsys.logs.prepared import training_histories
from recsys.mdp.state import empty_history
from recsys.policies.popularity import Popularity
from recsys.recommender import Recommender, load_recommender
from tests.factories import write_policy_bundle, write_tiny_bundle
from tests.memory_log import memory_log, random_history, random_told

NOBODY = empty_history(np.array([0], np.int32))


def test_a_student_asks_by_its_posterior(tmp_path: Path) -> None:
    recommender = load_recommender(write_tiny_bundle(tmp_path / "v1"))
    items = len(recommender.catalogue)
    first = recommender.what_to_ask(NOBODY, 5)
    assert len(set(first.tolist())) == len(first) == 5
    person = random_history(np.random.default_rng(0), 4, items)
    asked = recommender.what_to_ask(person, items)
    assert not set(asked.tolist()) & set(person.item.tolist())
    assert recommender.catalogue.available[asked].all()
    assert recommender.what_to_ask(person, 0).tolist() == []


def test_what_has_been_answered_changes_what_is_asked_next(tmp_path: Path) -> None:
    recommender = load_recommender(write_tiny_bundle(tmp_path / "v1"))
    items = len(recommender.catalogue)
    people = [random_history(np.random.default_rng(seed), 6, items) for seed in range(5)]
    order = {tuple(recommender.what_to_ask(person, items).tolist()) for person in people}
    assert len(order) > 1


def test_a_baseline_asks_what_most_people_know(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    log = memory_log([random_told(generator, 12, 14) for _ in range(25)], items=14)
    policy = Popularity().fit(log, training_histories(log))
    recommender: Recommender = load_recommender(
        write_policy_bundle(tmp_path / "v1", policy, 14, unavailable=(2,), candidates=5)
    )
    asked = recommender.what_to_ask(NOBODY, 20)
    assert 2 not in asked.tolist()
    popular = recommender.popular(20, seed=0)
    assert asked.tolist() == [item for item in popular.items.tolist() if item in set(asked.tolist())]

"""The search finds what is best for the cases it is shown, within its budget, the same every time."""

from dataclasses import dataclass

import numpy as np
import pytest

from recsys.evaluation.cold_start import cold_cases
from recsys.logs.prepared import PreparedLog, Role
from recsys.policies.item_knn import ItemKnn, ItemKnnOptions
from recsys.policies.popularity import Popularity, PopularityOptions
from recsys.policies.sequence import SequenceOptions
from recsys.policies.spaces import cold_bench, mean_ndcg
from recsys.policies.tuning import Range, Report, Tuned, search
from tests.memory_log import Event, Told, memory_log, taken

DAY = 86_400
SHOTS = (0, 1, 2)


def changing_fashion() -> PreparedLog:
    """Long ago everybody took 0 and 1, lately 8 and 9; validation users take what is new."""
    old = [Told([Event(item, day * DAY) for item in (0, 1)]) for day in range(10) for _ in range(3)]
    new = [Told([Event(item, day * DAY) for item in (8, 9)]) for day in range(190, 200)]
    cold = [taken(2 + place % 5, 3 + place % 4, 8, 9, role=Role.COLD_VALIDATION) for place in range(12)]
    return memory_log([*old, *new, *cold])


def aisles() -> PreparedLog:
    """Users keep to one aisle of four; only what goes together says what comes next."""
    aisle = [[4 * place + item for item in range(4)] for place in range(5)]
    train = [taken(*np.roll(aisle[place % 5], place).tolist()) for place in range(40)]
    cold = [
        taken(*np.roll(aisle[place % 5], place + 1).tolist(), role=Role.COLD_VALIDATION)
        for place in range(20)
    ]
    return memory_log([*train, *cold], items=20)


def cases_of(log: PreparedLog):
    return cold_cases(log, Role.COLD_VALIDATION, 2, 100, np.random.default_rng(0))


def tune_popularity(log: PreparedLog, shots: tuple[int, ...], seed: int) -> Tuned[Popularity]:
    return cold_bench(log, cases_of(log), shots, 2, seed).popularity()


def tune_item_knn(log: PreparedLog, shots: tuple[int, ...], seed: int, trials: int) -> Tuned[ItemKnn]:
    bench = cold_bench(log, cases_of(log), shots, 2, seed)
    return bench.item_knn(bench.popularity(trials).policy, trials)


def test_popularity_learns_that_fashion_changes() -> None:
    log = changing_fashion()
    tuned = tune_popularity(log, SHOTS, seed=1)
    assert (tuned.policy.options.half_life_days, tuned.policy.options.window_days) != (None, None)
    assert tuned.quality == pytest.approx(1.0)
    plain = Popularity().fit(log, log.with_role(Role.TRAIN))
    assert mean_ndcg(plain, cases_of(log), SHOTS, 2) < 0.5


def test_item_knn_learns_what_goes_together() -> None:
    log = aisles()
    tuned = tune_item_knn(log, (1, 2), seed=1, trials=8)
    assert tuned.quality == pytest.approx(1.0)
    assert tune_popularity(log, (1, 2), seed=1).quality < 0.6


def test_a_report_says_what_was_chosen_and_how() -> None:
    log = changing_fashion()
    one, other = (tune_item_knn(log, SHOTS, seed=4, trials=5) for _ in range(2))
    assert one.report() == other.report()
    assert one.report()["trials"] == 5
    assert one.report()["validation_ndcg"] == round(one.quality, 4)
    assert set(one.report()["settings"]) == set(ItemKnnOptions.__dataclass_fields__)


def test_without_validation_users_the_default_is_what_is_returned() -> None:
    log = memory_log([taken(1, 2), taken(2, 3)])
    popularity = tune_popularity(log, SHOTS, seed=0)
    assert popularity.policy.options == PopularityOptions()
    assert popularity.report()["validation_ndcg"] is None
    assert tune_item_knn(log, SHOTS, seed=0, trials=9).policy.options == ItemKnnOptions()


@dataclass(frozen=True)
class Asked:
    """A policy that is nothing but its options."""

    options: ItemKnnOptions


def asked(options: ItemKnnOptions, report: Report) -> Asked:
    return Asked(options)


def distance(policy: Asked) -> float:
    return -abs(policy.options.exponent - 0.3) - abs(policy.options.shrinkage - 2.0)


AXES = {"exponent": Range(0.1, 0.9), "shrinkage": (0.0, 1.0, 2.0, 3.0, 10.0)}


def test_the_search_comes_near_the_best_within_its_budget() -> None:
    found = search(ItemKnnOptions(), AXES, asked, distance, 40, seed=0)
    assert found.trials == 40
    assert found.quality > -0.1
    assert found.quality == distance(found.policy) == max(trial.quality for trial in found.record)
    again = search(ItemKnnOptions(), AXES, asked, distance, 40, seed=0)
    assert [trial.settings for trial in again.record] == [trial.settings for trial in found.record]
    other = search(ItemKnnOptions(), AXES, asked, distance, 40, seed=1)
    assert [trial.settings for trial in other.record] != [trial.settings for trial in found.record]


def test_the_first_trial_is_the_default() -> None:
    only = search(ItemKnnOptions(), AXES, asked, distance, 1, seed=0)
    assert only.policy.options == ItemKnnOptions()
    assert only.trials == 1


def test_a_setting_that_falls_behind_is_given_up() -> None:
    """Trials that report less than the median of earlier ones stop early; the budget counts them."""
    epochs: list[int] = []

    def learning(options: ItemKnnOptions, report: Report) -> Asked:
        epochs.append(0)
        for epoch in range(10):
            epochs[-1] += 1
            report((1 + 1 / (epoch + 1)) * distance(Asked(options)), epoch)
        return Asked(options)

    found = search(ItemKnnOptions(), AXES, learning, distance, 20, seed=0)
    assert found.trials == 20
    given_up = [trial for trial in found.record if trial.quality is None]
    assert len(given_up) >= 5
    assert sum(ran < 10 for ran in epochs) == len(given_up)
    assert epochs[0] == 10


def test_each_baseline_finds_the_aisles() -> None:
    log = aisles()
    bench = cold_bench(log, cases_of(log), (1, 2), 2, seed=3)
    fallback = bench.popularity(3).policy
    judged = bench.quality
    small = SequenceOptions(
        features=16, hidden=64, dropout=0.2, epochs=15, negatives=20, batch_size=16, learning_rate=5e-3
    )
    for tuned in (
        bench.item_knn(fallback, 2),
        bench.vsknn(fallback, 2),
        bench.ease(fallback, 2),
        bench.als(fallback, 2),
        bench.sequence(small, judged, 2),
    ):
        assert tuned.trials == 2
        assert tuned.quality == pytest.approx(judged(tuned.policy)), type(tuned.policy)
        assert tuned.quality > 0.9, type(tuned.policy)

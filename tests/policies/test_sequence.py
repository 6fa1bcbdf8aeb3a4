"""The sequence models: what a target may be, what order can teach, and who stops the training."""

import numpy as np
import pytest
import torch

from recsys.logs.prepared import training_histories
from recsys.mdp.state import encode_states
from recsys.policies.sequence import SequenceOptions, SequencePolicy, window_batches
from recsys.policies.sequence_loss import draw_targets, first_places
from tests.memory_log import Event, Told, history, memory_log, taken

SMALL = SequenceOptions(
    features=16, hidden=32, max_events=8, epochs=25, batch_size=16, negatives=16, dropout=0.0, id_dropout=0.0,
    learning_rate=1e-2, horizon=1,
)  # fmt: skip


def targets(horizon: int, *events: Event) -> list[tuple[int, int]]:
    batch = encode_states([history(*events)], 10)
    _, time, item = draw_targets(batch, horizon, np.random.default_rng(0))
    return list(zip(time.tolist(), item.tolist(), strict=True))


def test_a_target_is_new_and_rewarded() -> None:
    events = [Event(3), Event(4), Event(3), Event(5, reward=-1.0), Event(6)]
    assert targets(1, *events) == [(0, 3), (1, 4), (4, 6)]


def test_a_target_comes_from_the_horizon() -> None:
    batch = encode_states([history(*(Event(item) for item in range(6)))] * 200, 10)
    _, time, item = draw_targets(batch, 3, np.random.default_rng(0))
    ahead = item - time
    assert set(ahead[time == 0].tolist()) == {0, 1, 2}
    assert set(ahead[time == 5].tolist()) == {0}
    assert np.bincount(ahead[time == 2]).tolist() == pytest.approx([200 / 3] * 3, abs=25)


def test_first_places_are_those_of_a_loop() -> None:
    item = np.array([[2, 0, 2, 1, -1], [0, 0, 2, -1, -1]])
    places = first_places(item)
    for row in range(2):
        for column in range(5):
            assert places[row, column] == item[row].tolist().index(item[row, column])


def test_windows_hold_every_training_event_once_and_shuffle_only_equal_times() -> None:
    told = [
        Told(
            [Event(item, second) for item, second in enumerate((0, 0, 0, 5, 5, 9, 9, 9, 9, 12))], train_end=9
        ),
        taken(*range(20)),
    ]
    log = memory_log(told, items=20)
    chance = np.random.default_rng(0)
    orders = set()
    for _ in range(30):
        seen: list[int] = []
        for batch in window_batches(log, np.arange(2), 30, 4, chance):
            for row, length in enumerate(batch.lengths.tolist()):
                items = batch.item[row, :length].tolist()
                seen += items
                if length == 9:
                    orders.add(tuple(items))
                    assert sorted(items[:3]) == [0, 1, 2]
                    assert sorted(items[3:5]) == [3, 4]
                else:
                    assert items == list(range(20))
        assert sorted(seen) == sorted([*range(9), *range(20)])
    assert len(orders) > 10
    short = list(window_batches(log, np.arange(2), 4, 2, chance))
    assert max(int(batch.lengths.max()) for batch in short) <= 4


@pytest.mark.parametrize("encoder", ["recurrent", "attention"])
def test_the_order_of_events_is_learnt(encoder: str) -> None:
    """Whoever takes a then b goes on to c, b then a to d: the set {a, b} cannot tell."""
    log = memory_log([taken(0, 1, 2), taken(1, 0, 3)] * 24, items=4)
    policy = SequencePolicy(SequenceOptions(**{**SMALL.__dict__, "encoder": encoder}))
    scores = policy.fit(log, training_histories(log)).scores(
        [history(Event(0, 0), Event(1, 3600)), history(Event(1, 0), Event(0, 3600))]
    )
    assert scores[0, 2] > scores[0, 3] + 1
    assert scores[1, 3] > scores[1, 2] + 1


def test_the_judge_chooses_the_epoch_and_ends_the_training() -> None:
    log = memory_log([taken(0, 1, 2), taken(1, 2, 3)] * 4, items=4)
    verdicts, weights = [0.1, 0.5, 0.3, 0.2, 0.9], []

    def judge(policy: SequencePolicy, epoch: int) -> float:
        weights.append(policy.network_.query.weight.detach().clone())
        return verdicts[epoch]

    options = SequenceOptions(**{**SMALL.__dict__, "epochs": 5, "patience": 2})
    fitted = SequencePolicy(options, judge).fit(log, training_histories(log))
    assert len(weights) == 4
    assert torch.equal(fitted.network_.query.weight, weights[1])


def test_training_leaves_the_global_generator_alone() -> None:
    log = memory_log([taken(0, 1, 2)] * 4, items=4)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    SequencePolicy(SequenceOptions(**{**SMALL.__dict__, "epochs": 1})).fit(log, training_histories(log))
    assert torch.equal(torch.rand(3), expected)

"""Session-kNN held against a loop over users, units and items written from the formula."""

import math

import numpy as np
import pytest

from recsys.logs.prepared import PreparedLog, training_histories
from recsys.mdp.state import History
from recsys.policies.vsknn import Decay, Vsknn, VsknnOptions, decayed_support
from tests.memory_log import Event, history, memory_log, random_history, random_told

ITEMS = 12


def decay_of(kind: Decay, p: int, n: int) -> float:
    linear = 1 - (p - 1) / n
    return {"same": 1, "div": 1 / p, "linear": linear, "quadratic": linear**2, "log": 1 / math.log2(p + 1)}[
        kind
    ]


def looped_units(log: PreparedLog, options: VsknnOptions) -> list[set[int]]:
    """Past units as item sets, newest first."""
    units: dict[tuple[int, int], tuple[int, set[int]]] = {}
    for h in range(len(log.history_train_end)):
        start = int(log.history_offsets[h])
        for e in range(start, start + int(log.history_train_end[h])):
            if log.reward[e] > 0:
                key = (h, int(log.session[e]) if options.unit == "session" else 0)
                time, items = units.get(key, (-1, set()))
                units[key] = (max(time, int(log.timestamp[e])), items | {int(log.item[e])})
    ordered = sorted(units.items(), key=lambda entry: (-entry[1][0], entry[0]))
    return [items for _, (_, items) in ordered]


def looped_scores(units: list[set[int]], person: History, options: VsknnOptions) -> list[float]:
    events = [
        (int(item), int(second))
        for item, reward, second in zip(person.item, person.reward, person.timestamp, strict=True)
        if reward > 0
    ]
    seconds = sorted({second for _, second in events}, reverse=True)
    places = min(len(seconds), options.last_events)
    place = {item: seconds.index(second) + 1 for item, second in events}  # the newest event of an item wins
    rarity = [math.log(len(units) / max(1, sum(i in unit for unit in units))) for i in range(ITEMS)]
    weight = {
        item: decay_of(options.decay, p, places) * (1 + options.support_idf * rarity[item])
        for item, p in place.items()
        if p <= options.last_events
    }
    found = []
    for number, unit in enumerate(units):
        if unit & set(weight):
            similar = sum(weight[item] for item in unit & set(weight))
            if options.similarity == "cosine":
                similar /= math.sqrt(len(unit))
            found.append((similar, number))
    newest = [entry for entry in found if entry[0] > 0][: options.sample]
    near = sorted(newest, key=lambda entry: (-round(entry[0], 5), entry[1]))[: options.neighbours]
    return [
        (1 + options.score_idf * rarity[i]) * sum(similar for similar, number in near if i in units[number])
        for i in range(ITEMS)
    ]


@pytest.mark.parametrize(
    "options",
    [
        VsknnOptions(),
        VsknnOptions(unit="session", decay="same", similarity="vec"),
        VsknnOptions(decay="div", neighbours=3),
        VsknnOptions(unit="session", decay="quadratic", sample=7, neighbours=4, similarity="vec"),
        VsknnOptions(decay="log", support_idf=1.0, score_idf=0.5, last_events=2),
    ],
    ids=str,
)
def test_scores_are_those_of_a_loop(options: VsknnOptions) -> None:
    generator = np.random.default_rng(3)
    log = memory_log([random_told(generator, 9, ITEMS) for _ in range(25)], items=ITEMS)
    people = [random_history(generator, events, ITEMS) for events in (1, 2, 6, 20)]
    people.append(history(Event(3, 100), Event(4, 100), Event(5, 900), Event(3, 900)))  # ties and a repeat
    scores = Vsknn(options).fit(log, training_histories(log)).scores(people)
    units, spoken = looped_units(log, options), 0
    for row, person in enumerate(people):
        expected = np.array(looped_scores(units, person, options))
        spoken += int((expected > 0).sum())
        np.testing.assert_allclose(scores[row][expected > 0], expected[expected > 0], rtol=1e-4)
        assert (scores[row][expected == 0] < 0).all()  # what no neighbour has stands behind
    assert spoken > 20


def test_events_of_one_time_share_a_place_and_the_newest_event_of_an_item_counts() -> None:
    person = history(Event(0, 10), Event(1, 20), Event(2, 20), Event(0, 30), Event(4, 40, reward=-1.0))
    weight = decayed_support([person], 6, "div", 50).toarray()[0]
    assert weight.tolist() == pytest.approx([1.0, 1 / 2, 1 / 2, 0, 0, 0])
    assert decayed_support([person], 6, "linear", 1).toarray()[0].tolist() == [1.0, 0, 0, 0, 0, 0]

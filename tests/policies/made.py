"""Every kind of baseline, small, in more than one of its options: what batteries of tests run over."""

from collections.abc import Callable
from dataclasses import replace

from recsys.policies.als import Als, AlsOptions
from recsys.policies.ease import Ease, EaseOptions
from recsys.policies.item_knn import ItemKnn, ItemKnnOptions
from recsys.policies.policy import KeptPolicy
from recsys.policies.popularity import Popularity, PopularityOptions
from recsys.policies.sequence import SequenceOptions, SequencePolicy
from recsys.policies.vsknn import Vsknn, VsknnOptions

SMALL = SequenceOptions(
    features=16, hidden=24, max_events=10, epochs=2, batch_size=8, negatives=12, dropout=0.0, id_dropout=0.0
)
MADE: dict[str, Callable[[], KeptPolicy]] = {
    "popularity": lambda: Popularity(PopularityOptions(half_life_days=30.0)),
    "item_knn": ItemKnn,
    "item_knn_near": lambda: ItemKnn(ItemKnnOptions(neighbours=2, history_exponent=0.25)),
    "vsknn": Vsknn,
    "vsknn_sessions": lambda: Vsknn(
        VsknnOptions(unit="session", similarity="vec", decay="log", neighbours=5, sample=9, score_idf=0.5)
    ),
    "ease": Ease,
    "ease_of_frequent": lambda: Ease(EaseOptions(l2=1.0, max_items=4)),
    "als": lambda: Als(AlsOptions(features=4, sweeps=3)),
    "gru4rec": lambda: SequencePolicy(SMALL),
    "sasrec": lambda: SequencePolicy(replace(SMALL, encoder="attention", layers=2, from_factors=False)),
}

"""The MeLU protocol on MovieLens-1M: the ranker's inner loop on explicit ratings, beside tuned rating baselines.

    python -m pipelines.experiments.melu --data FOLDER [--items FILE] --seeds 7,8,9 --out FILE

FOLDER holds ratings.parquet (user_id, movie_id, rating, melu_split), movies.tsv and users.tsv; FILE is the item table
that the authors publish with their code (movies_extrainfos.dat: age rating, genres, directors, actors), without which
a film is its genres, year and title. Everything learns from the ratings of old users for old films alone: what guesses
old films from all of them, what guesses new films from users of 13 to 100 ratings, whom the paper trains on and who
rate as its tasks do. Settings, the baselines' too, are chosen on old users held out; for new films on what all old
users rated of the newest old films, held out as if new. Then all is fitted again on warm ratings and the three cold
partitions are met once a seed. The head is the mean of HEADS_EACH that differ by chance alone. For new films a row
blends it with the biases, which know them by a ridge on content; the share is chosen on films held out. Old users have
rated old films before; in rows that end in ", with the past" they are told too, EARLIER of them at most: the protocol
withholds them, a recommender knows them. Guesses are reported as they are and as whole stars, which err less: the
median of what one star more or less would cost. NDCG@3 has the gain 2^rating − 1. Differences are paired over users.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from pipelines.experiments.command import run_command  # noqa: E402
from pipelines.experiments.melu_data import (  # noqa: E402
    COLD,
    MOST,
    WARM,
    Movies,
    Ratings,
    Tasks,
    absolute_error,
    ndcg3,
    read,
    tasks,
    with_earlier,
)
from pipelines.experiments.melu_head import HeadSettings, RatingHead, learn  # noqa: E402
from pipelines.experiments.melu_peers import (  # noqa: E402
    Biases,
    ItemKnn,
    error,
    tuned_biases,
    tuned_item_knn,
)
from recsys.evaluation.intervals import bootstrap_mean  # noqa: E402
from recsys.randomness import derive_seed, numpy_generator  # noqa: E402
from recsys.types import FloatArray  # noqa: E402

VALIDATION_USERS, NEW_FROM = 400, 1996
HEADS_EACH, JUDGED_EACH, EARLIER = 5, 3, 90
KINDS = ("old films", "new films")  # as Judged.tasks has them
PARTS = {"user_cold": KINDS[0], "item_cold": KINDS[1], "user_and_item_cold": KINDS[1]}
WHOSE = {KINDS[0]: None, KINDS[1]: MOST}  # ratings: of users with so many at most, FEWEST at least
HEADS = {
    KINDS[0]: [
        HeadSettings(features=features, hidden_ids=share, weight_decay=decay, most=WHOSE[KINDS[0]])
        for features, share, decay in product((16, 32), (0.5, 0.8), (1e-3, 1e-2))
    ],
    KINDS[1]: [
        HeadSettings(hidden_ids=share, epochs=epochs, weight_decay=decay, most=WHOSE[KINDS[1]])
        for share, epochs, decay in product((0.6, 0.8), (6, 8), (0.3, 1.0))
    ],
}
HEAD, ONE, UNADAPTED = "Bayesian head", "Bayesian head, one alone", "Bayesian head, nothing told"
KNN, BIAS, PAST = "item-kNN", "user and item bias", ", with the past"
BLEND, SHARES = "Bayesian head and bias", (0.0, 0.25, 0.5, 0.75)  # of the bias in the blend
SHOTS = (1, 3, 5, 10, 20)
MEASURES: dict[str, Callable[[Tasks, FloatArray], FloatArray]] = {
    "MAE": absolute_error,
    "MAE, whole stars": lambda asked, guess: absolute_error(asked, guess, whole_stars=True),
    "NDCG@3": ndcg3,
}


@dataclass(frozen=True)
class Judged:
    """What chooses settings: ratings to learn from, and tasks of users and films that are not among them."""

    ratings: list[Ratings]  # what is learnt from: without the users held out, without the films as if new
    tasks: list[Tasks]  # of old films by the users held out, of films as if new by everybody
    past: Tasks  # those of films as if new, with what their users rated of old films told too

    @staticmethod
    def of(movies: Movies, seed: int) -> "Judged":
        """Hold users out, and films from NEW_FROM on."""
        warm, chance = movies.parts[WARM], numpy_generator(seed, "melu-validation")
        held = np.isin(warm.user, chance.permutation(np.unique(warm.user))[:VALIDATION_USERS])
        new = movies.year[warm.item] >= NEW_FROM
        known = [warm.at(np.flatnonzero(~left_out)) for left_out in (held, new)]
        asked = [tasks(warm.at(np.flatnonzero(left_out)), chance) for left_out in (held, new)]
        return Judged(known, asked, with_earlier(asked[1], known[1], EARLIER, chance))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every seed, print the table, keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[7, 8, 9])
    parser.add_argument("--items", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS))
    asked = parser.parse_args(arguments)
    if unknown := set(asked.kinds) - set(KINDS):
        parser.error(f"--kinds names {sorted(unknown)}; choose among {', '.join(KINDS)}")
    torch.set_num_threads(1)
    movies = read(asked.data, asked.items)
    runs: dict[str, Any] = {}
    for seed in asked.seeds:
        runs[str(seed)] = run_seed(movies, seed, asked.kinds)
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    print(markdown(runs))


@dataclass(frozen=True)
class Chosen:
    """What errs least on validation tasks of one kind, to be fitted on every warm rating."""

    biases: Biases
    knn: ItemKnn
    head: HeadSettings
    shares: tuple[float, ...]  # of the biases in a blend, past untold and told; none for old films


def chosen(movies: Movies, judged: Judged, kind: str, seed: int) -> tuple[Chosen, list[dict[str, Any]]]:
    """Return the choice for old or for new films, and what every head's settings erred."""
    ratings, asked = judged.ratings[KINDS.index(kind)], judged.tasks[KINDS.index(kind)]
    biases = tuned_biases(ratings, movies, asked, WHOSE[kind])
    knn = tuned_item_knn(ratings, biases, asked)
    heads = [seeded_head(movies, ratings, settings, seed) for settings in HEADS[kind]]
    errors = [float(absolute_error(asked, head.guess(movies, asked)).mean()) for head in heads]
    best = int(np.argmin(errors))
    shares: tuple[float, ...] = ()
    if kind == KINDS[1]:
        others = (seeded_head(movies, ratings, HEADS[kind][best], seed, n) for n in range(1, JUDGED_EACH))
        some = [heads[best], *others]
        shares = tuple(
            chosen_share(mean_guess(some, movies, told), biases.guess(told), told)
            for told in (asked, judged.past)
        )
    tried = [asdict(one) | {"mae": mae} for mae, one in zip(errors, HEADS[kind], strict=True)]
    tried += [{"policy": BIAS, "mae": error(biases, asked)}, {"policy": KNN, "mae": error(knn, asked)}]
    return Chosen(biases, knn, HEADS[kind][best], shares), tried


def run_seed(movies: Movies, seed: int, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """Choose settings, fit again, and mark every policy on the cold partitions."""
    judged = Judged.of(movies, seed)
    report: dict[str, Any] = {"validation": {}, "settings": {}, "parts": {}}
    for kind in kinds:
        choice, report["validation"][kind] = chosen(movies, judged, kind, seed)
        report["settings"][kind] = {
            HEAD: asdict(choice.head),
            BIAS: choice.biases.settings,
            "share of bias": choice.shares,
        }
        report["parts"] |= marked(movies, choice, [part for part in COLD if PARTS[part] == kind], seed)
    return report


def marked(movies: Movies, choice: Chosen, parts: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the marks of every policy on partitions that one choice is for."""
    warm = movies.parts[WARM]
    biases = Biases.fit(warm, movies, choice.biases.settings)
    knn = ItemKnn.fit(warm, biases, choice.knn.settings)
    heads = [seeded_head(movies, warm, choice.head, seed, number) for number in range(HEADS_EACH)]
    report = {}
    for part in parts:
        cold = tasks(movies.parts[part], numpy_generator(seed, f"melu-{part}"))
        guesses = {
            BIAS: biases.guess(cold),
            KNN: knn.guess(cold),
            UNADAPTED: mean_guess(heads, movies, cold, shots=0),
            ONE: heads[0].guess(movies, cold),
            HEAD: mean_guess(heads, movies, cold),
        }
        if choice.shares:
            guesses[BLEND] = blended(guesses[HEAD], guesses[BIAS], choice.shares[0])
        if part == "item_cold":
            past = with_earlier(cold, warm, EARLIER, numpy_generator(seed, "melu-past"))
            guesses |= {BIAS + PAST: biases.guess(past), HEAD + PAST: mean_guess(heads, movies, past)}
            guesses[BLEND + PAST] = blended(guesses[HEAD + PAST], guesses[BIAS + PAST], choice.shares[1])
        marks = {
            rival: {measure: mark(cold, guess) for measure, mark in MEASURES.items()}
            for rival, guess in guesses.items()
        }
        report[COLD[part]] = {
            "users": len(cold),
            "means": {
                rival: {m: float(v.mean()) for m, v in found.items()} for rival, found in marks.items()
            },
            "head_minus": {
                rival: {m: interval(marks[HEAD][m] - v, seed, f"{part}{rival}{m}") for m, v in found.items()}
                for rival, found in marks.items()
                if rival != HEAD
            },
            "last_minus_bias": {
                m: interval(marks[list(guesses)[-1]][m] - v, seed, f"{part}last{m}")
                for m, v in marks[BIAS].items()
            },
            "shots": {
                k: {m: float(f(cold, guess).mean()) for m, f in MEASURES.items()}
                for k, guess in ((k, mean_guess(heads, movies, cold, k)) for k in SHOTS)
            },
        }
    return report


def chosen_share(head: FloatArray, bias: FloatArray, judged: Tasks) -> float:
    """Return the share of the bias with which the blend errs least."""
    return min(SHARES, key=lambda share: float(absolute_error(judged, blended(head, bias, share)).mean()))


def blended(head: FloatArray, bias: FloatArray, share: float) -> FloatArray:
    """Return (1 − share) · head + share · bias, (task, 10)."""
    return ((1.0 - share) * head + share * bias).astype(np.float32)


def seeded_head(
    movies: Movies, ratings: Ratings, settings: HeadSettings, seed: int, number: int = 0
) -> RatingHead:
    """Return a head learnt with the chance of a seed; heads of other numbers differ by chance alone."""
    name = f"melu-head-{number}" if number else "melu-head"
    torch.manual_seed(derive_seed(seed, name))
    return learn(movies, ratings, settings, numpy_generator(seed, name))


def mean_guess(
    heads: Sequence[RatingHead], movies: Movies, asked: Tasks, shots: int | None = None
) -> FloatArray:
    """Return the mean of the heads' guesses, (task, 10)."""
    guess: FloatArray = np.mean([head.guess(movies, asked, shots) for head in heads], axis=0)
    return guess


def interval(values: FloatArray, seed: int, name: str) -> dict[str, float]:
    """Return mean and 95 % interval over users."""
    return asdict(bootstrap_mean(values, 2000, 0.95, numpy_generator(seed, f"bootstrap-{name}")))


def markdown(runs: dict[str, Any]) -> str:
    """Return one table per partition: means over seeds, differences by seed."""
    lines = []
    for part, first in next(iter(runs.values()))["parts"].items():
        lines += [
            f"\n### {part} ({first['users']} users)\n",
            f"| | {' | '.join(MEASURES)} |",
            "|---" * 4 + "|",
        ]
        for rival in first["means"]:
            means = [
                np.mean([run["parts"][part]["means"][rival][m] for run in runs.values()]) for m in MEASURES
            ]
            lines.append(f"| {rival} | {' | '.join(f'{mean:.4f}' for mean in means)} |")
        for rival in first["head_minus"]:
            for seed, run in runs.items():
                cells = [run["parts"][part]["head_minus"][rival][m] for m in MEASURES]
                text = [f"{c['mean']:+.4f} [{c['low']:+.4f}, {c['high']:+.4f}]" for c in cells]
                lines.append(f"| head − {rival}, seed {seed} | {' | '.join(text)} |")
        for seed, run in runs.items():
            cells = [run["parts"][part]["last_minus_bias"][m] for m in MEASURES]
            text = [f"{c['mean']:+.4f} [{c['low']:+.4f}, {c['high']:+.4f}]" for c in cells]
            lines.append(f"| {list(first['means'])[-1]} − {BIAS}, seed {seed} | {' | '.join(text)} |")
        for shot in first["shots"]:
            means = [
                np.mean([run["parts"][part]["shots"][shot][m] for run in runs.values()]) for m in MEASURES
            ]
            lines.append(f"| head after {shot} | {' | '.join(f'{mean:.4f}' for mean in means)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)

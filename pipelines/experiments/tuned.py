"""What a search's winner is worth on test users: the finals of a finished `recsys tune` against the config as it was.

    recsys tune --config smoke --space smoke --trials 6 --finalists 1 --seed 7 --seed 8 --study STUDY
    python -m pipelines.experiments.tuned --study STUDY

Both served objects of every seed rank the whole catalogue for the same cold test users; differences are paired by user.
The search itself has not read these users. Prints NDCG of both and the difference with its interval, by seed and over
all of them, a user of several seeds once.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from pipelines.cases import test_cases
from pipelines.experiments.command import run_command
from pipelines.experiments.kshot_marks import by_user
from pipelines.publish import BUNDLE
from pipelines.steps import StepContext
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.evaluation.intervals import bootstrap_mean
from recsys.evaluation.ranking import hits, ndcg
from recsys.evaluation.served import served_lists
from recsys.logs.prepared import open_prepared
from recsys.randomness import numpy_generator
from recsys.recommender import load_recommender
from recsys.types import FloatArray, LongArray


def quality(run: Path) -> tuple[RunConfig, LongArray, FloatArray]:
    """Return a run's config, its cold test users and NDCG of what it serves each, mean over numbers of events."""
    config = RunConfig.model_validate_json((run / "config.json").read_text(encoding="utf-8"))
    log = open_prepared(run / "prepare")
    cases = test_cases(StepContext(config, run), log)
    recommender = load_recommender(run / "index" / BUNDLE)
    per_shot = []
    for k in config.evaluate.shots:
        ranked = served_lists(recommender, cases, k, config.evaluate.cutoff, adapt=True)
        per_shot.append(ndcg(hits(ranked, cases.query), cases.query.sizes))
    return config, cases.history, np.mean(per_shot, axis=0)


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, required=True)
    asked = parser.parse_args()
    winner = json.loads((asked.study / "record.json").read_text(encoding="utf-8"))["winner"]
    runs = {n: sorted((asked.study / "finals" / f"{n:05d}").glob("[0-9]*")) for n in (0, winner)}
    if not runs[winner] or winner == 0:
        raise UserError(f"{asked.study} has no finals with a winner; run the search with --finalists 1")
    gains, users = [], []
    for plain, tuned in zip(runs[0], runs[winner], strict=True):
        (config, asked_of, before), (_, _, after) = quality(plain), quality(tuned)
        gains.append(after - before)
        users.append(asked_of)
        chance = numpy_generator(config.seed, "bootstrap-tuned")
        gain = bootstrap_mean(gains[-1], config.evaluate.bootstrap, config.evaluate.confidence, chance)
        print(
            f"seed {config.seed}: {len(before)} test users, as it was {before.mean():.4f}, trial {winner} "
            f"{after.mean():.4f}, difference {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        )
    pooled = by_user(np.concatenate(gains)[None], np.concatenate(users))[0]
    chance = numpy_generator(0, "bootstrap-tuned")
    gain = bootstrap_mean(pooled, config.evaluate.bootstrap, config.evaluate.confidence, chance)
    print(f"all: {len(pooled)} users, difference {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]")


if __name__ == "__main__":
    run_command(main)

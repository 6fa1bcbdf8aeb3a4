"""The search from beginning to end: shared steps, trials, finals, the winner as a config.

The mark of a trial is NDCG of the object that would be served, adapted, on cold validation users, mean over the numbers
of support events. Trials may be made cheaper than what is sought (`trial_overrides`); the finals are not.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from pipelines.configuration import resolve_config
from pipelines.folders import RunFolder
from pipelines.progress import say
from pipelines.runner import run_steps
from pipelines.tuning.desk import FinalsDesk, Pool, SearchDesk, shown
from pipelines.tuning.space import load_space
from pipelines.tuning.study import Study, Told, held
from pipelines.tuning.trial import measured_steps, share_artifacts, untouched_steps
from pipelines.tuning.winner import base_of, write_winner
from recsys.artifacts.files import replace_text
from recsys.config import RunConfig, fingerprint
from recsys.errors import UserError

SHARED = "shared"  # run folder of the steps that no trial changes
APART = {"name", "output", "publish", "baseline"}  # of a config: no trial depends on it


@dataclass(frozen=True)
class Asked:
    """What a search is asked to do."""

    config: str
    space: str
    overrides: Sequence[str]
    trial_overrides: Sequence[str]  # of the trials alone: fewer epochs, say
    trials: int
    minutes: float | None  # nothing is begun after so long
    workers: int
    finalists: (
        int  # the best trials that are trained at full length, beside the config as it is; 0 = no finals
    )
    seeds: Sequence[int]  # of the finals; none = the config's own
    folder: Path | None  # none = <output>/<name>-tune
    out: Path | None  # of the winner; none = winner.toml in the folder


def tune(asked: Asked, pool: Pool, console: Console) -> Path:
    """Search, go on with what an earlier process began, and return the path of the winner's config.

    Raises UserError if the config, the space or the study is refused, or if no trial could be finished.
    """
    config = resolve_config(asked.config, asked.overrides)
    quick = resolve_config(asked.config, [*asked.overrides, *asked.trial_overrides])
    space = load_space(asked.space)
    start = space.start(quick)
    folder = (asked.folder or config.output / f"{config.name}-tune").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        untouched = untouched_steps(quick, space)
        if len(untouched) == len(measured_steps()):
            raise UserError(f"no setting of the space {asked.space} changes what is measured; name others")
        identity = fingerprint(
            quick.model_dump(mode="json", exclude=APART), space.model_dump(mode="json", exclude={"study"})
        )
        study = Study(folder / "study.db", space, start, identity, config.seed)
        own = RunFolder(quick.output, quick.name).root
        shared = bring_shared(quick, own, folder, untouched, console)
        until = float("inf") if asked.minutes is None else time.monotonic() + 60 * asked.minutes

        def tell(text: str) -> None:
            say(console, f"tune      {text}")

        desk = SearchDesk(study, quick, folder / "trials", shared, asked.trials, until, tell)
        pool(desk, asked.workers)
        best = study.best(max(1, asked.finalists))
        if not best:
            raise UserError(
                f"none of {study.asked} trials could be finished; the last says: {study.ended()[-1].reason}"
            )
        qualities: dict[int, list[float]] = {}
        if asked.finalists:
            as_it_is = Told(0, start, "complete", None)
            finalists = list({trial.number: trial for trial in [as_it_is, *best]}.values())
            finals = FinalsDesk(
                config, finalists, asked.seeds or (config.seed,), folder / "finals", shared, tell
            )
            pool(finals, asked.workers)
            qualities = finals.qualities
            winner = max(finalists, key=lambda trial: np.mean(qualities[trial.number]))
        else:
            winner = best[0]
        record = record_of(asked, study, qualities, winner)
        replace_text(folder / "record.json", json.dumps(record, indent=1) + "\n")
        path = asked.out or folder / "winner.toml"
        header = header_of(asked, study, qualities, winner)
        write_winner(path, config, base_of(asked.config, asked.overrides, config), winner.values, header)
        as_it_was = " (the config as it is: nothing tried is better)" if winner.values == start else ""
        tell(f"winner: trial {winner.number}{as_it_was}  {shown(winner.values)}")
        tell(f"recsys run --config {path}")
    return path


def bring_shared(config: RunConfig, own: Path, folder: Path, steps: Sequence[str], console: Console) -> Path:
    """Make once what every trial has in common, or link what the config's own run made of it; return its run folder."""
    shared = config.model_copy(update={"output": folder, "name": SHARED})
    share_artifacts(own, shared, steps)
    if steps:
        run_steps(shared, measured_steps(), steps, console)
    return folder / SHARED


def record_of(
    asked: Asked, study: Study, qualities: Mapping[int, Sequence[float]], winner: Told
) -> dict[str, object]:
    """Return what is kept of a search as JSON: every trial, the finals by seed, the winner."""
    return {
        "config": asked.config,
        "overrides": list(asked.overrides),
        "trial_overrides": list(asked.trial_overrides),
        "space": asked.space,
        "trials": [asdict(trial) for trial in study.ended()],
        "finals": {str(number): list(found) for number, found in qualities.items()},
        "seeds": list(asked.seeds),
        "winner": winner.number,
    }


def header_of(asked: Asked, study: Study, qualities: Mapping[int, Sequence[float]], winner: Told) -> str:
    """Return the comment that a winner's config opens with."""
    ended = study.ended()
    given_up = sum(trial.state == "pruned" for trial in ended)
    known = {trial.number: trial.quality for trial in ended}

    def mark(number: int) -> str:
        found = float(np.mean(qualities[number])) if number in qualities else known.get(number)
        return "unknown" if found is None else f"{found:.4f}"

    cheaper = f", with {' '.join(asked.trial_overrides)}" if asked.trial_overrides else ""
    judged = f"finals over {max(1, len(asked.seeds))} seeds" if qualities else "the trials themselves"
    return (
        f"What it is      The winner of a search over the space {asked.space} from the config {asked.config}.\n"
        f"Validation      NDCG of the served object {mark(winner.number)}, as it was {mark(0)} ({judged}).\n"
        f"Search          {len(ended)} trials, {given_up} of them given up early{cheaper}; this is trial "
        f"{winner.number}."
    )

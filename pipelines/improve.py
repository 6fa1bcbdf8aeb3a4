"""`recsys improve`: one round of the loop, on a page. Read the traffic, make a challenger, replay, decide, tell.

Traffic is cut in time: events before the cut train the challenger, lists from the cut on are replayed, nothing is in
both. A round may be killed at any moment: the journal says what was decided, aliases move whole, the next round mends.
"""

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from pipelines.challengers import Lesson, Trainer, forget_training, loop_folder, make_challenger, moment
from pipelines.drift import drift_of
from pipelines.loop_round import Asked, Round, promote
from pipelines.progress import say, shown
from pipelines.publish import EVALUATION, HEALTH
from pipelines.traffic import traffic
from pipelines.trial import begin, check, end_shadow, judge_canary
from recsys.artifacts.files import files_below, locked
from recsys.artifacts.health_gate import health_checks
from recsys.artifacts.journal import Journal
from recsys.artifacts.registry import Registry
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.evaluation.offline import evaluate_log
from recsys.evaluation.promotion import Decision, TimedPolicy, decide, facts_of, limits
from recsys.evaluation.replay.comparison import ReplayOptions
from recsys.evaluation.replay.log import EventSource, from_parquet
from recsys.logs.live_log import LiveLog
from recsys.recommender import load_recommender

CHALLENGER: Final = "challenger"
_HOUR_S: Final = 3600.0


def improve(
    config: RunConfig, asked: Asked, console: Console, trainers: Mapping[str, Trainer] | None = None
) -> int:
    """Do one round; return 0 promoted, 1 kept, 3 these logs cannot say, 4 on trial.

    Raises UserError if another round is under way, or what is asked for cannot be.
    """
    publish = config.publish
    home = publish.registry / publish.name
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(home / ".loop.lock", wait=False))
        except BlockingIOError:
            raise UserError(f"another round works on {home}; wait for it, or serve another name") from None
        work = Round(config, Registry(publish.registry), Journal(home), console, asked)
        work.champion  # noqa: B018 - says what is missing before anything is read
        check(work)
        mend(work)
        folder = loop_folder(config).root / "traffic"
        gap = config.state.session_gap_minutes
        live = stack.enter_context(traffic(asked.log, asked.store, folder, gap))
        trial = work.journal.last("on trial", "promoted", "kept")
        if trial is not None and trial["did"] == "on trial":
            if trial["trial"] == "canary":
                return judge_canary(work, live, trial)
            end_shadow(work)
            work = replace(work, asked=replace(asked, candidate=asked.candidate or trial["challenger"]))
        code = _one(work, live, trainers)
        lines = work.journal.lines()
        forget_training(
            config,
            {*work.registry.aliases(publish.name).values(), *(line["champion"] for line in lines[-1:])},
            {line["challenger"] for line in lines if "how" in line},
        )
        return code


def mend(work: Round) -> None:
    """Finish what a killed round began, and notice where people moved the alias since."""
    last, champion = work.journal.last(), work.champion
    if last is not None and last["did"] == "promoting":
        done = last["challenger"] == champion
        facts = {key: value for key, value in last.items() if key not in ("at", "did")}
        why = "the round was stopped " + ("as it ended" if done else "before the alias moved")
        work.journal.write("promoted" if done else "kept", facts | {"why": why})
    moved = work.journal.last("promoted", "moved by hand")
    known = None if moved is None else moved["challenger" if moved["did"] == "promoted" else "champion"]
    if known is not None and known != champion:
        work.journal.write("moved by hand", {"champion": champion, "was": known})


def _one(work: Round, live: LiveLog, trainers: Mapping[str, Trainer] | None) -> int:
    settings, champion = work.config.improve, work.champion
    until = live.last_us - round(settings.settle_minutes * 60e6) + 1
    since = max((line.get("read_until_us", 0) for line in work.journal.lines()), default=0)
    new = live.list_times[(live.list_times > since) & (live.list_times < until)]
    facts: dict[str, Any] = {"champion": champion, "new_lists": len(new), "last_event": moment(live.last_us)}
    if len(new) < settings.min_new_lists:
        why = (
            f"{len(new):,} new lists, at least improve.min_new_lists ({settings.min_new_lists:,}) are needed"
        )
        return work.end("cannot say", f"{champion} stays: {why}.", facts)
    facts["read_until_us"] = int(new[-1])
    if settings.when == "drift" and work.asked.candidate is None:
        drift = drift_of(
            from_parquet(live.folder), load_recommender(work.folder(champion)).reward, work.config
        )
        facts["drift"] = drift.sentence
        if drift.verdict != "drifted":
            del facts["read_until_us"]  # the next round looks at these lists too
            return work.end(
                "cannot say" if drift.verdict == "too few" else "kept",
                f"{champion} stays: {drift.sentence}",
                facts,
            )
    cut = int(new[len(new) - max(1, round(settings.holdout_share * len(new)))])
    if work.asked.candidate is None:
        began = time.monotonic()
        lesson = Lesson(work.config, live, cut, champion, work.steps)
        challenger, learnt = make_challenger(lesson, trainers)
        facts |= {**learnt, "training_s": round(time.monotonic() - began, 1)}
    else:
        challenger, cut = work.folder(work.asked.candidate).name, int(new[0])
    # what either side was trained on is news to neither
    cut = max(cut, *(trained_until_us(work.folder(each)) or 0 for each in (champion, challenger)))
    facts |= {"challenger": challenger, "replayed_from": moment(cut)}
    if not (new >= cut).any():
        why = f"{champion} stays: no list is later than what both versions were trained on ({moment(cut)})."
        del facts["read_until_us"]
        return work.end("cannot say", why, facts)
    if challenger == champion:
        return work.end("kept", f"{champion} stays: the challenger is the same version.", facts)
    if taken_back := _taken_back(work, challenger):
        return work.end(
            "kept",
            f"{champion} stays: people took {challenger} back on {taken_back}; promote it by hand.",
            facts,
        )
    publish = work.config.publish
    work.registry.set_alias(publish.name, CHALLENGER, challenger)
    source = from_parquet(live.folder).between(cut, until)
    decision, judged = _judged(work, source, live, champion, challenger)
    facts |= judged
    unsure = work.asked.canary is not None and settings.canary_when == "unsure"
    if decision.outcome != "promoted" and not (unsure and decision.outcome == "cannot say"):
        if decision.outcome == "cannot say":
            facts.pop("read_until_us")
        return work.end(decision.outcome, decision.why, facts)
    if work.asked.canary is not None or work.asked.shadow:
        unjudged = "replay cannot say: " if decision.outcome == "cannot say" else ""
        return begin(work, challenger, unjudged + decision.why, facts)
    return promote(work, challenger, decision.why, facts)


def _judged(
    work: Round, source: EventSource, live: LiveLog, champion: str, challenger: str
) -> tuple[Decision, dict[str, Any]]:
    """Replay both, write the report, and decide."""
    settings, folders = work.config.improve, {name: work.folder(name) for name in (challenger, champion)}
    timed = {
        name: TimedPolicy(load_recommender(folder), time.perf_counter, exclude_seen=not settings.include_seen)
        for name, folder in folders.items()
    }
    trained = trained_until_us(folders[challenger])
    options = ReplayOptions(
        reward=timed[challenger].reward,
        window_s=settings.window_hours * _HOUR_S,
        assumption=settings.assume,
        horizon=settings.horizon,
        confidence=settings.confidence,
    )
    with shown(work.steps, "improve") as progress:
        progress.start(None, "request", "replayed requests")
        report = evaluate_log(
            source,
            timed[challenger],
            timed[champion],
            options,
            attributes=live.attributes,
            trained_until_s=None if trained is None else trained / 1e6,
            self_test=settings.self_test,
            on_request=progress.advance,
        )
    page = report.save(work.journal.path.parent / "reports" / f"{challenger}-against-{champion}")
    costs = {name: timed[name].measured(_bytes(folder)) for name, folder in folders.items()}
    health = folders[challenger] / HEALTH
    checks = health_checks(json.loads(health.read_text()), work.config.publish) if health.is_file() else []
    broken = limits(costs[challenger], costs[champion], checks, settings)
    decision = decide(report.evaluation, broken, settings)
    told = {
        name: {"median_ms": round(c.median_ms, 3), "p95_ms": round(c.p95_ms, 3), "mb": round(c.megabytes, 3)}
        for name, c in costs.items()
    }
    return decision, {
        **facts_of(report.evaluation),
        "replayed": report.evaluation.provenance["lists"],
        "costs": told,
        "health": "measured" if checks else "none: no Q-function, or none told",
        "report": str(page),
    }


def trained_until_us(bundle: Path) -> int | None:
    """Return until when a version was trained, as it says; none if it does not."""
    try:
        told = datetime.fromisoformat(json.loads((bundle / EVALUATION).read_text())["trained_until"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return round(told.timestamp() * 1e6)


def _taken_back(work: Round, version: str) -> str | None:
    """Return when people moved the alias away from a version; none if they did not, or moved it there again."""
    for line in reversed(work.journal.lines()):
        if line["did"] == "moved by hand" and version in (line["was"], line["champion"]):
            return None if line["champion"] == version else str(line["at"])
    return None


def _bytes(folder: Path) -> int:
    return sum((folder / path).stat().st_size for path in files_below(folder))


def every(hours: float, once: Any, console: Console, wait: Any = time.sleep) -> None:
    """Do a round every so many hours, for ever; what people can mend is said and tried again."""
    if not np.isfinite(hours) or hours <= 0:
        raise UserError(f"--every is {hours:g} hours, must be above 0; give 24")
    while True:
        began = time.monotonic()
        try:
            once()
        except UserError as error:
            say(console, f"{moment(round(time.time() * 1e6))} error: {error}")
        wait(max(0.0, hours * _HOUR_S - (time.monotonic() - began)))

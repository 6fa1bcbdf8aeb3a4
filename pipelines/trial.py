"""A challenger on trial at the endpoint: a canary for a share of its users, or a shadow that nobody sees.

A canary is an experiment: who gets it is a hash of the user, so it sticks. It is judged on what its users did against
everybody else's users: no weights, no replay. It may be looked at in every round, so the k-th look asks for confidence
1 − α / (k (k + 1)): all looks together are wrong with probability α at most.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from pipelines.loop_round import EXIT, Endpoint, Round, promote
from pipelines.progress import say
from recsys.errors import UserError
from recsys.evaluation.arms import Arms, compare_arms
from recsys.evaluation.replay.log import from_parquet
from recsys.logs.live_log import LiveLog
from recsys.recommender import load_recommender

CANARY: Final = "canary"


def check(work: Round) -> None:
    """Raise UserError where a trial is asked for that could not begin, before anything is read or trained."""
    asked = work.asked
    if asked.canary is not None:
        if not 0.0 < asked.canary < 100.0:
            raise UserError(f"--canary is {asked.canary:g} %, must lie between 0 and 100; give 5")
        _free(_endpoint(work))
    elif asked.shadow:
        _endpoint(work)


def begin(work: Round, challenger: str, why: str, facts: Mapping[str, Any]) -> int:
    """Put a challenger on trial: one that passed, instead of promoting it, or one that replay could not judge."""
    endpoint, asked = _endpoint(work), work.asked
    if asked.shadow:
        endpoint.ask("POST", f"/v1/models/{challenger}/shadow")
        said = f"{challenger} ranks in the shadow of {facts['champion']} until the next round: {why}"
        return work.end("on trial", said, {**facts, "trial": "shadow", "begun_us": _now_us()})
    assert asked.canary is not None  # noqa: S101 - the caller has looked
    _free(endpoint)  # it may have begun meanwhile
    variants = [
        {"name": "champion", "weight": 100.0 - asked.canary},
        {
            "name": "challenger",
            "weight": asked.canary,
            "model": challenger,
        },  # last: a larger share keeps its users
    ]
    endpoint.ask("PUT", f"/v1/experiments/{CANARY}", {"variants": variants, "salt": challenger})
    said = f"{challenger} is shown to {asked.canary:g} % of users: {why}"
    return work.end(
        "on trial", said, {**facts, "trial": CANARY, "percent": asked.canary, "begun_us": _now_us()}
    )


def judge_canary(work: Round, live: LiveLog, trial: Mapping[str, Any]) -> int:
    """Look at a running canary: promote, end or go on."""
    settings, champion, challenger = work.config.improve, trial["champion"], trial["challenger"]
    if work.champion != champion:
        return _end(
            work,
            "kept",
            f"{work.champion} stays: people moved the alias during the canary of {challenger}.",
            trial,
        )
    looks = 1 + sum(
        line["did"] == "looked" and line["begun_us"] == trial["begun_us"] for line in work.journal.lines()
    )
    confidence = 1.0 - (1.0 - settings.confidence) / (looks * (looks + 1))
    folder = work.registry.resolve(work.config.publish.name, champion)
    arms = compare_arms(
        from_parquet(live.folder).between(trial["begun_us"]),
        (challenger, champion),
        load_recommender(folder).reward,
        settings.window_hours * 3600.0,
        confidence,
    )
    said = _said(arms, challenger, champion)
    facts = {"begun_us": trial["begun_us"], "look": looks, "canary": arms.plain()}
    needed = settings.margin * abs(arms.mean[1])
    if min(arms.lists) >= settings.canary_min_lists and arms.difference.low > needed:
        _stop(work)
        kept = {
            key: value for key, value in trial.items() if key not in ("at", "did", "why", "trial", "percent")
        }
        return promote(
            work,
            challenger,
            f"{challenger} takes over from {champion} after its canary: {said}.",
            kept | facts,
        )
    if min(arms.lists) >= settings.canary_min_lists and arms.difference.high < 0:
        return _end(
            work, "kept", f"{champion} stays: its canary {challenger} was worse: {said}.", {**trial, **facts}
        )
    hours = (_now_us() - trial["begun_us"]) / 3.6e9
    if hours > settings.canary_hours:
        return _end(
            work,
            "kept",
            f"{champion} stays: the canary {challenger} is undecided after {hours:.0f} hours: {said}.",
            {**trial, **facts},
        )
    work.journal.write("looked", facts)
    say(work.console, f"on trial: {challenger} goes on as a canary: {said}")
    return EXIT["on trial"]


def _end(work: Round, outcome: str, why: str, facts: Mapping[str, Any]) -> int:
    _stop(work)
    return work.end(
        outcome,
        why,
        {key: value for key, value in facts.items() if key not in ("at", "did", "why", "trial", "percent")},
    )


def _stop(work: Round) -> None:
    endpoint = _endpoint(work)
    if any(each["name"] == CANARY for each in endpoint.ask("GET", "/v1/experiments")["experiments"]):
        endpoint.ask("DELETE", f"/v1/experiments/{CANARY}")


def end_shadow(work: Round) -> None:
    """Let nobody rank in the shadow."""
    _endpoint(work).ask("DELETE", "/v1/models/shadow")


def _endpoint(work: Round) -> Endpoint:
    if work.asked.endpoint is None:
        raise UserError(
            "a trial runs at the endpoint; give --endpoint http://host:port (and --key with the scope admin)"
        )
    return work.asked.endpoint


def _free(endpoint: Endpoint) -> None:
    """Raise UserError if the endpoint does not answer, or another experiment has all of its users."""
    running = [
        each["name"]
        for each in endpoint.ask("GET", "/v1/experiments")["experiments"]
        if not each["scenarios"]
    ]
    if others := [name for name in running if name != CANARY]:
        raise UserError(
            f"the experiment {others[0]} has all users of the endpoint; end it first, or promote without --canary"
        )


def _said(arms: Arms, challenger: str, champion: str) -> str:
    gap = arms.difference
    return (
        f"{gap.mean:+.4g} a list ({gap.low:+.4g} to {gap.high:+.4g}) over {arms.lists[0]:,} lists of {challenger} "
        f"and {arms.lists[1]:,} of {champion}"
    )


def _now_us() -> int:
    return round(time.time() * 1e6)

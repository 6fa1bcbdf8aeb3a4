"""`recsys evaluate --log … --policy … --against …`: the served object on logged sessions, a verdict, an exit code."""

import json
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import psycopg
import pyarrow.parquet as pq
from pydantic import Field, ValidationError
from rich.console import Console

from pipelines.configuration import put_override
from pipelines.named_policies import Shelf, blamed, find_policy
from pipelines.progress import say, shown
from recsys import columns as c
from recsys.config import Reward, RewardConfig
from recsys.errors import UserError
from recsys.evaluation.offline import evaluate_log
from recsys.evaluation.ope.lists import Assumption
from recsys.evaluation.replay.comparison import Horizon, ReplayOptions
from recsys.evaluation.replay.drive import HISTORY_EVENTS
from recsys.evaluation.replay.live_log import Connection, from_store
from recsys.evaluation.replay.log import EventSource, from_parquet
from recsys.evaluation.replay.policies import EvaluationPolicy, ServedPolicy
from recsys.evaluation.replay.verdict import may_pass
from recsys.evaluation.report.terminal import show
from recsys.frozen import Frozen, Positive, PositiveFloat, Share
from recsys.logs.live_tables import ATTRIBUTES, USERS_TABLE
from recsys.mdp.reward import rewarded_types
from recsys.refusals import refusal

EXIT_NOT_MET: Final = 1  # 2 is a user error
EXIT_CANNOT_SAY: Final = 3
TRAINING: Final = "training"  # --since: when training ended


class ReplayConfig(Frozen):
    """What --set changes in a replay."""

    window_hours: PositiveFloat = 24.0  # a response counts for a list for so long
    reward: dict[str, Reward] | None = (
        None  # per event type; none: what the challenger learnt, else the defaults
    )
    assume: Assumption = "cascade"  # what a reward hangs on
    horizon: Horizon = "list"  # whose reward is counted: a list's, or a whole session's
    estimators: Literal["chosen", "all"] = (
        "chosen"  # all: every setting of every family, and lists in every way
    )
    any_time: bool = False  # the verdict may be read again and again while the log grows: live monitoring
    require: Literal["better", "not-worse", "nothing"] = "better"  # for exit code 0
    margin: Share = 0.0  # of not-worse, as a share of the other's value
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    propensity_floor: Annotated[float, Field(gt=0.0, le=1.0)] | None = (
        None  # least probability of a list, if known
    )
    include_seen: bool = False  # policies may show what a user has had
    estimate_propensities: bool = False  # for logs that have none
    trained_until: datetime | None = None  # none: what the challenger's bundle says
    history_events: Positive = HISTORY_EVENTS
    self_test: bool = True


def replay(
    log: Path | None,
    store: str | None,
    policy: str,
    against: str | None,
    registry: Path,
    name: str,
    out: Path,
    overrides: Sequence[str],
    since: str | None = None,
    *,
    verbose: bool = False,
) -> int:
    """Replay, write the report, print it; return the exit code: 0 met, 1 not met, 3 these logs cannot say."""
    config = _config(overrides)
    shelf = Shelf(registry, name, config.include_seen)
    with ExitStack() as opened:
        return _replayed(_source(log, store, opened), policy, against, shelf, config, out, since, verbose)


def _replayed(
    read: "tuple[EventSource, Attributes]",
    policy: str,
    against: str | None,
    shelf: Shelf,
    config: ReplayConfig,
    out: Path,
    since: str | None,
    verbose: bool,
) -> int:
    source, attributes = read
    challenger, trained = find_policy(policy, shelf, against)
    champion, champions = (None, None) if against is None else find_policy(against, shelf, policy)
    until = config.trained_until or trained
    if since is not None:
        source = source.between(_since(since, [until, champions]))
    options = ReplayOptions(
        reward=_rewards(config.reward, challenger, source),
        window_s=config.window_hours * 3600.0,
        assumption=config.assume,
        confidence=config.confidence,
        history_events=config.history_events,
        horizon=config.horizon,
        any_time=config.any_time,
        every_estimator=config.estimators == "all",
        max_weight=float("inf") if config.propensity_floor is None else 1.0 / config.propensity_floor,
    )
    console = Console(stderr=True)
    own = [(policy, challenger)] if champion is None else [(policy, challenger), (against, champion)]
    with blamed(own), shown(console, "evaluate") as progress:
        progress.start(None, "request", "replayed requests")
        report = evaluate_log(
            source,
            challenger,
            champion,
            options,
            attributes=attributes,
            trained_until_s=None if until is None else _utc(until).timestamp(),
            estimate_propensities=config.estimate_propensities,
            self_test=config.self_test,
            on_request=progress.advance,
        )
    page = report.save(out)
    show(report.evaluation, Console(file=sys.stdout), verbose=verbose)
    say(console, f"report: {page}, {page.with_suffix('.json')}")
    if report.evaluation.refused:
        return EXIT_CANNOT_SAY
    if config.require == "nothing":
        return 0
    return 0 if may_pass(report.evaluation, config.require, config.margin) else EXIT_NOT_MET


def _config(overrides: Sequence[str]) -> ReplayConfig:
    raw: dict[str, object] = {}
    for override in overrides:
        put_override(raw, override)
    try:
        return ReplayConfig.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"--set: {refusal(error, ReplayConfig, config='')}") from None


Attributes = dict[str, dict[str, str]]  # of users, by name


def _source(log: Path | None, store: str | None, opened: ExitStack) -> tuple[EventSource, Attributes]:
    """Return a log and what is known of its users; what it is read through stays open until `opened` closes."""
    if log is not None and store is not None:
        raise UserError("give either --log (Parquet) or --store (the endpoint's file or PostgreSQL address)")
    if store is None:
        return from_parquet(log or Path()), _attributes(log)
    connection: Connection
    try:
        if store.startswith("postgresql"):
            remote = opened.enter_context(psycopg.connect(store))
            remote.isolation_level = (
                psycopg.IsolationLevel.REPEATABLE_READ
            )  # one state of the store in all passes
            connection = _Streamed(remote)
        else:
            if not Path(store).is_file():
                raise UserError(f"no store at {store}; give the file that the endpoint writes to")
            local = opened.enter_context(closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)))
            local.execute("BEGIN")
            connection = local
        # a password stays out of reports
        return from_store(connection, store.rpartition("@")[2]), _attributes_in(connection)
    except (sqlite3.DatabaseError, psycopg.Error) as error:
        named = store.rpartition("@")[2]
        raise UserError(f"{named} is no live store ({error}); give the endpoint's own") from None


class _Streamed:
    """A connection to PostgreSQL whose cursors leave rows at the server until they are asked for."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection, self._cursors = connection, 0

    def execute(self, statement: str, /) -> Any:
        """Run a statement."""
        self._cursors += 1
        return self._connection.cursor(f"replay_{self._cursors}").execute(statement)


def _rewards(
    given: dict[str, float] | None, challenger: EvaluationPolicy, source: EventSource
) -> RewardConfig:
    """Return what events are worth: as given, else as the challenger learnt, else the defaults.

    A type that neither the log nor those know is a slip of the pen; one of theirs may be missing in the log at hand.
    """
    known = challenger.reward if isinstance(challenger, ServedPolicy) else RewardConfig()
    if given is None:
        return known
    strange = [name for name in given if name not in rewarded_types(known)]
    there = source.event_types() if strange else []  # a pass over the log
    if unknown := [name for name in strange if name not in there]:
        raise UserError(
            f"reward names {unknown[0]!r}, which no event of {source.name} is; its types are {', '.join(there)}: give "
            "one of these"
        )
    return RewardConfig(base=given)


def _attributes_in(store: Connection) -> Attributes:
    """Return what the endpoint was told of users."""
    rows = store.execute(f"SELECT {c.USER_ID}, {ATTRIBUTES} FROM {USERS_TABLE.name}").fetchall()  # noqa: S608
    return {user: _told(told) for user, told in rows}


def _told(text: str) -> dict[str, str]:
    return {name: str(value) for name, value in json.loads(text).items() if value is not None}


def _attributes(log: Path | None) -> Attributes:
    """Return what the user table beside a log says of users, as the endpoint was told."""
    if log is None or not log.is_dir() or not (log / "users.parquet").is_file():
        return {}
    table = pq.read_table(log / "users.parquet")
    if table.column_names == [c.USER_ID, ATTRIBUTES]:  # as the endpoint exports them
        return {row[c.USER_ID]: _told(row[ATTRIBUTES]) for row in table.to_pylist()}
    names = [name for name in table.column_names if name != c.USER_ID]
    return {
        row[c.USER_ID]: {name: str(row[name]) for name in names if row[name] is not None}
        for row in table.to_pylist()
    }


def _since(text: str, trained: Sequence[datetime | None]) -> int:
    """Return the first moment that is replayed, microseconds: as given, or when both sides were trained."""
    if text == TRAINING:
        known = [_utc(moment) for moment in trained if moment is not None]
        if not known:
            raise UserError(
                f"--since {TRAINING}: neither policy says until when it was trained; give a moment"
            )
        moment = max(known)
    else:
        try:
            moment = _utc(datetime.fromisoformat(text))
        except ValueError:
            raise UserError(
                f"--since is {text!r}, must be a time such as 2011-09-01T00:00:00Z, or {TRAINING}"
            ) from None
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

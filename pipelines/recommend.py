"""`recsys recommend`: the served object of a run, asked in the terminal."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.progress import say
from pipelines.publish import BUNDLE
from recsys import columns
from recsys.artifacts.bundle import read_catalogue
from recsys.artifacts.registry import Registry
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.evaluation.cold_start import history_of
from recsys.logs.prepared import PreparedLog, open_prepared
from recsys.logs.worth import best_feedback
from recsys.mdp.state import History
from recsys.recommender import Recommendation, Recommender, load_recommender


def recommend(
    config: RunConfig,
    *,
    user: str | None,
    items: Sequence[str] | None,
    n: int,
    adapt: bool,
    greedy: bool = False,
    alias: str | None = None,
) -> None:
    """Print a list for a user of the run's log, or for a visitor who took some items.

    Raises UserError if the run has no bundle yet, if the version asked for is missing, damaged or of another log, or if
    an item is not in its catalogue.
    """
    run = config.output / config.name
    recommender = _of_run(run) if alias is None else _of_registry(config, alias)
    console = Console()
    if items is not None:
        history = _visitor(recommender, open_prepared(run / "prepare"), items)
    else:
        known = None if user is None else _known_user(run / "prepare", user)
        if known is None:
            say(console, f"{user} is not in the log: a cold user with no events")
        history = recommender.history([]) if known is None else known
    given = recommender.recommend(history, n, seed=config.seed, adapt=adapt, greedy=greedy)
    if not adapt and given.served_by == "policy":
        say(console, "--no-adapt changes nothing: a baseline ranks here, and has nothing to adapt")
    console.print(_table(recommender, given))
    if not greedy and recommender.exploration.kind != "greedy":
        say(
            console,
            f"drawn by {given.policy}, as the endpoint draws, with seed {config.seed} (another: --set seed=1); "
            "--greedy shows the best in order",
        )


def _of_run(run: Path) -> Recommender:
    bundle = run / "index" / BUNDLE
    if not bundle.is_dir():
        raise UserError(f"no bundle at {bundle}; `recsys run` with the same --config makes it")
    return load_recommender(bundle)


def _of_registry(config: RunConfig, alias: str) -> Recommender:
    """Load a version whose items and event types are coded as in the run's log, from which histories come."""
    registry = Registry(config.publish.registry)
    folder = registry.resolve(config.publish.name, alias)
    registry.verify(folder)
    recommender = load_recommender(folder)
    prepared = config.output / config.name / "prepare"
    log = open_prepared(prepared)
    same_items = recommender.catalogue.item_ids == read_catalogue(prepared / "items.parquet").item_ids
    if not same_items or recommender.event_types != log.info.event_types:
        raise UserError(
            f"{folder.name} was made from another log than {prepared}; give the --config whose run published it"
        )
    return recommender


def _visitor(recommender: Recommender, log: PreparedLog, items: Sequence[str]) -> History:
    """Return the history of somebody who liked some items just now, as those of the log who liked theirs."""
    unknown = [item for item in items if item not in recommender.catalogue.index_of]
    if unknown:
        raise UserError(f"not in the catalogue: {', '.join(unknown)}; ids are those of the log's item table")
    event_type, reward = best_feedback(log)
    count = len(items)
    return History(
        item=np.array([recommender.catalogue.index_of[item] for item in items], np.int32),
        event_type=np.full(count, event_type, np.int8),
        reward=np.full(count, reward, np.float32),
        timestamp=np.full(count, int(time.time()), np.int64),
        session=np.zeros(count, np.int32),
        attributes=recommender.history([]).attributes,
    )


def _known_user(prepared_folder: Path, user: str) -> History | None:
    """Return what a user of the log has done; None for a user without events."""
    log = open_prepared(prepared_folder)
    ids = pq.read_table(prepared_folder / "users.parquet", columns=[columns.USER_ID])[columns.USER_ID]
    row = ids.index(user).as_py()  # -1 if absent, which is also what marks anonymous histories
    if row < 0 or not (log.history_user == row).any():
        return None
    return history_of(log, int(np.argmax(log.history_user == row)))


def _table(recommender: Recommender, given: Recommendation) -> Table:
    caption = f"{given.served_by}, {given.support_events} support events, {given.policy}"
    table = Table("position", "item", "title", "score", "propensity", caption=Text(caption))
    catalogue = recommender.catalogue
    for position, (item, score, propensity) in enumerate(
        zip(given.items, given.scores, given.propensities, strict=True)
    ):
        # ids and titles come from a log: never markup
        item_id, title = Text(catalogue.item_ids[item]), Text(catalogue.titles[item])
        table.add_row(str(position), item_id, title, f"{score:.4f}", f"{propensity:.4f}")
    return table

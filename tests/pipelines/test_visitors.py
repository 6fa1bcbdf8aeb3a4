"""Simulated visitors of a real endpoint: what they saw and did is in its store, and follows the world's rules."""

import asyncio
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from pipelines.endpoint import run_experiment, running_endpoint
from pipelines.visitors import Plan, visit
from recsys.errors import UserError
from recsys.evaluation.offline import ServedPolicy, evaluate_log, from_store
from recsys.frames.evaluations import cohorts, differences, estimates, gates
from recsys.frames.store import StoreTables, read_store, shown_items
from recsys.logs.schema import EVENTS
from recsys.logs.simulator import World, WorldSettings, make_world
from recsys.recommender import load_recommender
from tests.factories import write_tiny_bundle
from tests.serving.store_samples import open_embedded

END = datetime(2026, 1, 10, tzinfo=UTC)
PLAN = Plan(visitors=60, days=2.0, end=END, n=3, most_lists=6)
WORLD: World = make_world(replace(WorldSettings(), items=10), 3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "v1", items=10)


@pytest.fixture(scope="module")
def played(
    bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[pd.DataFrame, StoreTables, sqlite3.Connection]]:
    store = tmp_path_factory.mktemp("live") / "store.sqlite"
    with running_endpoint(store, bundle.parent, bundle=bundle) as url:
        run_experiment(
            url,
            "try",
            [
                {"name": "calm", "exploration": {"kind": "plackett_luce", "temperature": 0.05}},
                {"name": "wild", "exploration": {"kind": "plackett_luce", "temperature": 1.0}},
            ],
        )
        with pytest.raises(UserError, match="refused the experiment"):
            run_experiment(url, "no", [{"name": "a", "weight": 0.0}])
        lists = visit(url, WORLD, PLAN, np.random.default_rng(5))
    connection = sqlite3.connect(store)
    yield lists, read_store(connection), connection
    connection.close()


Played = tuple[pd.DataFrame, StoreTables, sqlite3.Connection]


def test_what_visitors_saw_and_earned_is_what_the_store_says(played: Played) -> None:
    lists, tables, _ = played
    shown = shown_items(tables)
    kept = shown.groupby("recommendation_id").agg(seen=("item_id", "size"), reward=("reward", "sum"))
    told = lists.set_index("recommendation_id")
    assert len(kept) == len(told) == tables.lists.num_rows
    assert kept["seen"].reindex(told.index).to_list() == told["seen"].to_list()
    assert kept["reward"].reindex(told.index).to_list() == pytest.approx(told["reward"].to_list())
    assert told["reward"].sum() > 0
    assert (told["seen"] < PLAN.n).any()  # some left in the middle


def test_everything_happens_in_the_days_of_the_plan_in_order(played: Played) -> None:
    lists, tables, _ = played
    assert lists["timestamp"].is_monotonic_increasing
    assert lists["timestamp"].between(pd.Timestamp("2026-01-08", tz="UTC"), pd.Timestamp(END)).all()
    events = tables.events.to_pandas()
    shown = events[events["event_type"] == "impression"].set_index(["recommendation_id", "item_id"])[
        "timestamp"
    ]
    done = events[events["event_type"] != "impression"].set_index(["recommendation_id", "item_id"])[
        "timestamp"
    ]
    assert len(done) > 20
    assert (done > shown.reindex(done.index)).all()


def test_every_shown_item_has_its_propensity_place_and_variant(played: Played) -> None:
    shown = shown_items(played[1])
    assert shown["propensity"].between(0.0, 1.0, inclusive="right").all()
    assert set(shown["position"]) == {0, 1, 2}
    assert set(shown["variant"]) == {"try:calm", "try:wild"}
    wild = shown.groupby("variant")["propensity"].mean()
    assert wild["try:wild"] < wild["try:calm"]


def test_visitors_respond_as_the_world_says(played: Played) -> None:
    """First items of first lists: the state is fresh, so the chance of a response is known."""
    shown = shown_items(played[1])
    first = shown[(shown["support_events"] == 0) & (shown["position"] == 0)]
    first = first.sort_values("timestamp").drop_duplicates("user_id")
    users = WORLD.begin(PLAN.visitors, np.random.default_rng(5))
    who = first["user_id"].str[1:].astype(int).to_numpy()
    chance = WORLD.response_probability(users.at(who), first["item_id"].str[1:].astype(int).to_numpy())
    error = np.sqrt((chance * (1.0 - chance)).sum())
    assert len(first) > 40
    assert abs(first["responded"].sum() - chance.sum()) < 4.0 * error


def test_what_visitors_are_is_known_to_the_endpoint(played: Played) -> None:
    attributes = played[1].attributes
    assert len(attributes) == PLAN.visitors
    assert {told["segment"] for told in attributes.values()} == {"segment 0", "segment 1", "segment 2"}


def test_duckdb_reads_the_tables_by_name(played: Played) -> None:
    events = played[1].events
    found = duckdb.sql("SELECT count(*) FROM events WHERE event_type = 'impression'").fetchall()
    assert found == [(played[0]["seen"].sum(),)]
    assert events.num_rows > 0


def test_a_replay_of_the_store_as_frames_says_what_the_evaluation_says(played: Played, bundle: Path) -> None:
    _, tables, connection = played
    policy = ServedPolicy(load_recommender(bundle), "same")
    evaluation = evaluate_log(
        from_store(connection), policy, attributes=tables.attributes, self_test=False
    ).evaluation
    told = estimates(evaluation)
    logged = told[told["policy"] == "logging"]["value"].iloc[0]
    assert logged == pytest.approx(played[0]["reward"].mean())
    assert len(told) == len(evaluation.estimates)
    row = differences(evaluation).iloc[0]
    assert (row["policy"], row["value"]) == ("same", evaluation.differences[0].value)
    assert row["may_be_told"] == evaluation.may_be_told(evaluation.differences[0])
    by_policy = gates(evaluation)
    assert set(by_policy["policy"]) == {"same", ""}
    assert len(by_policy) == len(evaluation.gates["same"]) + len(evaluation.self_tests)
    cells = cohorts(evaluation)
    assert cells[cells["segment"] == "events used"]["lists"].sum() == len(played[0])


def test_an_endpoint_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="the endpoint ended with"),
        running_endpoint(tmp_path / "store.sqlite", tmp_path, port="no number"),
    ):
        pass


def test_an_empty_store_has_empty_tables_and_no_shown_items(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        runner.run(open_embedded(tmp_path / "store.sqlite").close())
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    tables = read_store(connection)
    connection.close()
    assert (tables.events.num_rows, tables.lists.num_rows, len(tables.attributes)) == (0, 0, 0)
    assert tables.events.schema.names == EVENTS.names
    assert len(shown_items(tables)) == 0

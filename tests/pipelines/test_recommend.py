"""`recsys recommend`: whose history the served object is asked with, and what is printed."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import cli
from recsys import recommender as served
from recsys.catalogue import Catalogue
from recsys.config import ExplorationConfig, LogConfig, PrepareConfig, SplitConfig
from recsys.logs.prepare import prepare
from recsys.logs.prepared import open_prepared
from recsys.logs.schema import EVENTS
from recsys.mdp.state import History, empty_history
from recsys.recommender import LoggedEvent, Recommendation

ITEMS = ("apple", "bread", "cake[/b]")


class FakeRecommender:
    """Remembers what it was asked and gives the first n items."""

    event_types = ("cancellation", "click", "impression", "purchase")
    catalogue = Catalogue(
        ITEMS, ("Apple", "Bread", "Cake"), ((),) * 3, np.zeros(3, np.float32), np.ones(3, bool)
    )

    exploration = ExplorationConfig()

    def __init__(self) -> None:
        self.histories: list[History] = []
        self.asked: list[dict[str, object]] = []

    def history(self, events: Sequence[LoggedEvent], attributes: dict[str, str] | None = None) -> History:
        return empty_history(np.empty(0, np.int32))

    def recommend(self, history: History, n: int, **options: object) -> Recommendation:
        self.histories.append(history)
        self.asked.append(options)
        shown = np.arange(min(n, 3), dtype=np.int32)
        scores = np.linspace(1, 0.5, len(shown), dtype=np.float32)
        return Recommendation(shown, scores, scores / 2, len(history), "adapted", "greedy[1]", shown, 7)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRecommender:
    """Put a prepared log and a bundle where a run of the smoke config has them."""
    monkeypatch.chdir(tmp_path)
    count = 6
    columns: dict[str, list[object]] = {
        "event_id": [str(number) for number in range(count)],
        "user_id": ["u1", "u2", "u1", "u2", "u1", "u2"],
        "session_id": ["s1", "s2", "s3", "s2", "s3", "s2"],
        "timestamp": [datetime(2011, 1, 1 + number, tzinfo=UTC) for number in range(count)],
        "item_id": ["apple", "bread", "bread", "apple", "cake[/b]", "apple"],
        "event_type": ["purchase"] * count,
    }
    events = {field.name: columns.get(field.name, [None] * count) for field in EVENTS}
    (tmp_path / "log").mkdir()
    pq.write_table(pa.table(events, schema=EVENTS), tmp_path / "log" / "events.parquet")
    pq.write_table(pa.table({"item_id": list(ITEMS)}), tmp_path / "log" / "items.parquet")
    run = tmp_path / "runs" / "smoke"
    config = PrepareConfig(
        log=LogConfig(path=tmp_path / "log"), split=SplitConfig(kind="users"), content_features=2
    )
    prepare(config, 7, run / "prepare")
    (run / "index" / "bundle").mkdir(parents=True)
    recommender = FakeRecommender()
    monkeypatch.setattr(served, "load_recommender", lambda path: recommender, raising=False)
    monkeypatch.delitem(sys.modules, "pipelines.recommend", raising=False)
    return recommender


def ask(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["recsys", "recommend", "--config", "smoke", *words])
    with pytest.raises(SystemExit) as leave:
        cli.main()
    return int(leave.value.code or 0)


def test_a_known_user_is_asked_for_with_what_the_log_holds(
    fake: FakeRecommender, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "--user", "u1", "-n", "2") == 0
    history = fake.histories[0]
    items = pq.read_table("runs/smoke/prepare/items.parquet")["item_id"].to_pylist()
    assert [items[item] for item in history.item] == ["apple", "bread", "cake[/b]"]
    assert (np.diff(history.timestamp) > 0).all()
    assert history.session.tolist() == [0, 1, 1]
    assert fake.asked[0] == {"seed": 7, "adapt": True, "greedy": False}
    printed = capsys.readouterr().out
    for word in ("apple", "Bread", "1.0000", "0.5000", "adapted, 3 support events, greedy[1]"):
        assert word in printed
    assert "Cake" not in printed


def test_a_drawn_list_says_so_and_how_to_see_the_best(
    fake: FakeRecommender, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "--items", "bread") == 0
    assert "drawn by greedy[1], as the endpoint draws, with seed 7" in capsys.readouterr().out
    assert ask(monkeypatch, "--items", "bread", "--greedy") == 0
    assert [asked["greedy"] for asked in fake.asked] == [False, True]
    assert "drawn by" not in capsys.readouterr().out


def test_an_unknown_user_is_cold_and_told_so(
    fake: FakeRecommender, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "--user", "nobody", "--no-adapt") == 0
    assert len(fake.histories[0]) == 0
    assert fake.asked[0]["adapt"] is False
    printed = capsys.readouterr().out
    assert "nobody is not in the log: a cold user with no events" in printed
    assert "cake[/b]" in printed


def test_items_become_what_was_liked_in_the_log(
    fake: FakeRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(monkeypatch, "--items", "bread, apple") == 0
    (history,) = fake.histories
    assert [ITEMS[item] for item in history.item] == ["bread", "apple"]
    types = open_prepared(Path("runs/smoke/prepare")).info.event_types
    assert [types[code] for code in history.event_type] == ["purchase"] * 2
    assert history.reward.tolist() == [1.0, 1.0]
    assert history.session.tolist() == [0, 0]


def test_what_is_not_there_is_one_line(
    fake: FakeRecommender, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(monkeypatch, "--items", "bread,tea,milk") == 2
    assert "not in the catalogue: tea, milk" in capsys.readouterr().err
    assert ask(monkeypatch, "--user", "u1", "--set", "name=other") == 2
    assert "no bundle at" in capsys.readouterr().err

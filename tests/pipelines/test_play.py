"""`recsys play`: a bundle among the users of the world that its log comes from, held against exact returns."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines import cli
from pipelines.play import lives_of
from recsys.artifacts.registry import Registry
from recsys.logged_event import LoggedEvent
from recsys.logs.simulator_files import open_world, write_log
from recsys.logs.simulator_policies import LoggingSettings, random_policy, segment_policy
from recsys.logs.simulator_stream import EPOCH_S, item_ids
from recsys.recommender import load_recommender
from tests.logs.simulator_worlds import small_world

ITEMS, USERS = 40, 250
CONFIG = f"""
name = "world"
[prepare]
content_features = 2
[prepare.log]
path = "log"
[prepare.split]
kind = "users"
[index]
candidates = {ITEMS}
[exploration]
kind = "epsilon"
epsilon = 1.0
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulated log and, as the champion, the popularity of what its users took."""
    folder = tmp_path_factory.mktemp("played")
    (folder / "world.toml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_log(small_world(), LoggingSettings(), 300, 7, Path("log"))
        patch.setattr(
            sys, "argv", ["recsys", "baseline", "--config", "world.toml", "--kind", "popularity", "--promote"]
        )
        with pytest.raises(SystemExit) as leave:
            cli.main()
        assert not leave.value.code
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def in_the_folder(*words: str) -> tuple[int, str, str]:
        monkeypatch.chdir(home)
        monkeypatch.setattr(sys, "argv", ["recsys", "play", *words])
        with pytest.raises(SystemExit) as leave:
            cli.main()
        out, err = capsys.readouterr()
        return int(leave.value.code or 0), out, err

    return in_the_folder


def test_one_item_for_everybody_earns_its_exact_return(home: Path) -> None:
    world, _ = open_world(home / "log")
    recommender = load_recommender(Registry(home / "registry").resolve("metaq", "champion"))
    shown = recommender.recommend(recommender.history([]), 1, seed=0, greedy=True).items[0]
    alone = np.zeros((world.settings.segments, ITEMS))
    alone[:, shown] = 1.0
    exact = segment_policy("one item", alone).start_value(world)
    mean, half = lives_of(world, recommender, USERS, seed=3).interval()
    assert abs(mean - exact) < 2 * half  # four standard errors


def test_what_is_drawn_evenly_earns_the_exact_return_of_chance(home: Path) -> None:
    world, _ = open_world(home / "log")
    recommender = load_recommender(Registry(home / "registry").resolve("metaq", "champion"))
    mean, half = lives_of(world, recommender, USERS, seed=3, greedy=False).interval()
    assert abs(mean - random_policy(world).start_value(world)) < 2 * half


class Listener:
    """Shows one item after the other and keeps the history that it was told last of each user."""

    def __init__(self, items: Sequence[str], *, reads_impressions: bool) -> None:
        self.catalogue = SimpleNamespace(item_ids=tuple(items))
        self.reads_impressions = reads_impressions
        self.heard: list[tuple[tuple[LoggedEvent, ...], dict[str, str]]] = []

    def history(self, events: tuple[LoggedEvent, ...], attributes: dict[str, str]) -> int:
        self.heard.append((events, attributes))
        return len(self.heard)

    def recommend(self, history: int, n: int, **asked: Any) -> SimpleNamespace:
        assert n == 1
        assert not asked["exclude_seen"]
        return SimpleNamespace(items=np.array([history % len(self.catalogue.item_ids)]))


@pytest.mark.parametrize("reads_impressions", [True, False])
def test_a_bundle_is_told_what_it_reads_in_order_of_time(reads_impressions: bool) -> None:
    world = small_world()
    names = item_ids(world).to_pylist()
    listener = Listener(names, reads_impressions=reads_impressions)
    lives = lives_of(world, listener, 1, seed=6)  # type: ignore[arg-type]
    assert len(listener.heard) == lives.steps[0] > 3
    for number, (events, attributes) in enumerate(listener.heard):
        assert attributes["segment"].startswith("segment ")
        times = [event.timestamp for event in events]
        assert times == sorted(times)
        assert all(time >= EPOCH_S for time in times)
        if reads_impressions:  # one token for each item shown before, in the order of showing
            assert [event.item_id for event in events] == [
                names[(place + 1) % len(names)] for place in range(number)
            ]
        else:
            assert all(event.event_type != "impression" for event in events)
    told = listener.heard[-1][0]
    assert {event.event_type for event in told} - {"impression"}
    assert ("impression" in {event.event_type for event in told}) == reads_impressions


def test_the_bundle_stands_below_policies_of_known_worth(run: Run) -> None:
    code, out, _ = run("--world", "log", "--users", "40")
    assert code == 0
    rows = out.splitlines()
    assert any(row.startswith("optimal ") for row in rows)
    assert rows[-1].startswith("bundle@champion, its best item")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--world", "log", "--policy", "random"),
            "'random' names no bundle; give bundle@champion or bundle:FOLDER",
        ),
        (("--world", "log", "--policy", "bundle@nobody"), "nobody"),
        (("--world", "."), "world.json"),
        (("--world", "log", "--users", "1"), "--users"),
    ],
)
def test_what_cannot_be_is_one_line(run: Run, words: tuple[str, ...], said: str) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_world_of_other_items_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["recsys", "simulate", "--out", str(tmp_path / "small"), "--users", "20", "--items", "8"]
    )
    with pytest.raises(SystemExit):
        cli.main()
    code, _, err = run("--world", str(tmp_path / "small"))
    assert code == 2
    assert "items that the world does not have; give the folder of the log" in err.splitlines()[-1]

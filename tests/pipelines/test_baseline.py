"""`recsys baseline`: a version of the registry that is served, and an alias that moves only when told to."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import cli
from pipelines.configuration import resolve_config
from pipelines.named_policies import Shelf, find_policy
from recsys.artifacts.bundle_info import ranker_name
from recsys.artifacts.registry import Registry
from recsys.evaluation.cold_start import history_of
from recsys.logs.prepared import Role, open_prepared
from recsys.recommender import load_recommender
from tests.serving.server import running_server

Run = Callable[..., tuple[int, str, str]]
CONFIG = """
name = "shop"
[prepare]
content_features = 2
[prepare.log]
path = "log"
[prepare.split]
kind = "users"
test_share = 0.3
validation_share = 0.3
[evaluate]
shots = [0, 1, 3]
bootstrap = 20
[metatrain]
max_support = 3
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of sixty users who take eight of twelve items, and its config."""
    home, chance = tmp_path_factory.mktemp("shop"), np.random.default_rng(3)
    (home / "shop.toml").write_text(CONFIG)
    rows = [
        (f"u{user}", f"i{item}", datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=place))
        for user in range(60)
        for place, item in enumerate(chance.permutation(12)[:8].tolist())
    ]
    events = {
        "event_id": [str(number) for number in range(len(rows))],
        "user_id": [user for user, _, _ in rows],
        "session_id": [user for user, _, _ in rows],
        "timestamp": [time for _, _, time in rows],
        "item_id": [item for _, item, _ in rows],
        "event_type": ["purchase"] * len(rows),
    }
    (home / "log").mkdir()
    pq.write_table(pa.table(events), home / "log" / "events.parquet")
    ids = [f"i{item}" for item in range(12)]
    items = {"item_id": ids, "title": [f"Item {name}" for name in ids], "available": [True] * 11 + [False]}
    pq.write_table(pa.table(items), home / "log" / "items.parquet")
    return home


@pytest.fixture
def recsys(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command of the shop in this process; give exit code, stdout, stderr."""
    monkeypatch.chdir(shop)
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")

    def run(command: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recsys", command, *words])
        with pytest.raises(SystemExit) as leave:
            cli.main()
        out, err = capsys.readouterr()
        return int(leave.value.code or 0), out, err

    return run


def made(recsys: Run, *words: str) -> str:
    """Make a baseline and return its version."""
    code, out, err = recsys("baseline", "--config", "shop.toml", *words)
    assert code == 0, err
    return out.split("metaq ")[1].split(",")[0]


def test_a_version_holds_the_baseline_what_it_is_and_how_good(recsys: Run) -> None:
    version = made(recsys, "--kind", "item_knn", "--set", "baseline.options.shrinkage=5")
    registry = Registry(Path("registry"))
    folder = registry.resolve("metaq", version)
    registry.verify(folder)
    assert ranker_name(folder) == "item_knn"
    card = (folder / "card.md").read_text()
    for said in ("# metaq: item_knn", "Options as given; NDCG", "| shrinkage | 5.0 |", "temperature of 0.1"):
        assert said in card
    report = json.loads((folder / "evaluation.json").read_text())
    until = open_prepared(Path("runs/shop/prepare")).info.last_event
    assert report["trained_until"] == until
    assert list(report["policies"]) == ["item_knn"]
    assert list(report["policies"]["item_knn"]) == ["0", "1", "3"]
    assert report["baselines"]["item_knn"]["trials"] == 0
    assert json.loads((folder / "lineage.json").read_text())["prepare"]["digest"]
    assert json.loads((folder / "run.json").read_text())["baseline"]["options"] == {"shrinkage": "5"}


def test_the_command_that_is_printed_makes_it_the_challenger(recsys: Run) -> None:
    _, out, err = recsys("baseline", "--config", "shop.toml", "--kind", "popularity")
    line = next(line for line in out.splitlines() if line.startswith("challenge "))
    code, out, err = recsys(*line.split()[2:])
    assert code == 0, err
    aliases = Registry(Path("registry")).aliases("metaq")
    assert set(aliases) == {"challenger"}
    (Path("registry") / "metaq" / "aliases" / "challenger.json").unlink()


def test_a_bundle_in_its_runs_folder_says_until_when_it_was_trained(recsys: Run, tmp_path: Path) -> None:
    made(recsys, "--kind", "item_knn")
    step = Path("runs/shop/baseline-item_knn")
    shutil.copytree(step / "package", step / "bare")
    (step / "bare" / "evaluation.json").unlink()
    until = datetime.fromisoformat(open_prepared(Path("runs/shop/prepare")).info.last_event)
    shelf = Shelf(Path("registry"), "metaq", include_seen=False)
    assert find_policy(f"bundle:{step / 'bare'}", shelf)[1] == until
    shutil.copytree(step / "bare", tmp_path / "elsewhere" / "bare")
    assert find_policy(f"bundle:{tmp_path / 'elsewhere' / 'bare'}", shelf)[1] is None


def test_the_alias_moves_only_when_told_to(recsys: Run) -> None:
    registry = Registry(Path("registry"))
    first = made(recsys, "--kind", "popularity")
    assert registry.aliases("metaq") == {}
    code, out, _ = recsys("baseline", "--config", "shop.toml", "--kind", "popularity", "--promote")
    assert code == 0
    assert f"champion of metaq is now {first}" in out
    second = made(recsys, "--kind", "ease", "--set", "baseline.options.l2=5")
    assert second != first
    assert registry.aliases("metaq") == {"champion": first}
    assert made(recsys, "--kind", "popularity") == first  # the same content is the same version
    code, out, _ = recsys("models")
    assert code == 0
    shown = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
    assert ("popularity" in shown[first], "champion" in shown[first]) == (True, True)
    assert ("ease" in shown[second], "champion" in shown[second]) == (True, False)


@pytest.mark.parametrize(("trials", "chosen"), [("0", "as given"), ("3", "the best of 3 tried")])
def test_the_chosen_options_are_said_with_what_chose_them(recsys: Run, trials: str, chosen: str) -> None:
    words = ("baseline", "--config", "shop.toml", "--kind", "item_knn", "--trials", trials)
    code, out, err = recsys(*words)
    assert code == 0, err
    [line] = [line for line in out.splitlines() if line.startswith("options ")]
    settings = json.loads((Path("runs/shop/baseline-item_knn/package/evaluation.json")).read_text())
    shrinkage = settings["baselines"]["item_knn"]["settings"]["shrinkage"]
    assert f"shrinkage={shrinkage:.4g};" in line
    assert re.search(rf"; {chosen}, NDCG@10 0\.\d+ on [1-9]\d* validation users$", line)


def test_each_kind_is_kept_while_its_settings_stand(recsys: Run) -> None:
    made(recsys, "--kind", "als", "--trials", "2")
    made(recsys, "--kind", "popularity")
    _, _, err = recsys("baseline", "--config", "shop.toml", "--kind", "als", "--trials", "2")
    assert [line.split()[1] for line in err.splitlines()] == ["kept:", "kept:"]
    _, _, err = recsys("baseline", "--config", "shop.toml", "--kind", "als")
    assert [line.split()[1] for line in err.splitlines()] == ["kept:", "done"]


def test_the_terminal_recommends_from_a_version(recsys: Run) -> None:
    version = made(recsys, "--kind", "item_knn")
    ask = ("recommend", "--config", "shop.toml", "--alias", version, "-n", "3")
    code, out, _ = recsys(*ask, "--items", "i1,i2")
    assert code == 0
    assert "policy, 2 support events, item_knn/plackett_luce(temperature=0.1)" in " ".join(out.split())
    code, out, _ = recsys(*ask, "--user", "u3", "--no-adapt")
    assert code == 0
    assert "--no-adapt changes nothing" in out
    assert "policy, 8 support events" in " ".join(out.split())
    code, _, err = recsys("recommend", "--config", "shop.toml", "--alias", "nothing", "--user", "u3")
    assert (code, "no 'nothing' of metaq" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kind", "oracle"], "baseline.kind is 'oracle', must be 'popularity'"),
        (["--set", "baseline.options.shrinking=3"], "did you mean shrinkage?"),
        (["--trials", "2", "--set", "baseline.options.shrinkage=3"], "leave one of the two out"),
        (["--trials", "-1"], "--trials"),
        (
            ["--trials", "2", "--set", "evaluate.shots=[0, 20]", "--set", "state.max_events=50"],
            "a larger prepare.split.validation_share, or a smaller last number in evaluate.shots",
        ),
        (["--set", "baseline.temperature=0"], "baseline.temperature is '0', must be greater than 0"),
    ],
)
def test_what_is_refused_is_one_line_and_publishes_nothing(recsys: Run, words: list[str], said: str) -> None:
    before = Registry(Path("registry")).versions("metaq")
    code, _, err = recsys("baseline", "--config", "shop.toml", *words)
    assert code == 2
    assert said in err.splitlines()[-1]
    assert Registry(Path("registry")).versions("metaq") == before


def test_a_server_process_shows_what_the_policy_ranks(recsys: Run, tmp_path: Path) -> None:
    version = made(recsys, "--kind", "item_knn", "--set", "exploration.kind=greedy", "--promote")
    folder = Registry(Path.cwd() / "registry").resolve("metaq", "champion")
    assert folder.name == version
    config = resolve_config("shop.toml")
    log = open_prepared(config.output / "shop" / "prepare")
    history = history_of(log, int(log.with_role(Role.COLD_TEST)[0])).first(3)
    recommender = load_recommender(folder)
    expected = recommender.catalogue.ids(recommender.recommend(history, 5, seed=0).items)
    with running_server(folder, tmp_path / "store.sqlite") as server:
        events = [
            {"user": "new", "item_id": recommender.catalogue.item_ids[item], "event_type": "purchase",
             "timestamp": int(time)}
            for item, time in zip(history.item, history.timestamp, strict=True)
        ]  # fmt: skip
        assert httpx.post(f"{server.url}/v1/events", json=events).json()["accepted"] == 3
        body = httpx.post(f"{server.url}/v1/recommend", json={"user": "new", "n": 5}).json()
    assert (body["served_by"], body["policy"], body["model"]) == ("policy", "item_knn/greedy", version)
    assert [item["item_id"] for item in body["items"]] == expected
    assert {item["propensity"] for item in body["items"]} == {1.0}
    assert "i11" not in expected  # unavailable

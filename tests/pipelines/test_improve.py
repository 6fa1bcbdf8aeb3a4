"""Rounds of the loop without a server: what is trained on and replayed, what is refused, and what a kill leaves."""

import io
import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from loop_shop import ITEMS, Shop
from rich.console import Console
from typer.testing import CliRunner

from pipelines.challengers import Learnt, Lesson, merged_run
from pipelines.cli import app
from pipelines.improve import every, improve
from pipelines.loop_round import Asked, Endpoint
from recsys import columns as c
from recsys.artifacts.files import locked
from recsys.errors import UserError
from recsys.policies.popularity import Popularity
from tests.factories import write_policy_bundle


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return Shop(tmp_path_factory.mktemp("first")).log


@pytest.fixture
def shop(tmp_path: Path, log: pa.Table) -> Shop:
    return Shop(tmp_path, log)


def test_what_is_replayed_begins_where_training_ended(shop: Shop) -> None:
    """Leakage is impossible by construction: the trainer is handed nothing from the cut on."""
    seen: dict[str, int] = {}

    def trainer(lesson: Lesson) -> Learnt:
        with merged_run(lesson) as (config, events):
            parts = sorted((config.prepare.log.path / "events").glob("*.parquet"))
            times = pa.concat_tables([pq.read_table(part, columns=[c.TIMESTAMP]) for part in parts])
            seen["last"] = int(pc.max(times[c.TIMESTAMP].cast(pa.int64())).as_py())
            seen["rows"] = len(times)
        return Learnt(shop.root / "better", shop.root / "nowhere", events)

    source = pq.read_table(shop.root / "log" / "events.parquet")
    heard = Console(file=io.StringIO())
    code = improve(shop.config(), Asked(log=shop.root / "log"), heard, trainers={"baseline": trainer})
    line = shop.journal.lines()[-1]
    cut = round(datetime.fromisoformat(str(line["replayed_from"])).timestamp() * 1e6)
    assert code == 0, line
    assert seen["last"] < cut
    before = pc.sum(pc.less(source[c.TIMESTAMP].cast(pa.int64()), cut)).as_py()
    assert seen["rows"] == 60 + before
    lists = pc.count_distinct(
        source.filter(pc.greater_equal(source[c.TIMESTAMP].cast(pa.int64()), cut)).filter(
            pc.field(c.EVENT_TYPE) == c.IMPRESSION
        )[c.RECOMMENDATION_ID]
    ).as_py()
    report = json.loads(Path(str(line["report"])).with_suffix(".json").read_text())
    assert report["provenance"]["lists"].startswith(f"{lists:,} of")
    tests = {gate["name"]: gate["verdict"] for gate in report["self_tests"]}
    assert tests["after training"] == "pass"
    assert abs(lists - 0.3 * 2000) <= 1  # improve.holdout_share
    told = json.loads((shop.registry.resolve("metaq", "champion") / "evaluation.json").read_text())
    assert told["trained_until"] == line["replayed_from"]


def test_a_margin_a_limit_and_a_second_reading_keep_the_champion(shop: Shop) -> None:
    assert shop.round("improve.margin=0.9", candidate=shop.better)[0] == 1
    assert "not surely better by the margin" in str(shop.journal.lines()[-1]["why"])
    code, said = shop.round(candidate=shop.better)
    assert (code, "0 new lists" in said) == (3, True)  # every list is asked once
    assert shop.registry.aliases("metaq")["champion"] == shop.champion


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("max_p95_ms=0.000001", "its 95th percentile"),
        ("max_bundle_mb=0.0001", "its bundle has"),
        ("max_latency_ratio=0.000001", "a list costs"),
    ],
)  # fmt: skip
def test_what_is_too_slow_or_too_large_is_kept_out_however_good(shop: Shop, setting: str, says: str) -> None:
    code, said = shop.round(f"improve.{setting}", candidate=shop.better)
    assert code == 1
    assert says in said
    assert "must" in said


def test_an_unsound_q_function_is_kept_out(shop: Shop) -> None:
    folder = shop.root / "unsound"
    write_policy_bundle(
        folder,
        Popularity().restore({"popularity": np.arange(ITEMS, dtype=np.float32)}),
        ITEMS,
        candidates=ITEMS,
    )
    health = {"mean_return": 1.0, "over_estimation": 9.0, "unsupported_argmax": 0.0, "calibration_error": 0.1}
    (folder / "health.json").write_text(json.dumps(health))
    code, said = shop.round(candidate=shop.registry.publish(folder, "metaq"))
    assert code == 1
    assert "over-estimation of its Q-function is 9, must be at most 2" in said


def test_two_rounds_at_once_are_refused(shop: Shop) -> None:
    with (
        locked(shop.root / "registry" / "metaq" / ".loop.lock"),
        pytest.raises(UserError, match="another round"),
    ):
        shop.round()


@pytest.mark.parametrize(("moved", "told"), [(False, "kept"), (True, "promoted")])
def test_a_round_killed_between_its_two_lines_is_mended(shop: Shop, moved: bool, told: str) -> None:
    shop.journal.write(
        "promoting", {"champion": shop.champion, "challenger": shop.better, "read_until_us": 2**61}
    )
    with shop.journal.path.open("a") as file:
        file.write('{"at": "2026')  # and the kill tore a line
    if moved:
        shop.registry.set_alias("metaq", "champion", shop.better)
    assert shop.round()[0] == 3  # the lists had been read
    did = [line["did"] for line in shop.journal.lines()]
    assert did == ["promoting", told, "cannot say"]


def test_a_killed_round_leaves_the_champion_and_a_registry_that_the_next_round_uses(shop: Shop) -> None:
    sets = [word for setting in shop.settings() for word in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "improve",
        "--config",
        "smoke",
        *sets,
        "--log",
        str(shop.root / "log"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    traffic = shop.root / "runs" / "smoke-improve" / "traffic" / "events"
    deadline = time.monotonic() + 60
    while not traffic.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert shop.registry.aliases("metaq")["champion"] == shop.champion
    code, said = shop.round()
    assert code in (0, 1), said
    assert not traffic.exists()  # users are remembered by the store alone
    assert not (shop.root / "runs" / "smoke-improve" / "log").exists()


def test_every_hours_goes_on_after_what_people_can_mend() -> None:
    rounds: list[int] = []
    waited: list[float] = []

    def once() -> int:
        rounds.append(1)
        if len(rounds) == 1:
            raise UserError("no store here")
        return 0

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            raise KeyboardInterrupt

    heard = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        every(2.0, once, Console(file=heard), wait)
    assert len(rounds) == 2
    assert all(7190 < seconds <= 7200 for seconds in waited)
    assert "no store here" in heard.getvalue()
    with pytest.raises(UserError, match="must be above 0"):
        every(0.0, once, Console(file=heard), wait)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give either --store"),
        (["--log", "LOG", "--candidate", "nobody"], "no 'nobody' of metaq"),
        (["--store", "nowhere.sqlite"], "no store at nowhere.sqlite"),
        (["--log", "LOG", "--set", "improve.margin=2"], "improve.margin is '2'"),
        (["--log", "LOG", "--candidate", "BETTER", "--canary", "5"], "a trial runs at the endpoint"),
        (
            ["--log", "LOG", "--canary", "200", "--endpoint", "http://x"],
            "--canary is 200 %, must lie between",
        ),
        (["--log", "LOG", "--canary", "0", "--endpoint", "http://x"], "--canary is 0 %, must lie between"),
    ],
)
def test_what_a_person_can_mend_is_one_line(shop: Shop, arguments: list[str], says: str) -> None:
    given = [{"LOG": str(shop.root / "log"), "BETTER": shop.better}.get(word, word) for word in arguments]
    sets = [word for setting in shop.settings() for word in ("--set", setting)]
    done = CliRunner().invoke(app, ["improve", "--config", "smoke", *sets, *given])
    assert isinstance(done.exception, UserError), done.output
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)


@pytest.mark.parametrize("asked", [{"canary": 5.0}, {"shadow": True}])
def test_a_trial_that_could_not_begin_is_refused_before_anything_is_trained(
    shop: Shop, asked: dict[str, object]
) -> None:
    with pytest.raises(UserError, match="a trial runs at the endpoint"):
        shop.round(log=shop.root / "nowhere", **asked)
    with pytest.raises(UserError, match="does not answer"):
        shop.round(log=shop.root / "nowhere", canary=5.0, endpoint=Endpoint("http://127.0.0.1:9", "key"))
    assert shop.journal.lines() == []


def test_drift_is_a_command_and_can_hold_a_round_back(shop: Shop) -> None:
    sets = [word for setting in shop.settings() for word in ("--set", setting)]
    windows = ["improve.drift.window_hours=48", "improve.drift.reference_hours=96"]
    more = [word for setting in windows for word in ("--set", setting)]
    done = CliRunner().invoke(
        app, ["drift", "--config", "smoke", *sets, *more, "--log", str(shop.root / "log")]
    )
    assert done.exit_code == 0, done.output
    assert "Steady" in done.output
    code, said = shop.round(*windows, "improve.when=drift")
    assert (code, "Steady" in said) == (1, True)
    code, said = shop.round(
        *windows, "improve.when=drift", "improve.drift.item_mix=0.000001", "improve.drift.resamples=20"
    )
    assert shop.journal.lines()[-1]["drift"]

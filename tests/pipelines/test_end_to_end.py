"""The whole loop on the bundled log, with the smallest shipped config, in real processes."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipelines.manifest import artifact_digest
from recsys.artifacts.registry import Registry
from tests.serving.server import Server, running_server

ROOT = Path(__file__).parents[2]
STEPS = ("prepare", "pretrain", "metatrain", "distill", "index", "evaluate", "publish")


def command(home: Path, *more: str) -> list[str]:
    places = ["--set", f"output={home / 'runs'}", "--set", f"publish.registry={home / 'registry'}"]
    return [sys.executable, "-m", "pipelines.cli", "run", "--config", "smoke", *places, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}


def run(home: Path) -> str:
    ended = subprocess.run(
        command(home), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run and what it printed."""
    home = tmp_path_factory.mktemp("undisturbed")
    return home, run(home)


@pytest.fixture(scope="module")
def server(undisturbed: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = Registry(undisturbed[0] / "registry").resolve("smoke", "champion")
    with running_server(bundle, tmp_path_factory.mktemp("live") / "store.sqlite") as started:
        yield started


def test_a_run_ends_with_one_table_where_things_are_and_a_request_to_paste(
    undisturbed: tuple[Path, str],
) -> None:
    printed = undisturbed[1]
    for word in (
        "adapted",
        "unadapted",
        "popular",
        "item-knn",
        "k = 10",
        "model (MB)",
        "all steps (s)",
        "next session",
    ):
        assert word in printed
    for step in ("before", "teacher"):  # what the figures in parentheses are
        assert (
            f"{step}: validation NDCG@10 after k events (in parentheses by the session's state alone): k=0"
            in printed
        )
    assert re.search(r"curl -s http://127\.0\.0\.1:8000/v1/recommend .*somebody-new", printed)


def test_every_policy_was_asked_about_the_same_users_and_the_same_query(
    undisturbed: tuple[Path, str],
) -> None:
    report = json.loads((undisturbed[0] / "runs/smoke/evaluate/evaluation.json").read_text())
    assert report["users"] == 200
    for by_shots in report["policies"].values():
        assert list(by_shots) == ["0", "1", "10", "3", "5"]
    # popularity reads no support, so a query that moved with k would show here
    ndcg = {shots: metrics["ndcg"]["mean"] for shots, metrics in report["policies"]["popularity"].items()}
    assert len(set(ndcg.values())) == 1
    adapted, plain = (report["policies"][name]["0"]["ndcg"] for name in ("adapted", "unadapted"))
    assert adapted == plain


def test_a_second_run_keeps_every_step_and_says_so(undisturbed: tuple[Path, str]) -> None:
    printed = run(undisturbed[0])
    for step in STEPS:
        assert re.search(rf"{step}\s+kept", printed), printed


def test_killing_every_step_half_way_and_running_again_gives_the_undisturbed_result(
    undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    for step in STEPS:
        _run_and_kill_in(tmp_path, step)
    run(tmp_path)
    for step in STEPS:
        expected, got = (home / "runs" / "smoke" / step for home in (undisturbed[0], tmp_path))
        assert artifact_digest(got) == artifact_digest(expected), step


def _run_and_kill_in(home: Path, step: str) -> None:
    """Start a run and kill it without warning once the step's temporary folder has appeared."""
    process = subprocess.Popen(
        command(home), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        half_written = home / "runs" / "smoke" / f".tmp-{step}"
        while not half_written.exists():
            assert process.poll() is None, f"the run ended before {step} was seen"
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait(timeout=20)
    assert not (home / "runs" / "smoke" / step).exists()


def test_a_new_user_is_served_at_once_and_their_event_changes_the_next_list(server: Server) -> None:
    def ask() -> dict[str, object]:
        answer = httpx.post(f"{server.url}/v1/recommend", json={"user": "somebody-new", "n": 5})
        assert answer.status_code == 200
        body: dict[str, object] = answer.json()
        return body

    first = ask()
    items = [item["item_id"] for item in first["items"]]  # type: ignore[attr-defined]
    assert len(set(items)) == 5
    assert (first["served_by"], first["support_events"]) == ("unadapted", 0)
    event = {"user": "somebody-new", "item_id": items[0], "event_type": "purchase"}
    assert httpx.post(f"{server.url}/v1/events", json=event).json()["accepted"] == 1
    second = ask()
    assert (second["served_by"], second["support_events"]) == ("adapted", 1)
    assert items[0] not in [item["item_id"] for item in second["items"]]  # type: ignore[attr-defined]


def test_known_and_unknown_customers_are_recommended_titles_in_the_terminal(
    undisturbed: tuple[Path, str],
) -> None:
    def recommend(*asked: str) -> str:
        places = ["--set", f"output={undisturbed[0] / 'runs'}"]
        whole = [sys.executable, "-m", "pipelines.cli", "recommend", "--config", "smoke", *places, *asked]
        ended = subprocess.run(
            whole, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=True
        )
        return ended.stdout

    assert "adapted, 2 support events" in recommend("--items", "22423,85123A", "-n", "3")
    assert "unadapted" in recommend("--user", "17850", "--no-adapt", "-n", "3")
    assert "cold user with no events" in recommend("--user", "nobody")

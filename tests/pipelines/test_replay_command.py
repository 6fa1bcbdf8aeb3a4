"""`recsys evaluate --log`: exit codes a gate can use, a page without a network, one line for what a person can mend."""

import json
import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from replay_shelf import made_shelf, run
from sqlalchemy import create_engine

from recsys import columns as c
from recsys.logs.live_tables import METADATA, logged_events_ddl


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_shelf(tmp_path_factory.mktemp("shelf"))


class Links(HTMLParser):
    """Collects whatever a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [f"{tag} {value}" for name, value in attrs if name in ("src", "href")]


def test_a_better_challenger_passes_and_leaves_a_page_and_json(shelf: Path) -> None:
    code, said = run(
        shelf, "--log", str(shelf / "log"), "--policy", "bundle@challenger", "--against", "bundle@champion"
    )
    assert code == 0, said
    assert "better:" in said
    plain = json.loads((shelf / "out" / "report.json").read_text())
    assert plain["decision"] == "better"
    assert plain["differences"][0]["low"] > 0
    page = (shelf / "out" / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert links.loaded == []
    assert page.count("<svg") >= 6
    assert plain["sentence"].split(":")[0] in page
    tests = {gate["name"]: gate["verdict"] for gate in plain["self_tests"]}
    assert tests["leak: the future shuffled"] == "pass"
    assert tests["after training"] == "pass"


def test_a_worse_one_does_not(shelf: Path) -> None:
    code, said = run(
        shelf, "--log", str(shelf / "log"), "--policy", "bundle@champion", "--against", "bundle@challenger"
    )
    assert code == 1
    assert "worse:" in said
    code, _ = run(
        shelf, "--log", str(shelf / "log"), "--policy", "bundle@champion", "--against", "bundle@challenger",
        "--set", "require=nothing", "--set", "self_test=false",
    )  # fmt: skip
    assert code == 0


def test_what_logs_cannot_say_has_an_exit_code_of_its_own(shelf: Path) -> None:
    code, said = run(
        shelf, "--log", str(shelf / "log"), "--policy", "bundle@challenger", "--against", "bundle@champion",
        "--set", "trained_until=2030-01-01T00:00:00Z", "--set", "self_test=false",
    )  # fmt: skip
    assert code == 3
    assert "cannot say:" in said


def test_lists_that_earned_nothing_cannot_say(shelf: Path) -> None:
    code, said = run(
        shelf, "--log", str(shelf / "log"), "--policy", "bundle@challenger", "--against", "bundle@champion",
        "--set", "reward={purchase = 1}", "--set", "self_test=false",
    )  # fmt: skip
    assert code == 3, said
    assert "lists earned 0, at least 1 must earn something; what is worth something is purchase" in " ".join(
        said.split()
    )
    assert "nan" not in said
    assert "nan%" not in (shelf / "out" / "report.html").read_text()


def test_what_came_after_training_can_be_judged_alone(shelf: Path) -> None:
    log = pq.read_table(shelf / "log" / "events" / "part-00000.parquet")
    middle = sorted(log[c.TIMESTAMP].to_pylist())[len(log) // 2].isoformat()
    asked = (
        "--log", str(shelf / "log"), "--policy", "bundle@challenger", "--against", "bundle@champion",
        "--set", f"trained_until={middle}", "--set", "self_test=false", "--set", "require=nothing",
    )  # fmt: skip
    code, said = run(shelf, *asked)
    assert code == 3
    told = " ".join(json.loads((shelf / "out" / "report.json").read_text())["sentence"].split())
    assert f"training ended at {middle.removesuffix('+00:00')}Z" in told
    given = told.split("--since ")[1].split(".\n")[0].rstrip(".")
    for since in (given, "training"):
        code, said = run(shelf, *asked, "--since", since)
        plain = json.loads((shelf / "out" / "report.json").read_text())
        assert code == 0, said
        assert {gate["name"]: gate["verdict"] for gate in plain["self_tests"]}["after training"] == "pass"
        assert "lists out of the time asked for" in plain["provenance"]["left out"]


def test_the_endpoints_store_is_read_as_it_is(shelf: Path, tmp_path: Path) -> None:
    """The same sessions from the live tables: lists stand in impressions, feedback in events."""
    log = pq.read_table(shelf / "log" / "events" / "part-00000.parquet").to_pylist()
    path = tmp_path / "live.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    METADATA.create_all(engine)
    engine.dispose()
    connection = sqlite3.connect(path)
    connection.execute(logged_events_ddl("sqlite"))
    lists: dict[str, list[dict[str, object]]] = {}
    for number, row in enumerate(log):
        moment = round(row[c.TIMESTAMP].timestamp() * 1e6)
        if row[c.EVENT_TYPE] == c.IMPRESSION:
            lists.setdefault(row[c.RECOMMENDATION_ID], []).append({**row, c.TIMESTAMP: moment})
            continue
        names = [name for name in row if row[name] is not None]
        values = [moment if name == c.TIMESTAMP else row[name] for name in names]
        marks = ", ".join("?" * (len(names) + 1))
        connection.execute(
            f"INSERT INTO events ({', '.join(names)}, received_at) VALUES ({marks})", (*values, number)
        )
    for shown in lists.values():
        first = shown[0]
        model, policy = str(first[c.POLICY_VERSION]).split(" ", 1)
        slate = json.dumps([[row[c.ITEM_ID], 0.0, row[c.PROPENSITY]] for row in shown])
        line = {
            **{name: first[name] for name in (c.RECOMMENDATION_ID, c.USER_ID, c.SESSION_ID, c.TIMESTAMP)},
            "model": model,
            "policy": policy,
            "served_by": "policy",
            "seed": 0,
            "support_events": 0,
            "slate": slate,
            "request": b"",
            "candidates": len(shown),
        }
        marks = ", ".join("?" * len(line))
        connection.execute(
            f"INSERT INTO impressions ({', '.join(line)}) VALUES ({marks})", tuple(line.values())
        )
    connection.commit()
    connection.close()
    run(shelf, "--log", str(shelf / "log"), "--policy", "bundle@challenger", "--against", "bundle@champion")
    from_log = json.loads((shelf / "out" / "report.json").read_text())
    code, _ = run(
        shelf, "--store", str(path), "--policy", "bundle@challenger", "--against", "bundle@champion"
    )
    from_live = json.loads((shelf / "out" / "report.json").read_text())
    assert code == 0
    for one, other in zip(from_live["differences"], from_log["differences"], strict=True):
        assert one["value"] == pytest.approx(other["value"], abs=1e-9)


def test_sessions_thresholds_and_watching_are_asked_for_by_settings(shelf: Path) -> None:
    code, said = run(
        shelf, "--log", str(shelf / "log"), "--policy", "bundle@challenger", "--against", "bundle@champion",
        "--set", "horizon=session", "--set", "estimators=all", "--set", "any_time=true", "--set", "require=nothing",
        "--set", "self_test=false",
    )  # fmt: skip
    assert code in (0, 3), said
    plain = json.loads((shelf / "out" / "report.json").read_text())
    names = {row["estimator"] for row in plain["estimates"]}
    assert {
        "weighted per-decision",
        "weighted dr",
        "marginalised",
        "clipped(30)",
        "switch(30)",
        "ips, whole",
    } <= names
    assert any(name.startswith("dros by SLOPE: ") for name in names)
    assert plain["provenance"]["value of"] == "a session"
    assert len(plain["watched"]) == 20
    assert plain["differences"][0]["low"] == plain["watched"][-1]["low"]
    assert "Had it been watched" in (shelf / "out" / "report.html").read_text()


def blocks(page: str) -> list[str]:
    """Return the Python of a page of the documentation."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_the_lines_for_notebooks_are_two_and_work(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shelf)
    imports, question = blocks("replay_evaluation.md")[0].strip().split("\n\n")
    assert len(question.splitlines()) == 1
    room: dict[str, object] = {}
    exec(imports, room)
    report = eval(question, room)
    assert report.evaluation.decision == "better"
    assert report.evaluation.sentence.split(":")[0] in report._repr_html_()
    after = {gate.name: gate.verdict for gate in report.evaluation.self_tests}
    assert after["after training"] == "pass"  # the bundle says until when it was trained
    assert report.save("page").is_file()


def test_the_function_of_ones_own_in_the_documentation_is_evaluated(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    monkeypatch.syspath_prepend(str(shelf))
    mine = blocks("replay_evaluation.md")[1]
    assert mine.startswith("# mine.py")
    (shelf / "mine.py").write_text(mine)
    code, said = run(
        shelf, "--log", str(shelf / "log"), "--policy", "mine:policy", "--against", "bundle@champion",
        "--set", "self_test=false", "--set", "require=nothing",
    )  # fmt: skip
    assert code in (0, 3), said
    assert json.loads((shelf / "out" / "report.json").read_text())["policy"] == "same again"


BAD = [
    (["--log", "nowhere"], "no log at nowhere"),
    (["--store", "nowhere.sqlite"], "no store at nowhere.sqlite"),
    (["--log", "a", "--store", "b"], "either --log"),
    (["--log", "LOG", "--policy", "bundle@nobody"], "no 'nobody' of metaq"),
    (["--log", "LOG", "--policy", "mine"], "names no policy"),
    (["--log", "LOG", "--policy", "no.such:thing"], "cannot be imported"),
    (["--log", "LOG", "--policy", "json:dumps"], "is no policy"),
    (["--log", "LOG", "--policy", "random"], "random needs another policy"),
    (["--log", "LOG", "--set", "window_hours=0"], "window_hours is '0'"),
    (
        ["--log", "LOG", "--set", "assume=hope"],
        "--set: assume is 'hope', must be 'whole', 'cascade' or 'independent'; give --set assume=…",
    ),
    (["--log", "LOG", "--set", "reward={click}"], "--set 'reward={click}': the value is not TOML"),
    (["--log", "LOG", "--set", "windw=1"], "--set: unknown key windw; --set takes: window_hours, reward"),
    (["--log", "LOG", "--set", "window_hour=1"], "unknown key window_hour; did you mean window_hours?"),
    (["--log", "LOG", "--since", "soon"], "--since is 'soon', must be a time such as"),
    (["--log", "LOG", "--since", "2100-01-01"], "out of the time asked for); begin at an earlier moment"),
    (["--log", "LOG", "--policy", "random", "--against", "json:dumps", "--since", "x"], "is no policy"),
    (["--log", "LOG", "--set", "reward={clic = 1}"], "'clic', which no event of"),
    (["--log", "LOG", "--set", "reward={clic = 1}"], "its types are click, impression: give one of these"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD)
def test_what_a_person_can_mend_is_one_line(shelf: Path, arguments: list[str], says: str) -> None:
    given = [str(shelf / "log") if text == "LOG" else text for text in arguments]
    code, said = run(shelf, *given)
    assert code == 2
    assert says in said
    assert "\n" not in said.strip()

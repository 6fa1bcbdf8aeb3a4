"""`recsys serve`: what is handed to the server, and what is found wrong before it starts."""

import os
import shlex
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import toy_config

from pipelines import cli
from pipelines.serve import Served, served_by_run
from recsys.artifacts.registry import Registry
from serving.settings import Settings

Handed = tuple[list[str], dict[str, str]]
Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RECSYS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[Handed]:
    """What the process would have become: words and environment."""
    became: list[Handed] = []
    monkeypatch.setattr(os, "execvpe", lambda file, words, environment: became.append((words, environment)))
    return became


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], handed: list[Handed]) -> Run:
    """Run `recsys serve` in this process; give exit code and stderr."""

    def run(*words: str) -> tuple[int, str]:
        free = [] if "--port" in words else ["--port", str(free_port())]
        monkeypatch.setattr(sys, "argv", ["recsys", "serve", *words, *free])
        with pytest.raises(SystemExit) as leave:
            cli.main()
        return int(leave.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture
def published(tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "weights").write_text("weights")
    registry = Registry(tmp_path / "registry")
    registry.set_alias("metaq", "champion", registry.publish(tmp_path / "bundle", "metaq"))
    return registry.root


@pytest.fixture
def own_run(tmp_path: Path, published: Path) -> Path:
    """A config of another shop whose log has been prepared; give the folder of its events."""
    (tmp_path / "own.toml").write_text('name = "own"\n[prepare.log]\npath = "log"\n')
    events = tmp_path / "runs" / "own" / "prepare" / "events"
    events.mkdir(parents=True)
    (events / "part-00000.parquet").touch()
    return events.relative_to(tmp_path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings_of(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("RECSYS_")}


def test_serve_hands_over_to_a_fresh_interpreter(
    serve: Run, handed: list[Handed], published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    store, port = str(tmp_path / "live.sqlite"), str(free_port())
    serve("--registry", str(published), "--store", store, "--port", port, "--workers", "2")
    words, environment = handed[0]
    assert words[:4] == [sys.executable, "-m", "uvicorn", "serving.app:create_app"]
    assert "--factory" in words
    assert words[words.index("--port") + 1] == port
    assert words[words.index("--workers") + 1] == "2"
    assert settings_of(environment) == {
        "RECSYS_AUTH": "off",
        "RECSYS_REGISTRY": str(published),
        "RECSYS_NAME": "metaq",
        "RECSYS_ALIAS": "champion",
        "RECSYS_STORE": store,
        "RECSYS_HOST": "127.0.0.1",
        "RECSYS_PORT": port,
    }
    assert {environment[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL")} == {"1"}


def test_a_config_brings_the_users_of_its_own_log_and_a_store_of_its_own(
    serve: Run, handed: list[Handed], own_run: Path
) -> None:
    assert serve("--config", "own.toml") == (0, "")
    settings = settings_of(handed[0][1])
    assert settings["RECSYS_HISTORY"] == str(own_run)
    assert settings["RECSYS_STORE"] == "live/own.sqlite"
    assert settings["RECSYS_REGISTRY"] == "registry"


def test_options_go_before_the_environment_and_that_before_the_config(
    serve: Run, handed: list[Handed], own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_STORE", str(tmp_path / "environment.sqlite"))
    serve("--config", "own.toml")
    assert settings_of(handed[0][1])["RECSYS_STORE"] == str(tmp_path / "environment.sqlite")
    serve("--config", "own.toml", "--store", "option.sqlite")
    assert settings_of(handed[1][1])["RECSYS_STORE"] == "option.sqlite"


def test_a_config_whose_log_is_not_here_serves_new_users_and_says_so(
    serve: Run, handed: list[Handed], own_run: Path
) -> None:
    code, err = serve("--config", "own.toml", "--set", "name=other")
    assert code == 0
    assert "every user starts as a new one" in err
    assert "RECSYS_HISTORY" not in handed[0][1]


@pytest.mark.parametrize(
    ("made_by", "says"),
    [
        ("own", "made by the run own\n"),
        ("own-improve", "made by the run own-improve\n"),
        ("smoke", "made by the run smoke, not by own; `recsys models --name metaq` lists what else"),
    ],
)
def test_a_config_says_which_run_made_what_it_serves(
    serve: Run, handed: list[Handed], own_run: Path, tmp_path: Path, made_by: str, says: str
) -> None:
    (tmp_path / "bundle" / "run.json").write_text(f'{{"name": "{made_by}"}}')
    registry = Registry(tmp_path / "registry")
    version = registry.publish(tmp_path / "bundle", "metaq")
    registry.set_alias("metaq", "champion", version)
    code, err = serve("--config", "own.toml")
    assert code == 0
    assert err.startswith(f"recsys: serves metaq {version}, ")
    assert says in err
    assert err.count("\n") == 1


def test_the_line_that_a_run_prints_serves_what_its_config_serves(
    serve: Run, handed: list[Handed], own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = served_by_run(toy_config(tmp_path).model_copy(update={"name": "own", "output": Path("runs")}))
    words = shlex.split(served.command())
    port = str(free_port())
    assert words[:2] == ["recsys", "serve"]
    serve(*words[2:], "--port", port)
    serve("--config", "own.toml", "--port", port)
    assert settings_of(handed[0][1]) == settings_of(handed[1][1])


def test_command_line_and_endpoint_agree_on_what_is_served_by_default() -> None:
    settings, served = Settings(), Served()
    for name in ("registry", "name", "alias", "store", "history"):
        assert getattr(settings, name) == getattr(served, name)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--history", "/nope"], "no events at /nope; give --history"),
        (["--history", "bundle"], "no events at bundle"),
        (["--store", "bundle/weights/x.sqlite"], "no store can be kept at bundle/weights/x.sqlite"),
        (["--store", "bundle"], "no store can be kept at bundle"),
        (["--set", "name=x"], "give --config too"),
        (["--alias", "challenger"], "no 'challenger'"),
    ],
)
def test_what_would_not_answer_does_not_start(
    serve: Run, handed: list[Handed], published: Path, words: list[str], says: str
) -> None:
    code, err = serve(*words)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert handed == []


def test_an_open_address_without_keys_is_refused_with_the_command_that_makes_one(
    serve: Run, handed: list[Handed], published: Path
) -> None:
    code, err = serve("--host", "0.0.0.0")
    assert (code, handed) == (2, [])
    assert f"make one with `{sys.executable} -m serving keys add NAME --scopes read,write`" in err


def test_a_damaged_version_does_not_start(serve: Run, handed: list[Handed], published: Path) -> None:
    file = next(published.rglob("weights"))
    file.chmod(0o644)
    file.write_text("other")
    code, err = serve()
    assert (code, handed) == (2, [])
    assert f"{file.relative_to(published.parent)} is damaged; publish the bundle again or roll back" in err


def test_serve_says_when_the_port_is_taken(serve: Run, handed: list[Handed], published: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, err = serve("--port", str(taken.getsockname()[1]))
    assert (code, handed) == (2, [])
    assert "cannot listen on 127.0.0.1:" in err
    assert err.count("\n") == 1

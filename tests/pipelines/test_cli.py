"""The command line: exit codes, one-line errors, what is handed to the server, what loads when."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from toy import STEPS, toy_config

from pipelines import cli, stages
from pipelines.steps import Step, StepContext, Summary
from recsys.artifacts.registry import Registry
from recsys.errors import UserError

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recsys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; give exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recsys", *words])
        with pytest.raises(SystemExit) as leave:
            cli.main()
        out, err = capsys.readouterr()
        code = leave.value.code
        return (code if isinstance(code, int) else 0), out, err

    return run


@pytest.fixture
def toy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the config of a toy run, and put the toy steps in place of the real ones."""
    config = toy_config(tmp_path)
    path = tmp_path / "toy.toml"
    path.write_text(
        f'name = "toy"\noutput = "{config.output}"\n[prepare.log]\npath = "{config.prepare.log.path}"\n'
    )
    monkeypatch.setattr(stages, "all_steps", lambda: STEPS)
    with (
        pytest.MonkeyPatch.context() as environment
    ):  # the command line sets thread counts for its own process
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.setenv(name, os.environ.get(name, "1"))
        yield str(path)


def failing(error: BaseException) -> tuple[Step, ...]:
    def run(context: StepContext) -> Summary:
        raise error

    return (replace(STEPS[0], run=run), STEPS[1])


def test_help_needs_neither_torch_nor_numpy() -> None:
    script = (
        "import sys; sys.argv = ['recsys', '--help']\n"
        "from pipelines import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print({'torch', 'numpy', 'pandas', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "set()"
    for command in (*stages.NAMES, "run", "serve", "recommend", "models", "promote", "rollback", "import"):
        assert f" {command} " in done.stdout


def test_a_step_runs_its_inputs_and_is_then_kept(recsys: Run, toy_file: str) -> None:
    code, _, err = recsys("pretrain", "--config", toy_file)
    assert code == 0
    assert [line.split()[:2] for line in err.splitlines()] == [
        ["prepare", "done"],
        ["pretrain", "done"],
    ]
    _, _, err = recsys("pretrain", "--config", toy_file, "--set", "threads=1")
    assert [line.split()[1] for line in err.splitlines()] == ["kept:", "kept:"]
    _, _, err = recsys("pretrain", "--config", toy_file, "--force")
    assert [line.split()[1] for line in err.splitlines()] == ["kept:", "done"]


def test_a_user_error_is_one_line_and_exit_code_2(
    recsys: Run, toy_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "all_steps", lambda: failing(UserError("row 3: no item;\nadd one [/b]")))
    code, out, err = recsys("prepare", "--config", toy_file)
    assert (code, out) == (2, "")
    assert err.splitlines() == ["recsys: row 3: no item; add one [/b]"]


def test_ctrl_c_is_one_line_and_exit_code_130(
    recsys: Run, toy_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "all_steps", lambda: failing(KeyboardInterrupt()))
    code, _, err = recsys("prepare", "--config", toy_file)
    assert code == 130
    assert err.splitlines() == ["recsys: stopped; finished steps are kept"]


def test_a_bug_keeps_its_traceback(recsys: Run, toy_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "all_steps", lambda: failing(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        recsys("prepare", "--config", toy_file)


@pytest.mark.parametrize(
    "words",
    [
        ["prepare", "--config", "smok"],
        ["prepare", "--config", "smoke", "--set", "pretrain.epochs=none"],
        ["prepare", "--config", "smoke", "--set", "prepare.log.path=/does/not/exist"],
        ["serve", "--registry", "/does/not/exist"],
        ["models", "--registry", "/does/not/exist"],
        ["promote", "../x"],
        ["rollback", "--alias", "../x"],
        ["recommend"],
        ["recommend", "--user", "1", "--items", "2"],
        ["import", "nowhere", "out", "--format", "unknown"],
    ],
)
def test_what_a_person_gets_wrong_is_one_line(
    recsys: Run, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = recsys(*words)
    assert (code, out) == (2, "")
    assert err.startswith("recsys: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["run", "--colour"], ["unknown"], ["serve", "--port", "high"], ["promote"]]
)
def test_a_mistyped_command_is_exit_code_2(recsys: Run, words: list[str]) -> None:
    assert recsys(*words)[0] == 2


def test_versions_are_listed_promoted_and_rolled_back(recsys: Run, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    registry = Registry(tmp_path / "registry")
    versions = []
    for text in ("one", "two"):
        (tmp_path / "bundle" / "weights").write_text(text)
        versions.append(registry.publish(tmp_path / "bundle", "metaq"))
    where = ["--registry", str(registry.root)]
    for version in versions:
        assert recsys("promote", version, *where)[:2] == (0, f"champion of metaq is now {version}\n")
    listed = recsys("models", *where)[1]
    assert listed.index(versions[1]) < listed.index("champion") < listed.index(versions[0])
    assert recsys("rollback", *where)[:2] == (0, f"champion of metaq is {versions[0]} again\n")
    code, _, err = recsys("rollback", *where)
    assert code == 2
    assert "never pointed elsewhere" in err


def test_a_damaged_alias_is_reported_beside_the_versions_and_can_be_promoted_over(
    recsys: Run, published: Path
) -> None:
    (published / "metaq" / "aliases" / "champion.json").write_text("{")
    version = Registry(published).versions("metaq")[0]
    code, out, err = recsys("models", "--registry", str(published))
    assert code == 0
    assert version in out
    assert "the alias champion is damaged" in err
    assert recsys("promote", version, "--registry", str(published))[0] == 0
    assert recsys("models", "--registry", str(published))[2] == ""


@pytest.fixture
def published(tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "weights").write_text("weights")
    registry = Registry(tmp_path / "registry")
    registry.set_alias("metaq", "champion", registry.publish(tmp_path / "bundle", "metaq"))
    return registry.root


def test_serve_hands_over_to_a_fresh_interpreter(
    recsys: Run, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execvpe", lambda file, words, environment: handed.append((words, environment)))
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    store = str(tmp_path / "live.sqlite")
    recsys("serve", "--registry", str(published), "--store", store, "--port", "18431", "--workers", "2")
    words, environment = handed[0]
    assert words[:4] == [sys.executable, "-m", "uvicorn", "serving.app:create_app"]
    assert "--factory" in words
    assert words[words.index("--port") + 1] == "18431"
    assert words[words.index("--workers") + 1] == "2"
    assert {name: environment[name] for name in environment if name.startswith("RECSYS_")} == {
        "RECSYS_REGISTRY": str(published),
        "RECSYS_NAME": "metaq",
        "RECSYS_ALIAS": "champion",
        "RECSYS_STORE": store,
        "RECSYS_HOST": "127.0.0.1",
        "RECSYS_PORT": "18431",
    }
    assert {environment[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL")} == {"1"}


def test_serve_says_when_the_port_is_taken(recsys: Run, published: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = recsys("serve", "--registry", str(published), "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "cannot listen on 127.0.0.1:" in err
    assert err.count("\n") == 1

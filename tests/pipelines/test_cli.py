"""The command line: exit codes, one-line errors, what is handed to the server, what loads when."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from toy import STEPS, toy_config

from pipelines import cli, stages
from pipelines.steps import Step, StepContext, Summary
from recsys.artifacts.registry import Registry
from recsys.config import LogFormat
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


def test_a_bug_keeps_its_traceback_and_has_an_exit_code_that_is_no_verdict(
    recsys: Run, toy_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "all_steps", lambda: failing(ZeroDivisionError("a bug")))
    code, _, err = recsys("prepare", "--config", toy_file)
    assert code == 70
    assert err.startswith("Traceback")
    assert err.endswith("ZeroDivisionError: a bug\n")


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
        ["recommend", "--items", " ,"],
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
    ("words", "says"),
    [
        (["run", "--colour"], "No such option: --colour; `recsys run --help` lists"),
        (["unknown"], "No such command 'unknown'; `recsys --help` lists"),
        (["serve", "--port", "high"], "'--port'"),
        (["promote"], "Missing argument 'version'; `recsys promote --help` lists"),
    ],
)
def test_a_mistyped_command_is_one_line_and_exit_code_2(recsys: Run, words: list[str], says: str) -> None:
    code, out, err = recsys(*words)
    assert (code, out) == (2, "")
    assert err.startswith("recsys: ")
    assert says in err
    assert err.count("\n") == 1


def test_import_takes_every_format_that_its_help_names(
    recsys: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    text = recsys("import", "--help")[1]
    assert all(name in text for name in get_args(LogFormat))
    rows = [
        f"ann,x,2020-01-01T10:{n % 60:02d}:00,{min(n, 198)}\n" for n in range(200)
    ]  # the last id comes twice
    (tmp_path / "clicks.csv").write_text("who,what,when,id\n" + "".join(rows))
    (tmp_path / "clicks.toml").write_text(
        'event_type = "click"\nsession_gap_minutes = 30\n[columns]\n'
        'user_id = "who"\nitem_id = "what"\ntimestamp = "when"\nevent_id = "id"\n'
    )
    where = [str(tmp_path / name) for name in ("clicks.csv", "shop")]
    mapping = str(tmp_path / "clicks.toml")
    code, _, err = recsys("import", *where, "--format", "file", "--mapping", mapping)
    assert code == 0, err
    assert "1 row put aside: duplicate event id" in err
    assert "200 rows of " in err
    made = {path.name for path in (tmp_path / "shop").iterdir()}
    assert made == {"events.parquet", "items.parquet", "users.parquet", "quarantine.csv"}


def test_help_is_printed_where_it_is_asked_for_or_nothing_else_was_said(recsys: Run) -> None:
    for words, code in ((["--help"], 0), (["serve", "--help"], 0), ([], 2)):
        left, out, err = recsys(*words)
        assert (left, err) == (code, "")
        assert "Usage: recsys" in out


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied", "/srv/runs"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "/dev/null/x"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/gone"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_line_and_exit_code_2(
    recsys: Run, toy_file: str, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    monkeypatch.setattr(stages, "all_steps", lambda: failing(error))
    code, _, err = recsys("prepare", "--config", toy_file)
    assert code == 2
    assert err.startswith(f"recsys: {error.filename or error.strerror}")
    assert err.count("\n") == 1


def test_an_output_that_is_no_folder_is_one_line(recsys: Run, toy_file: str) -> None:
    code, _, err = recsys("prepare", "--config", toy_file, "--set", "output=/dev/null/x")
    assert code == 2
    assert "/dev/null/x" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [PermissionError("a bug"), OSError(errno.EIO, "Input/output error", "/x")])
def test_other_faults_of_files_keep_their_traceback(
    recsys: Run, toy_file: str, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    monkeypatch.setattr(stages, "all_steps", lambda: failing(error))
    code, _, err = recsys("prepare", "--config", toy_file)
    assert code == 70
    assert err.startswith("Traceback")


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


def test_versions_are_listed_with_their_run_and_quality(
    recsys: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "run.json").write_text('{"name": "shop"}')
    shots = '{"0": {"ndcg": {"mean": 0.1}}, "3": {"ndcg": {"mean": 0.25}}, "10": {"ndcg": {"mean": 0.3}}}'
    (tmp_path / "bundle" / "evaluation.json").write_text(
        f'{{"cutoff": 10, "policies": {{"popularity": {{}}, "adapted": {shots}}}}}'
    )
    registry = Registry(tmp_path / "registry")
    version = registry.publish(tmp_path / "bundle", "shop")
    where = ["--registry", str(registry.root)]
    [row] = [line for line in recsys("models", "--name", "shop", *where)[1].splitlines() if version in line]
    assert " shop " in row
    assert "NDCG@10 0.250 after 3" in row
    code, _, err = recsys("models", *where)
    assert (code, "there is shop, give --name" in err) == (2, True)
    code, _, err = recsys("promote", version, *where)
    assert (code, "or give --name shop" in err) == (2, True)


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

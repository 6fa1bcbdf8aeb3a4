"""`recsys simulate`: a log that prepare reads, a report, one line for what cannot be."""

import sys

import pyarrow.parquet as pq
import pytest

from pipelines import cli
from pipelines.simulate import print_report
from recsys.logs.simulator_policies import LoggingSettings
from tests.logs.simulator_worlds import small_world


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["recsys", "simulate", *words])
    with pytest.raises(SystemExit) as leave:
        cli.main()
    out, err = capsys.readouterr()
    return leave.value.code or 0, out, err


def test_a_log_of_the_size_asked_for_is_written(tmp_path, monkeypatch, capsys):
    code, _, err = run(
        monkeypatch, capsys, "--out", str(tmp_path / "log"), "--users", "40", "--items", "60", "--seed", "3"
    )
    assert code == 0
    assert pq.read_table(tmp_path / "log" / "users.parquet").num_rows == 40
    assert pq.read_table(tmp_path / "log" / "items.parquet").num_rows == 60
    events = pq.read_table(tmp_path / "log" / "events").num_rows
    assert f"{events:,} events of 60 items" in " ".join(err.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --out FOLDER, --report, or both"),
        (("--out", "x", "--exploration", "2"), "exploration is 2.0, must lie in 0 to 1"),
        (("--out", "x", "--temperature", "0"), "temperature is 0.0, must be above 0"),
        (("--out", "x", "--items", "0"), "--items"),
        (("--out", "x", "--users", "many"), "--users"),
        (("--out", __file__), "is a file, must be a folder"),
    ],
)
def test_what_cannot_be_is_one_line(words, said, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_the_report_sets_simulated_beside_exact_returns(capsys):
    print_report(small_world(), 4000, 3, LoggingSettings())
    rows = [line.rsplit(maxsplit=6) for line in capsys.readouterr().out.splitlines()[2:8]]
    assert [row[0].split("(")[0] for row in rows] == [
        "random",
        "logging",
        "myopic",
        "optimal",
        "optimal",
        "optimal",
    ]
    for _, exact, share, simulated, half, *_ in rows:
        assert float(simulated) == pytest.approx(float(exact), abs=2 * float(half))
        assert float(share.rstrip("%")) <= 100.0

"""Logs that no shop would send: each is learnt from with finite numbers, or refused in one line with a remedy."""

import math
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from bad_logs import DAY, TOML, Row, changed, log, write_events
from safetensors.torch import load_file

from pipelines import cli
from pipelines.metatrain import table_of
from recsys.artifacts.registry import Registry
from recsys.learning.checkpoint import load_teacher
from recsys.logs.prepared import open_prepared
from recsys.mdp.windows import Windows, read_windows
from recsys.recommender import LoggedEvent, load_recommender

NAN, INF = float("nan"), float("inf")
VALUED = (
    "[prepare.reward.base]\nclick = 0.2\npurchase = 1.0\n[prepare.reward.per_log_value]\npurchase = 0.3\n"
)
Command = Callable[[str, list[Row]], tuple[int, str, Path]]


@pytest.fixture
def recsys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, Path]]:
    """Write a log and a config and run one command on them; give exit code, stderr and the run's folder."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("COLUMNS", "400")

    def run(
        command: str,
        rows: list[Row],
        *,
        split: str = "users",
        tables: str = "",
        prepare: str = "",
        bad_share: float = 0.01,
        items: pa.Table | None = None,
        words: tuple[str, ...] = (),
    ) -> tuple[int, str, Path]:
        write_events(tmp_path / "log", rows)
        if items is not None:
            pq.write_table(items, tmp_path / "log" / "items.parquet")
        config = tmp_path / "bad.toml"
        config.write_text(
            TOML.format(home=tmp_path, split=split, tables=tables, prepare=prepare, bad_share=bad_share)
        )
        monkeypatch.setattr(sys, "argv", ["recsys", command, "--config", str(config), *words])
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # of numbers that are none, before they spread
            with pytest.raises(SystemExit) as leave:
                cli.main()
        code = leave.value.code
        return (code if isinstance(code, int) else 0), capfd.readouterr().err, tmp_path / "runs" / "bad"

    return run


def assert_learnt(folder: Path) -> None:
    """Hold every number that was learnt, and Q of every item in every state of the log, to be finite."""
    weights = list(folder.rglob("*.safetensors"))
    assert weights
    for path in weights:
        for name, tensor in load_file(path).items():
            assert not tensor.is_floating_point() or torch.isfinite(tensor).all(), f"{path}: {name}"
    prepared = open_prepared(folder / "prepare")
    assert np.isfinite(prepared.reward).all()
    offsets = prepared.history_offsets
    windows = Windows(
        offsets[:-1], np.minimum(offsets[1:], offsets[:-1] + 10), np.arange(len(offsets) - 1, dtype=np.int64)
    )
    teacher = load_teacher(folder / "pretrain", 0.1).eval()
    table = table_of(teacher, None)
    with torch.no_grad():
        states = teacher.state_vectors(read_windows(prepared, windows, None))
        q_values = states.advantage @ table.vectors.T + table.bias + states.value[..., None]
    assert torch.isfinite(q_values).all()


ONE_TYPE = "[prepare.reward.base]\nclick = 1.0\n"
SHOWN = [Row(f"u{user}", "late", f"i{user % 8}", "impression", DAY * user + 9000, None) for user in range(20)]
FEATURES = pa.table(
    {
        "item_id": [f"i{item}" for item in range(8)],
        "price": [1.0, NAN, INF, -INF, None, 1e300, 0.0, 2.0],
        "nothing": pa.array([None] * 8, pa.float64()),
    }
)
LEARNABLE: dict[str, tuple[list[Row], dict[str, object]]] = {
    "some values are NaN": (changed(log(), 9, value=NAN), {"tables": VALUED, "bad_share": 0.0}),
    "every value is NaN": (changed(log(), value=NAN), {"tables": VALUED, "bad_share": 0.0}),
    "no value where rewards hang on it": (changed(log(), value=None), {"tables": VALUED}),
    "values beyond all bounds": (changed(log(), 3, value=1e308), {"tables": VALUED}),
    "one event type": (log(kinds=["click"]), {"tables": ONE_TYPE}),
    "rewards at their bounds": (log(), {"tables": "[prepare.reward.base]\nclick = -1e6\npurchase = 1e6\n"}),
    "sessions of length 1": (changed(log(), session=lambda place, _: f"s{place}"), {}),
    "histories of length 2": (log(users=20, events=2), {"split": "time"}),
    "items unseen in training": (
        changed(log(), item=lambda place, row: row.item if place < 30 else f"new {row.item}"),
        {"split": "time"},
    ),
    "one item": (log(items=1), {}),
    "two items": (log(items=2), {"split": "time"}),
    "one user": (log(users=1, events=40), {"split": "time"}),
    "one user, held out or not": (log(users=1, events=40), {}),
    "one user, one item, NaN among its values, sessions of length 1": (
        changed(
            changed(log(users=1, events=30, items=1), session=lambda place, _: f"s{place}"), 5, value=NAN
        ),
        {"tables": VALUED, "bad_share": 0.3},
    ),
    "one instant": (changed(log(), second=7), {}),
    "one instant for each user": (
        changed(log(), second=lambda _, row: row.second // DAY * DAY),
        {"split": "time"},
    ),
    "nobody is named": (changed(log(), user=None), {}),
    "features that are no numbers": (log(), {"items": FEATURES}),
    "some were only shown things": (log() + SHOWN, {"prepare": 'impressions = "actions"', "split": "time"}),
}


@pytest.mark.parametrize("name", LEARNABLE)
def test_a_strange_log_is_learnt_from_with_finite_numbers(name: str, recsys: Command) -> None:
    rows, how = LEARNABLE[name]
    code, err, folder = recsys("pretrain", rows, **how)
    assert code == 0, err
    assert_learnt(folder)


SMALL = r"0 cold test users with more than 2 events .* at least 1 is needed; .*no evaluate\.shots would do: "
NO_WINDOWS = r"there are 0 windows to learn from, .* must be 1 or more: histories need 2 events"
REFUSED: dict[str, tuple[str, list[Row], dict[str, object], str]] = {
    "every value is infinite": (
        "pretrain",
        changed(log(), value=INF),
        {"tables": VALUED},
        r"72 of 72 rows \(100\.0%\) were refused, above max_bad_share 0\.01; most often: value not finite \(72\); "
        r"see .*quarantine\.csv, then mend the log or raise max_bad_share",
    ),
    "some values are infinite": (
        "pretrain",
        changed(log(), 9, value=INF),
        {"tables": VALUED},
        r"8 of 72 rows \(11\.1%\) were refused, above max_bad_share 0\.01; .* value not finite \(8\)",
    ),
    "nothing is left after cleaning": (
        "pretrain",
        changed(log(), value=INF),
        {"tables": VALUED, "bad_share": 1.0},
        r"holds no usable event \(72 rows read\); check the path and the format",
    ),
    "no rows": ("pretrain", [], {}, r"holds no usable event \(0 rows read\); check the path and the format"),
    "every type is unknown": (
        "pretrain",
        changed(log(), kind="wave"),
        {},
        r"unknown event type \(72\); .* give that type a reward under \[prepare\.reward\.base\]",
    ),
    "every reward is 0": (
        "pretrain",
        log(),
        {"tables": "[prepare.reward.base]\nclick = 0.0\npurchase = 0.0\n"},
        r"the largest reward in the log is 0, must be above 0 .*; raise .* under \[prepare\.reward\.base\]",
    ),
    "a configured reward is NaN": (
        "pretrain",
        log(),
        {"tables": "[prepare.reward.base]\nclick = nan\npurchase = 1.0\n"},
        r"prepare\.reward\.base\.click is nan, must be a finite number; set it under \[prepare\.reward\.base\]",
    ),
    "a configured reward has no bound": (
        "pretrain",
        log(),
        {"tables": "[prepare.reward.base]\nclick = 1e30\npurchase = 1.0\n"},
        r"prepare\.reward\.base\.click is 1e\+30, must be less than or equal to 1000000",
    ),
    "impressions alone": (
        "pretrain",
        SHOWN,
        {"prepare": 'impressions = "actions"'},
        r"holds impressions only \(20\); add what users did",
    ),
    "histories of length 1": ("pretrain", log(users=40, events=1), {}, NO_WINDOWS),
    "one event": ("pretrain", log(users=1, events=1), {}, NO_WINDOWS),
    "one user, to the end": ("run", log(users=1, events=40), {}, SMALL),
    "one item, to the end": ("run", log(items=1), {}, SMALL),
    "nobody is named, to the end": ("run", changed(log(), user=None), {}, SMALL),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_log_that_cannot_be_used_is_refused_in_one_line(name: str, recsys: Command) -> None:
    command, rows, how, line = REFUSED[name]
    code, err, _ = recsys(command, rows, **how)
    assert code == 2, err
    last = err.strip().splitlines()[-1]
    assert re.search(line, last), err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["evaluate", "run"])
def test_short_histories_are_refused_before_training_with_shots_that_do(
    command: str, recsys: Callable[..., tuple[int, str, Path]]
) -> None:
    short = log(users=20, events=2)
    code, err, folder = recsys(command, short)
    assert code == 2
    assert "the longest history of one has 2 events; give --set 'evaluate.shots=[0, 1]'" in err
    assert not (folder / "pretrain").exists()
    code, err, _ = recsys("evaluate", short, words=("--set", "evaluate.shots=[0, 1]"))
    assert code == 0, err


SERVED: dict[str, tuple[list[Row], dict[str, object]]] = {
    "fewer items than a list is long": (log(users=30, items=3), {}),
    "sessions of length 1, NaN among the values": (
        changed(changed(log(users=20), session=lambda place, _: f"s{place}"), 9, value=NAN),
        {"tables": VALUED, "bad_share": 0.2},
    ),
    "items unseen in training": (
        changed(log(users=20), item=lambda place, row: row.item if place < 60 else f"new {row.item}"),
        {"split": "time"},
    ),
    "shown without response": (log(users=20) + SHOWN, {"prepare": 'impressions = "actions"'}),
}


@pytest.mark.parametrize("name", SERVED)
def test_a_strange_log_reaches_an_endpoint_that_answers(name: str, recsys: Command, tmp_path: Path) -> None:
    rows, how = SERVED[name]
    code, err, folder = recsys("run", rows, **how)
    assert code == 0, err
    assert_learnt(folder)
    recommender = load_recommender(Registry(tmp_path / "registry").resolve("metaq", "champion"))
    assert recommender.reads_impressions == ("prepare" in how)
    known = LoggedEvent(recommender.catalogue.item_ids[0], "click", None, 100.0, None)
    for events in ([], [known], [known] * 30):
        given = recommender.recommend(recommender.history(events), 10, seed=0)
        assert len(given.items) > 0
        assert np.isfinite(given.scores).all()
        assert math.isclose(given.propensities[-1], 1.0, abs_tol=1e-5) or len(given.items) == 10

"""The k-shot page end to end on a log whose answer is known: kept marks, resumption, the table's arithmetic."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.experiments.kshot import main, parsed
from pipelines.experiments.kshot_marks import MarkedUsers, by_user, load_marks, markdown, save_marks
from pipelines.experiments.other_supports import main as other_supports
from recsys.errors import UserError
from tests.pipelines.test_ranking_experiment import aisles

OVERRIDES = [
    "prepare.split.test_from=none", "evaluate.shots=[0, 2]", "model.hidden=16", "model.item_features=16",
    "memory.features=8", "memory.folds=2", "pretrain.epochs=2", "pretrain.warmup_epochs=1", "pretrain.negatives=20",
    "prepare.split.validation_share=0.2", "pretrain.new_task_share=0.3", "factors.features=8", "metatrain.epochs=1",
    "metatrain.min_task_events=2", "metatrain.negatives=20", "metatrain.other_share=0.5",
]  # fmt: skip


def test_every_policy_is_marked_once_on_the_same_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--log", "online-retail", "--data", str(aisles(tmp_path / "log")), "--seeds", "3", "--trials", "2",
        "--runs", str(tmp_path / "runs"), "--marks", str(tmp_path / "marks"),
        *(part for text in OVERRIDES for part in ("--set", text)),
    ]  # fmt: skip
    main(
        [
            *arguments,
            "--policies",
            "popularity,item_knn,adapted,no_fast_weights,memory_without_head,trained_apart",
        ]
    )
    printed = capsys.readouterr().out
    folder = tmp_path / "marks" / "online-retail"
    kept = {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert len(kept) == 6
    marks = {name.removeprefix("3-"): load_marks(folder, 3, name.removeprefix("3-")) for name in kept}
    for found in marks.values():
        assert found is not None
        assert np.array_equal(found.users, marks["popularity"].users)
        assert found.ndcg.shape == (2, len(found.users))
    # aisles are all that there is to know: who reads the two events ranks better than who does not
    assert marks["adapted"].ndcg[1].mean() > marks["no_fast_weights"].ndcg[1].mean() + 0.1
    assert np.array_equal(
        marks["adapted"].ndcg[0], marks["no_fast_weights"].ndcg[0]
    )  # nothing read, nothing adapted
    gap = marks["adapted"].ndcg[1].mean() - marks["item_knn"].ndcg[1].mean()
    row = next(line for line in printed.splitlines() if line.startswith("| adapted − item_knn"))
    assert f"{gap:+.4f} [" in row.split("|")[4]

    main([*arguments, "--policies", "popularity"])  # nothing is missing
    assert {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == kept


def test_supports_of_other_policies_are_marked_against_one_query(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other_supports(
        [
            "--log", "online-retail", "--data", str(aisles(tmp_path / "log")), "--seeds", "3", "--shots", "1",
            "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out.json"),
            *(part for text in OVERRIDES for part in ("--set", text)),
        ]
    )  # fmt: skip
    report = json.loads((tmp_path / "out.json").read_text())["seeds"]["3"]
    assert set(report) == {"logged", "random", "popular", "item_knn"}
    assert len({row["users"] for row in report.values()}) == 1
    for row in report.values():  # an aisle is known after any one event of it
        assert row["share 0.0"] > 0.3
        assert row["difference"]["mean"] == pytest.approx(row["share 0.5"] - row["share 0.0"], abs=1e-6)
    # of one event each, the first is always it: all policies ask the same
    assert len({row["share 0.0"] for row in report.values()}) == 1
    assert "| item_knn | 3 |" in capsys.readouterr().out


def test_marks_of_different_users_are_not_put_side_by_side(tmp_path: Path) -> None:
    def marks(*users: int) -> MarkedUsers:
        ones = np.ones((1, len(users)), np.float32)
        return MarkedUsers(np.array([5]), np.array(users), ones, ones)

    save_marks(tmp_path, 1, "adapted", "{}", marks(1, 2))
    save_marks(tmp_path, 1, "ease", "{}", marks(1, 3))
    with pytest.raises(UserError, match="marks other users"):
        markdown(tmp_path, [1], "adapted")
    with pytest.raises(UserError, match=r"holds no marks of seeds \[2\]"):
        markdown(tmp_path, [2], "adapted")
    assert load_marks(tmp_path, 1, "adapted", '{"seed": 2}') is None


def test_a_user_of_several_seeds_counts_once() -> None:
    values = np.array([[1.0, 3.0, 5.0], [0.0, 2.0, -2.0]])
    assert by_user(values, np.array([4, 9, 4])).tolist() == [[3.0, 3.0], [-1.0, 2.0]]


def test_an_unknown_policy_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(["--log", "ml-1m", "--marks", "x", "--policies", "oracle"])
    assert "names ['oracle']; choose among popularity" in capsys.readouterr().err

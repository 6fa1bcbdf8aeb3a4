"""The comparison end to end on a small log whose answer is known, and the configs it ships."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.configuration import resolve_config
from pipelines.experiments.contestants import Validation
from pipelines.experiments.questions import cold_questions, warm_question
from pipelines.experiments.ranking import CONFIGS, LOGS, main, parsed
from recsys.config import EvaluateConfig
from recsys.evaluation.cold_start import cold_cases
from recsys.evaluation.warm import warm_cases
from recsys.logs.prepared import Role
from tests.memory_log import Event, Told, memory_log, taken

DAY = 86_400


@pytest.mark.parametrize("name", LOGS)
def test_every_log_has_a_config_that_loads_and_says_what_it_is(name: str) -> None:
    path = CONFIGS / f"{name}.toml"
    assert resolve_config(str(path)).name == name
    for part in ("What it is", "Before it", f"--log {name}"):
        assert part in path.read_text().split("\n\n")[0]


def test_marks_of_a_perfect_policy_are_perfect() -> None:
    """A clairvoyant knows the query by the support's first item; every metric of every question is 1."""
    cold = [
        Told(
            [Event(0, 0), Event(1, 60), Event(2, 120), Event(5, 3 * DAY, 1), Event(5, 4 * DAY, 2)],
            role=Role.COLD_TEST,
        )
    ]
    warm = [Told([Event(0, 0), Event(1, 60), Event(5, 11 * DAY, 1)], train_end=2)]
    log = memory_log([*cold, *warm])

    class Clairvoyant:
        def fit(self, log: object, histories: object) -> "Clairvoyant":
            return self

        def scores(self, histories: list) -> np.ndarray:
            return np.tile(np.eye(10, dtype=np.float32)[5], (len(histories), 1))

    chance = np.random.default_rng(0)
    asked = [
        *cold_questions(log, cold_cases(log, Role.COLD_TEST, 2, 10, chance), (0, 1, 2)),
        *warm_question(log, warm_cases(log, 10, chance)),
    ]
    assert [question.name for question in asked] == ["cold@0", "cold@1", "cold@2", "warm"]
    assert asked[0].gain.tolist() == [1.0, 2.0]  # item 2 once, item 5 twice
    assert asked[3].gain.tolist() == [1.0]
    for metric, values in asked[3].marks(Clairvoyant()).items():
        assert values.tolist() == [1.0], metric
    marks = asked[1].marks(Clairvoyant())
    assert marks["mrr"].tolist() == [1.0]
    assert marks["next_session ndcg@10"].tolist() == [1.0]
    assert marks["weighted_ndcg@10"][0] > marks["ndcg@10"][0]  # what is left out earned less


def test_users_held_out_validate_on_cold_users_alone() -> None:
    told = [taken(*range(5)) for _ in range(3)]
    told += [taken(*range(5), role=Role.COLD_VALIDATION) for _ in range(25)]
    log = memory_log(told)
    validation = Validation.of(log, EvaluateConfig(shots=(0, 2)), seed=1)
    assert validation.log is log
    assert set(validation.kinds) == {"cold"}
    assert [question.name for question in validation.kinds["cold"]] == ["cold@0", "cold@2"]
    few = Validation.of(memory_log(told[:10]), EvaluateConfig(shots=(0, 2)), seed=1)
    assert few.kinds == {}


def aisles(folder: Path) -> Path:
    """Shoppers keep to one aisle of six items; new shoppers keep coming and old ones come back."""
    chance = np.random.default_rng(0)
    rows = []
    for user in range(150):
        aisle = 6 * (user % 4)
        for visit, day in enumerate((user, user + 35)):
            bought = aisle + chance.permutation(6)[:3]
            rows += [
                (f"u{user}", f"s{user}-{visit}", day * DAY + place, f"i{item}")
                for place, item in enumerate(bought)
            ]
    user, session, second, item = zip(*rows, strict=True)
    table = pa.table(
        {
            "event_id": [f"e{place}" for place in range(len(rows))],
            "user_id": user,
            "session_id": session,
            "timestamp": pa.array(np.array(second) * 1_000_000, pa.timestamp("us", tz="UTC")),
            "item_id": item,
            "event_type": ["purchase"] * len(rows),
        }
    )
    folder.mkdir()
    pq.write_table(table, folder / "events.parquet")
    return folder


def test_the_whole_comparison_finds_who_knows_the_aisles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    overrides = [
        "prepare.split.test_from=none", "evaluate.shots=[0, 2]", "evaluate.bootstrap=100", "model.hidden=16",
        "model.item_features=16", "pretrain.epochs=2", "pretrain.warmup_epochs=1", "pretrain.negatives=20",
        "prepare.split.validation_share=0.2",
    ]  # fmt: skip
    main(
        [
            "--log", "online-retail", "--data", str(aisles(tmp_path / "log")), "--seeds", "3", "--out", str(out),
            "--runs", str(tmp_path / "runs"), "--trials", "2", "--sequence-trials", "1", "--epochs", "2",
            "--policies", "popularity,item_knn,gru4rec,teacher",
            *(part for text in overrides for part in ("--set", text)),
        ]
    )  # fmt: skip
    run = json.loads(out.read_text())["seeds"]["3"]
    assert set(run["test"]) == {"warm", "cold@0", "cold@2"}
    warm = run["test"]["warm"]["means"]
    assert warm["item_knn"]["ndcg@10"]["mean"] > warm["popularity"]["ndcg@10"]["mean"] + 0.2
    assert {run["tuning"][kind]["item_knn"]["trials"] for kind in ("cold", "warm")} == {2}
    assert len(run["tuning"]["cold"]["gru4rec"]["record"]) == 1
    paired = run["test"]["cold@2"]["teacher_minus"]["item_knn"]["ndcg@10"]
    means = run["test"]["cold@2"]["means"]
    difference = means["teacher"]["ndcg@10"]["mean"] - means["item_knn"]["ndcg@10"]["mean"]
    assert paired["mean"] == pytest.approx(difference, abs=1e-6)
    assert paired["low"] <= paired["mean"] <= paired["high"]
    printed = capsys.readouterr().out
    assert "### cold@2" in printed
    assert "teacher − popularity" in printed


def test_an_unknown_policy_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(["--log", "ml-1m", "--out", "x.json", "--policies", "oracle"])
    assert "names ['oracle']; choose among popularity" in capsys.readouterr().err

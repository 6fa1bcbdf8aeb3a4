"""The table that a run ends with."""

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from toy import toy_config

from pipelines.runner import Outcome
from pipelines.summary import curl_line, interval, print_results, results_table


def metric(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


def policies() -> dict[str, Any]:
    return {
        name: {
            shot: {"ndcg": metric(base), "recall": metric(base + 0.1), "new": 3} for shot in ("0", "5", "10")
        }
        for base, name in ((0.11, "item_knn"), (0.12, "adapted"), (0.13, "ease"), (0.14, "unadapted"))
    }


def evaluation() -> dict[str, Any]:
    return {
        "policies": policies(),
        "paired": {"5": {"adapted_minus_unadapted": metric(0.02), "other": metric(0.5)}, "seed": 1},
        "slices": {"basket_completion": policies(), "next_invoice": {"adapted": {"0": {}}}},
        "users": 321,
        "split": "time, from 2011-09-01",
        "more": {},
    }


def outcomes(tmp_path: Path) -> list[Outcome]:
    made = []
    for name in ("prepare", "index", "evaluate", "publish"):
        folder = tmp_path / name
        (folder / "bundle").mkdir(parents=True)
        made.append(Outcome(name, folder, name == "prepare", 1.5, {}))
    (tmp_path / "index" / "bundle" / "student.safetensors").write_bytes(b"0" * 1_500_000)
    (tmp_path / "index" / "bundle" / "items.faiss").write_bytes(b"0" * 250_000)
    (tmp_path / "evaluate" / "evaluation.json").write_text(json.dumps(evaluation()))
    (tmp_path / "publish" / "published.json").write_text(json.dumps({"name": "metaq", "version": "v0001-ab"}))
    return made


def shown(tmp_path: Path) -> list[str]:
    text = io.StringIO()
    print_results(Console(file=text, width=200), toy_config(tmp_path), outcomes(tmp_path))
    return text.getvalue().splitlines()


def row(lines: list[str], label: str) -> list[str]:
    return next([cell.strip() for cell in line.split("│")[1:-1]] for line in lines if label in line)


def test_known_policies_come_first_and_unknown_ones_are_not_lost(tmp_path: Path) -> None:
    header = next(line for line in shown(tmp_path) if "unadapted" in line and "┃" in line)
    assert [cell.strip() for cell in header.split("┃")[1:-1]] == [
        "",
        "adapted",
        "unadapted",
        "item-knn",
        "ease",
        "adapted - unadapted",
    ]


def test_quality_sizes_and_times_are_in_one_table(tmp_path: Path) -> None:
    lines = shown(tmp_path)
    assert "321 cold users" in lines[0]
    quality = row(lines, " NDCG@10, k = 5")
    assert quality[1] == "0.1200 [0.1100, 0.1300]"
    assert quality[-1] == "+0.0200 [+0.0100, +0.0300]"
    assert row(lines, "recall@10, k = 10")[1].startswith("0.2200")
    assert row(lines, "basket completion: NDCG@10, k = 0")[3].startswith("0.1100")
    assert row(lines, "model (MB)")[1] == "1.50"
    assert row(lines, "index (MB)")[1] == "0.25"
    assert row(lines, "prepare (s)")[1:3] == ["1.5", "kept"]
    assert row(lines, "all steps (s)")[1] == "6.0"


def test_it_says_where_things_are_and_how_to_ask(tmp_path: Path) -> None:
    lines = shown(tmp_path)
    assert any("v0001-ab as champion in registry" in line for line in lines)
    assert lines[-1].endswith(curl_line())
    assert json.loads(curl_line().split("-d '")[1].rstrip("'")) == {"user": "somebody-new", "n": 5}


def test_an_empty_evaluation_is_still_a_table(tmp_path: Path) -> None:
    text = io.StringIO()
    Console(file=text).print(results_table(toy_config(tmp_path), {}, []))
    assert "all steps" in text.getvalue()


def test_intervals_show_as_much_as_there_is() -> None:
    assert interval(None) == interval({}) == ""
    assert interval({"mean": 0.5}) == "0.5000"
    assert interval(metric(-0.5), signed=True) == "-0.5000 \\[-0.5100, -0.4900]"

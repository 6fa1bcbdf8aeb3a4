"""The table that a run ends with."""

import io
import json
import re
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
        "paired": {"5": {"adapted_minus_item_knn": metric(0.02), "other": metric(0.5)}, "seed": 1},
        "slices": {"basket_completion": policies(), "next_session": {"adapted": {"0": {}}}},
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


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def row(lines: list[str], label: str, after: str = "") -> list[str]:
    """Return the first row with a label that stands below a heading."""
    begin = next(i for i, line in enumerate(lines) if after in line)
    return next(cells(line) for line in lines[begin:] if cells(line)[0] == label)


def test_known_policies_stand_in_a_fixed_order_beside_the_paired_differences(tmp_path: Path) -> None:
    header = next(line for line in shown(tmp_path) if "unadapted" in line)
    assert cells(header) == [
        "events seen",
        "adapted",
        "unadapted",
        "item-knn",
        "adapted - item-knn",
        "adapted - unadapted",
    ]


def test_quality_sizes_and_times_are_in_one_table(tmp_path: Path) -> None:
    lines = shown(tmp_path)
    assert "321 cold users" in lines[0]
    assert row(lines, "k = 5", "what follows")[1:] == [
        "0.120",
        "0.140",
        "0.110",
        "+0.020 [+0.010, +0.030]",
    ]
    assert row(lines, "k = 0", "same session")[1:] == ["0.120", "0.140", "0.110"]
    assert row(lines, "model (MB)")[1] == "1.50"
    assert row(lines, "index (MB)")[1] == "0.25"
    assert row(lines, "prepare (s)")[1:] == ["1.5", "kept"]
    assert row(lines, "all steps (s)")[1] == "6.0"


def test_the_table_fits_a_narrow_terminal_without_cutting_a_figure(tmp_path: Path) -> None:
    text = io.StringIO()
    print_results(Console(file=text, width=80), toy_config(tmp_path), outcomes(tmp_path))
    table = text.getvalue().split("run  ")[0]
    assert "…" not in table
    assert "+0.020 [+0.010, +0.030]" in table


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
    assert interval({"mean": 0.5}) == "0.500"
    assert interval(metric(-0.5), signed=True) == "-0.500 \\[-0.510, -0.490]"

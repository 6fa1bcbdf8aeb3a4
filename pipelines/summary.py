"""What `recsys run` ends with: one table, where the artifacts are, and a request to paste."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipelines.progress import say
from pipelines.runner import Outcome
from pipelines.serve import served_by_run
from recsys.artifacts.files import files_below
from recsys.config import RunConfig

POLICIES = ("adapted", "unadapted", "popularity", "item_knn")  # in this order; evaluation.json holds more
RIVALS = ("item_knn", "unadapted")  # differences are paired, user by user; the first is the harder one
HEADERS = {"popularity": "popular", "item_knn": "item-knn"}
QUESTIONS = {"basket_completion": "same session"}  # a basket or invoice, where the log has such
WIDE = 104  # characters that both differences need
MODEL_SUFFIX = ".safetensors"
INDEX_SUFFIXES = (".faiss", ".index")


def print_results(console: Console, config: RunConfig, outcomes: Sequence[Outcome]) -> None:
    """Print the results of a finished run."""
    folders = {outcome.step: outcome.folder for outcome in outcomes}
    evaluation = json.loads((folders["evaluate"] / "evaluation.json").read_text(encoding="utf-8"))
    console.print(results_table(config, evaluation, outcomes, console.width))
    published = json.loads((folders["publish"] / "published.json").read_text(encoding="utf-8"))
    run = config.output / config.name
    registry = config.publish.registry
    say(console, f"run        {run}   (curves: tensorboard --logdir {run / 'tensorboard'})")
    say(
        console,
        f"published  {published['name']} {published['version']} as {config.publish.alias} in {registry}",
    )
    say(console, "serve      " + served_by_run(config).command())
    say(console, "then       " + curl_line())


def results_table(
    config: RunConfig, evaluation: Mapping[str, Any], outcomes: Sequence[Outcome], width: int = 80
) -> Table:
    """Return quality at each k, sizes and times as one table of at most `width` characters."""
    policies: Mapping[str, Any] = evaluation.get("policies", {})
    shown = [name for name in POLICIES if name in policies]
    rivals = RIVALS if width >= WIDE else RIVALS[:1]
    users, split = evaluation.get("users", "?"), evaluation.get("split", "")
    table = Table(
        title=f"{config.name}: {users} cold users {split}, NDCG@{config.evaluate.cutoff}",
        caption="whole catalogue ranked; differences paired by user, with their intervals",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("events seen", no_wrap=True)
    for name in shown:
        table.add_column(HEADERS.get(name, name), justify="right", no_wrap=True)
    for rival in rivals:
        table.add_column(f"adapted - {rival.replace('_', '-')}", justify="right", no_wrap=True)
    _add_quality(table, "what follows", policies, shown, evaluation.get("paired", {}), rivals)
    for slice_name, by_policy in evaluation.get("slices", {}).items():
        _add_quality(
            table, QUESTIONS.get(slice_name, slice_name.replace("_", " ")), by_policy, shown, {}, rivals
        )
    for label, size in _sizes(outcomes):
        table.add_row(label, size)
    table.add_section()
    for outcome in outcomes:
        table.add_row(f"{outcome.step} (s)", f"{outcome.seconds:.1f}", "kept" if outcome.kept else "")
    table.add_row("all steps (s)", f"{sum(outcome.seconds for outcome in outcomes):.1f}")
    return table


def curl_line() -> str:
    """Return a request that works once the endpoint runs where `recsys serve` puts it."""
    return (
        "curl -s http://127.0.0.1:8000/v1/recommend -H 'content-type: application/json' "
        """-d '{"user": "somebody-new", "n": 5}'"""
    )


def _add_quality(
    table: Table,
    question: str,
    policies: Mapping[str, Any],
    shown: Sequence[str],
    paired: Mapping[str, Any],
    rivals: Sequence[str],
) -> None:
    shots = sorted({shot for name in shown for shot in policies.get(name, {})}, key=int)
    if not shots:
        return
    table.add_row(f"[bold]{question}[/bold]")
    for shot in shots:
        means = [policies.get(name, {}).get(shot, {}).get("ndcg", {}).get("mean") for name in shown]
        differences = [paired.get(shot, {}).get(f"adapted_minus_{rival}") for rival in rivals]
        table.add_row(
            f"  k = {shot}",
            *("" if mean is None else f"{mean:.3f}" for mean in means),
            *(interval(difference, signed=True) for difference in differences),
        )
    table.add_section()


def interval(value: Mapping[str, float] | None, *, signed: bool = False) -> str:
    """Return `mean [low, high]`, as much of it as there is."""
    if not value or "mean" not in value:
        return ""
    sign = "+" if signed else ""
    mean = f"{value['mean']:{sign}.3f}"
    if "low" not in value or "high" not in value:
        return mean
    # brackets would read as markup
    return f"{mean} \\[{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]"


def _sizes(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    folder = next((outcome.folder for outcome in outcomes if outcome.step == "index"), None)
    if folder is None:
        return []
    model = _bytes_below(folder, (MODEL_SUFFIX,))
    index = _bytes_below(folder, INDEX_SUFFIXES)
    return [("model (MB)", f"{model / 1e6:.2f}"), ("index (MB)", f"{index / 1e6:.2f}")]


def _bytes_below(folder: Path, suffixes: tuple[str, ...]) -> int:
    return sum((folder / path).stat().st_size for path in files_below(folder) if path.suffix in suffixes)

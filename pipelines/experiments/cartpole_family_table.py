"""The table of `cartpole_family`: means over unseen tasks and seeds, and paired differences with intervals."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recsys.errors import UserError
from recsys.evaluation.intervals import bootstrap_mean
from recsys.randomness import numpy_generator
from recsys.types import BoolArray, FloatArray

RESAMPLES, CONFIDENCE = 10_000, 0.95
Curves = dict[str, dict[int, FloatArray]]


def table(files: Sequence[Path]) -> str:
    """Return the results of some seeds as Markdown; raises UserError if they are of different splits or lengths."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    kinds = {(each["split"], each["steps"]) for each in runs}
    if len(kinds) > 1:
        raise UserError(
            f"the files hold runs of {sorted(kinds)}, must be of one split and length; run them again"
        )
    flipped = np.concatenate([[task["force"] < 0 for task in each["tasks"]] for each in runs])
    curves = _constant_where_nothing_is_learnt(_joined(runs))
    at = list(curves["adapted"])
    lines = [_row("return after so many episodes", at), "|---" * (len(at) + 1) + "|"]
    for kind, kept in (("all", flipped | ~flipped), ("flipped", flipped), ("not flipped", ~flipped)):
        for who, curve in curves.items():
            cells = [f"{curve[k][kept].mean():.0f}" if k in curve else "" for k in at]
            lines.append(_row(f"{kind}: {who}", cells))
        for who, curve in curves.items():
            if who != "adapted":
                gaps = [_gap(curves["adapted"], curve, k, kept) for k in at]
                lines.append(_row(f"{kind}: adapted − {who}", gaps))
    for each in runs:
        mine = _constant_where_nothing_is_learnt(_joined([each]))
        kept = np.ones(len(each["tasks"]), bool)
        for who in ("un-adapted", "multi-task", "fresh, same episodes", "fresh, own episodes"):
            gaps = [_gap(mine["adapted"], mine[who], k, kept) for k in at]
            lines.append(_row(f"seed {each['seed']}: adapted − {who}", gaps))
    besides = [f"seed {each['seed']}: {json.dumps(_besides(each))}" for each in runs]
    return "\n\n".join(["\n".join(lines), *besides])


def _joined(runs: Sequence[dict]) -> Curves:  # type: ignore[type-arg]
    """Return returns by contestant and episodes, tasks of all seeds one after the other."""
    names = runs[0]["returns"]
    return {
        who: {int(at): np.concatenate([each["returns"][who][at] for each in runs]) for at in names[who]}
        for who in names
    }


def _constant_where_nothing_is_learnt(curves: Curves) -> Curves:
    adapted = curves["adapted"]
    constant = {"un-adapted": adapted[0], "multi-task": curves["multi-task"][0]}
    return {
        "adapted": adapted,
        **{who: dict.fromkeys(adapted, returns) for who, returns in constant.items()},
        **{who: curve for who, curve in curves.items() if who not in ("adapted", "multi-task")},
    }


def _gap(adapted: dict[int, FloatArray], other: dict[int, FloatArray], k: int, kept: BoolArray) -> str:
    """Return adapted − other with its interval over tasks, paired."""
    if k not in other:
        return ""
    gap = (adapted[k] - other[k])[kept]
    interval = bootstrap_mean(gap, RESAMPLES, CONFIDENCE, numpy_generator(0, "family-bootstrap"))
    return f"{interval.mean:+.0f} [{interval.low:.0f}, {interval.high:.0f}]"


def _besides(run: dict) -> dict[str, object]:  # type: ignore[type-arg]
    """Return what the table leaves out: solved tasks, episodes as they were lived, time."""
    adapted = run["returns"]["adapted"]
    return {
        "share of tasks at 475 and more": {
            at: round(float(np.mean(np.array(r) >= 475)), 2) for at, r in adapted.items()
        },
        "lived": [round(float(np.mean(each)), 1) for each in run["lived"]],
        "seconds": run["seconds"],
    }


def _row(name: object, cells: Sequence[object]) -> str:
    return "| " + " | ".join([str(name), *map(str, cells)]) + " |"

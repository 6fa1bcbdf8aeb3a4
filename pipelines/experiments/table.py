"""The comparison as Markdown: one table per question, the mean over seeds in every cell."""

from typing import Any

import numpy as np


def markdown(report: dict[str, Any]) -> str:
    """Return the tables of a report of `pipelines.experiments.ranking`."""
    seeds = list(report["seeds"].values())
    first = seeds[0]
    lines = [
        f"## {report['log']}: {first['split']}, {first['items']:,} items, seeds {', '.join(report['seeds'])}"
    ]
    for question, users in first["users"].items():
        parts = [seed["test"][question] for seed in seeds]
        metrics = list(next(iter(parts[0]["means"].values())))
        lines += ["", f"### {question} ({users} users)", ""]
        lines += [_row(["policy", *metrics]), _row(["---"] * (len(metrics) + 1))]
        for policy in parts[0]["means"]:
            lines.append(
                _row([policy, *(_mean(part["means"][policy][m]["mean"] for part in parts) for m in metrics)])
            )
        for rival in parts[0]["teacher_minus"]:
            cells = [" ".join(_interval(part["teacher_minus"][rival][m]) for part in parts) for m in metrics]
            lines.append(_row([f"teacher − {rival}", *cells]))
    lines += ["", "### validation, NDCG@10", ""]
    kinds = list(first["tuning"])
    lines += [_row(["policy", *(f"{kind}, tuned" for kind in kinds), "cold, final fit"])]
    lines += [_row(["---"] * (len(kinds) + 2))]
    for policy in first["validation_cold_ndcg"]:
        tuned = [[seed["tuning"][kind].get(policy) for seed in seeds] for kind in kinds]
        chosen = [
            "" if one[0] is None else _mean(_number(t["validation_ndcg"]) for t in one) for one in tuned
        ]
        lines.append(_row([policy, *chosen, _mean(seed["validation_cold_ndcg"][policy] for seed in seeds)]))
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(values: Any) -> str:
    return f"{np.mean(list(values)):.4f}"


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _interval(found: dict[str, float]) -> str:
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"

"""The long-term experiment as Markdown: a row per policy, a column per seed."""

from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """Return the tables of a report of `pipelines.experiments.long_term`."""
    seeds = report["seeds"]
    parts = list(seeds.values())
    first = parts[0]
    networks = [name for name, part in first.items() if isinstance(part, dict) and "predicted" in part]
    lines = ["Undiscounted return of a new user ± half of the 95 % interval, by seed:", ""]
    lines += [_row(["policy", *(f"seed {seed}" for seed in seeds), "of the optimum"])]
    lines += [_row(["---"] * (len(seeds) + 2))]
    best = [part["known"]["optimal, sees the hidden state"]["return"] for part in parts]
    for name in [*first["known"], *networks]:
        found = [part["known"].get(name) or part[name] for part in parts]
        share = sum(one["return"] / top for one, top in zip(found, best, strict=True)) / len(parts)
        lines.append(_row([name, *(_with_half(one) for one in found), f"{share:.0%}"]))
    lines += ["", _row(["teacher −", *(f"seed {seed}" for seed in seeds)]), _row(["---"] * (len(seeds) + 1))]
    for name in first.get("teacher_minus", {}):
        gaps = [part["teacher_minus"][name] for part in parts]
        cells = [
            f"{gap['mean']:+.2f} [{gap['mean'] - gap['half']:.2f}, {gap['mean'] + gap['half']:.2f}]"
            for gap in gaps
        ]
        lines.append(_row([name, *cells]))
    lines += ["", _row(["", *(f"seed {seed}" for seed in seeds)]), _row(["---"] * (len(seeds) + 1))]
    if "share_of_online" in first:
        for what in ("return", "discounted"):
            shares = [f"{share:.1%}" for share in (part["share_of_online"][what] for part in parts)]
            lines.append(_row([f"teacher over online, {what}", *shares]))
    for name in networks[:2]:
        told = [part[name] for part in parts]
        cells = [f"{one['predicted']:.3f} / {one['discounted']:.3f}" for one in told]
        ratios = [f" = {one['predicted_over_discounted']:.2f}" for one in told]
        lines.append(
            _row(
                [
                    f"{name}: predicted / simulated discounted return",
                    *map("".join, zip(cells, ratios, strict=True)),
                ]
            )
        )
    lines.append(_row(["CPU s, all of one seed", *(f"{part['cpu_s']:.0f}" for part in parts)]))
    return "\n".join(lines)


def _with_half(found: dict[str, float]) -> str:
    return f"{found['return']:.2f}" + (f" ± {found['half']:.2f}" if "half" in found else "")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

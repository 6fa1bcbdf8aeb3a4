"""Which encoder of the teacher a log takes: both by what validation users say of each step, no test user asked.

    python -m pipelines.experiments.encoders --log online-retail --seeds 7,8,9 --out encoders.json

For every seed both encoders go through `pretrain`, `metatrain` and `distill` with all else as the log's config has it.
NDCG@10 over the full catalogue, mean over numbers of support events: of the teacher, of the adapted teacher and of the
student, which is what is served. Seconds are those of `pretrain`. The file grows by one training at a time; with the
same --out a stopped run goes on.
"""

import argparse
import json
from collections.abc import Sequence
from statistics import mean
from typing import Any

from rich.console import Console

from pipelines.experiments.command import opened_report, run_command
from pipelines.experiments.ranking import run_parser, with_new_tasks
from pipelines.runner import run_steps
from pipelines.stages import all_steps

ENCODERS = ("recurrent", "attention")
STEPS = ("pretrain", "metatrain", "distill")
HEADER = "| encoder | seeds | teacher | adapted teacher | student | seconds of pretrain |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing in the file, then print the table."""
    parser = run_parser(__doc__)
    parser.add_argument("--steps", type=lambda text: text.split(","), default=list(STEPS))
    asked = parser.parse_args(arguments)
    if unknown := set(asked.steps) - set(STEPS):
        parser.error(f"--steps names {', '.join(sorted(unknown))}; choose among {', '.join(STEPS)}")
    console = Console(stderr=True)
    report = opened_report(asked.out, asked.log, asked.set, "encoders")
    for seed in asked.seeds:
        for encoder in ENCODERS:
            done = report["encoders"].setdefault(encoder, {})
            known = done.get(str(seed), {})
            if set(asked.steps) <= set(known):
                continue
            done[str(seed)] = known | qualities(asked, encoder, seed, console)
            asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(markdown(report))


def qualities(asked: argparse.Namespace, encoder: str, seed: int, console: Console) -> dict[str, float]:
    """Return what each step validates at with one encoder, and the seconds of `pretrain`."""
    name = f"encoders-{asked.log}-{seed}-{encoder}"
    config = with_new_tasks(asked, name, seed, [f"model.encoder={encoder}"])
    outcomes = {o.step: o for o in run_steps(config, all_steps(), tuple(asked.steps), console)}
    validated = {step: float(outcomes[step].summary["validation_ndcg"]) for step in asked.steps}
    return validated | {"seconds": round(outcomes["pretrain"].seconds, 1)}


def markdown(report: dict[str, Any]) -> str:
    """Return means over seeds, and by how much attention validates better, seed by seed."""
    lines = [HEADER, "|" + "---|" * 6]
    by_encoder = report["encoders"]
    for encoder, seeds in by_encoder.items():
        figures = [
            f"{mean(found[name] for found in seeds.values()):{form}}" if _all_have(seeds, name) else ""
            for name, form in (*((step, ".4f") for step in STEPS), ("seconds", ".0f"))
        ]
        lines.append(f"| {encoder} | {', '.join(seeds)} | {' | '.join(figures)} |")
    recurrent, attention = (by_encoder.get(encoder, {}) for encoder in ENCODERS)
    both = [seed for seed in recurrent if seed in attention]
    gaps = [
        ", ".join(f"{attention[seed][step] - recurrent[seed][step]:+.4f}" for seed in both)
        if _all_have(recurrent, step) and _all_have(attention, step)
        else ""
        for step in STEPS
    ]
    lines.append(f"| attention − recurrent | {', '.join(both)} | {' | '.join(gaps)} | |")
    return "\n".join(lines)


def _all_have(seeds: dict[str, dict[str, float]], name: str) -> bool:
    return bool(seeds) and all(name in found for found in seeds.values())


if __name__ == "__main__":
    run_command(main)

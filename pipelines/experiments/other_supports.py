"""Does a prior that has seen supports of other policies adapt better where another policy had been serving?

    python -m pipelines.experiments.other_supports --log online-retail --seeds 7,8,9 --set memory.features=0
        --set metatrain.initial_scale=1.0 --out FILE

One teacher a seed and two outer loops over it: on supports as logged, and with half of them resampled for random,
popular and item-kNN policies (recsys/mdp/support_policies.py). Test users' supports of `--shots` events are then drawn
for each policy from the same first events, with one and the same query: what follows those. Figures are NDCG@10 after
adaptation, before it, and the paired difference of the two priors.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from rich.console import Console

from pipelines.experiments.command import run_command
from pipelines.experiments.inner_loops import trained
from pipelines.experiments.ranking import run_parser, with_new_tasks
from pipelines.metatrain import table_of
from pipelines.outer_loop import OuterLoop
from pipelines.runner import run_steps, settle_chance
from pipelines.stages import all_steps
from recsys.adaptation import InnerLoop
from recsys.config import RunConfig
from recsys.evaluation.cold_start import ColdCases, cold_cases
from recsys.evaluation.curve import kshot_curve
from recsys.evaluation.intervals import bootstrap_mean
from recsys.learning.factors import ItemStatistics
from recsys.logs.prepared import PreparedLog, Role, open_prepared
from recsys.mdp.state import History
from recsys.mdp.support_policies import POOL, OtherPolicies, kept_events
from recsys.randomness import numpy_generator
from recsys.types import FloatArray

LOGGED = "logged"
SHARES = (0.0, 0.5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare both priors for every seed, print the table, keep the figures."""
    parser = run_parser(__doc__)
    parser.add_argument("--shots", type=int, default=5)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    console, runs = Console(stderr=True), {}
    for seed in asked.seeds:
        config = with_new_tasks(asked, f"supports-{asked.log}-{seed}", seed)
        runs[str(seed)] = compare(config, asked.shots, console)
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps({"set": asked.set, "seeds": runs}, indent=1) + "\n", encoding="utf-8")
    print(markdown(runs))


def compare(config: RunConfig, shots: int, console: Console) -> dict[str, dict[str, object]]:
    """Return NDCG of every prior by the policy that the test users' supports come from."""
    outcomes = {done.step: done.folder for done in run_steps(config, all_steps(), ("pretrain",), console)}
    log = open_prepared(outcomes["prepare"])
    settle_chance(config, "other-supports")
    settings = config.evaluate

    def users(role: Role, events: int) -> ColdCases:
        return cold_cases(log, role, events, settings.max_users, numpy_generator(config.seed, "supports"))

    validation, test = users(Role.COLD_VALIDATION, max(settings.shots)), users(Role.COLD_TEST, POOL * shots)
    statistics = ItemStatistics.load(outcomes["pretrain"] / "statistics.npz")
    names = config.metatrain.other_policies
    others = OtherPolicies(1.0, names, statistics.popularity, statistics.factors)
    asked = {
        name: supports_of(log, test, shots, place, others, numpy_generator(config.seed, f"supports-{name}"))
        for place, name in ((-1, LOGGED), *enumerate(names))
    }
    marks: dict[float, dict[str, FloatArray]] = {}
    before: dict[str, FloatArray] = {}
    for share in SHARES:
        meta = config.metatrain.model_copy(update={"other_share": share})
        outer = OuterLoop.begin(log, outcomes["pretrain"], config.model_copy(update={"metatrain": meta}))
        before = before or {name: ndcg_of(outer, None, cases, shots) for name, cases in asked.items()}
        _, chosen = trained(outer, validation, validation)
        console.print(f"[{config.name}] share {share}: {chosen}", highlight=False, markup=False)
        marks[share] = {
            name: ndcg_of(outer, outer.learner.loop, cases, shots) for name, cases in asked.items()
        }
    report: dict[str, dict[str, object]] = {}
    for name in asked:
        gap = marks[SHARES[1]][name] - marks[SHARES[0]][name]
        chance = numpy_generator(config.seed, f"bootstrap-{name}")
        report[name] = {
            "users": len(test),
            "not adapted": float(before[name].mean()),
            **{f"share {share}": float(marks[share][name].mean()) for share in SHARES},
            "difference": asdict(bootstrap_mean(gap, settings.bootstrap, settings.confidence, chance)),
        }
    return report


def supports_of(
    log: PreparedLog,
    cases: ColdCases,
    shots: int,
    place: int,
    others: OtherPolicies,
    generator: np.random.Generator,
) -> ColdCases:
    """Return the users with what the policy at that place of `others` would have logged of their first events."""
    start = log.history_offsets[cases.history]
    available = np.array([len(history) for history in cases.first]) + 1  # the pool may hold them all
    count = np.full(len(start), shots)
    kept = kept_events(log.item, start, available, count, np.full(len(start), place), others, generator)
    rows = (kept.reshape(len(start), shots) - start[:, None]).tolist()
    return replace(cases, first=tuple(map(_kept, cases.first, rows)))


def _kept(history: History, rows: list[int]) -> History:
    return History(
        history.item[rows],
        history.event_type[rows],
        history.reward[rows],
        history.timestamp[rows],
        history.session[rows],
        history.attributes,
    )


def ndcg_of(outer: OuterLoop, loop: InnerLoop | None, cases: ColdCases, shots: int) -> FloatArray:
    """Return NDCG@10 of every user, adapted by a loop or, without one, by the network alone."""
    learner, config = outer.learner, outer.config
    found = kshot_curve(
        learner.network,
        table_of(learner.network, learner.head),
        loop,
        cases,
        (shots,),
        config.evaluate.cutoff,
        config.pretrain.discount,
    )
    return found.adapted[0]


def markdown(runs: dict[str, dict[str, dict[str, object]]]) -> str:
    """Return one row a policy and seed."""
    head = ["support from", "seed", "not adapted", *(f"share {share}" for share in SHARES), "difference"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in next(iter(runs.values())):
        for seed, report in runs.items():
            row = report[name]
            gap: dict[str, float] = row["difference"]  # type: ignore[assignment]
            cells = [f"{row[column]:.4f}" for column in head[2:-1]]
            text = f"{gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
            lines.append(f"| {name} | {seed} | {' | '.join(cells)} | {text} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)

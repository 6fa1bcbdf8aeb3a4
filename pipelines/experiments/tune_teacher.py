"""Settings of the teacher for one log, by Optuna on validation users: the budget that sequence models have.

    python -m pipelines.experiments.tune_teacher --log ml-100k --data FOLDER --trials 8 --out settings.json

Every trial is a whole `pretrain` step; its mark is the step's own validation NDCG@10 (cold users, mean over numbers of
support events). Prints the best settings as overrides, ready for a config. Test users are not read.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from pipelines.configuration import resolve_config
from pipelines.experiments.ranking import CONFIGS, LOGS
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from recsys.randomness import derive_seed

SPACE: dict[str, list[Any]] = {
    "pretrain.half_life_days": ["none", 30.0, 60.0, 120.0, 240.0],
    "pretrain.hindsight": [0.5, 0.8, 1.0],
    "pretrain.history_power": [0.0, 0.3, 0.6],
    "pretrain.learning_rate": [1e-3, 2e-3, 4e-3],
    "memory.features": [128, 256, 512],
    "memory.item_power": [0.4, 0.5, 0.6],
    "memory.smoothing": [0.0, 3.0, 10.0],
    "memory.start_scale": [0.5, 1.0, 4.0],
    "model.dropout": [0.2, 0.4],
    "model.hidden": [32, 96],
    "model.encoder": ["recurrent", "attention"],
}
TIMELESS = ("pretrain.half_life_days",)  # settings that mean nothing where a log has no times


def main() -> None:
    """Search, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", choices=LOGS, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    asked = parser.parse_args()
    console = Console(stderr=True)
    space = {name: values for name, values in SPACE.items() if asked.log != "ml-1m" or name not in TIMELESS}
    record: list[dict[str, Any]] = []

    def quality(trial: optuna.Trial) -> float:
        chosen = {name: trial.suggest_categorical(name, values) for name, values in space.items()}
        data = [f"prepare.log.path={asked.data}"] if asked.data else []
        config = resolve_config(
            str(CONFIGS / f"{asked.log}.toml"),
            [
                *asked.set,
                *overrides(chosen),
                *data,
                f"seed={asked.seed}",
                f"name=tune-{asked.log}",
                f"output={asked.runs}",
            ],
        )
        outcome = run_steps(config, all_steps(), ("prepare", "pretrain"), console)[-1]
        found = float(str(outcome.summary["validation_ndcg"]))
        record.append({"settings": chosen, "validation_ndcg": found, "epoch": outcome.summary["best_epoch"]})
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps({"log": asked.log, "record": record}, indent=1) + "\n")
        return found

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=derive_seed(asked.seed, "tune-teacher") % 2**32, n_startup_trials=6
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial({name: START[name] for name in space})
    study.optimize(quality, n_trials=asked.trials)
    print(f"{study.best_value:.4f} after {len(record)} trials:", " ".join(overrides(study.best_params)))


START: dict[str, Any] = {
    "pretrain.half_life_days": "none",
    "pretrain.hindsight": 0.5,
    "pretrain.history_power": 0.0,
    "pretrain.learning_rate": 2e-3,
    "memory.features": 512,
    "memory.item_power": 0.6,
    "memory.smoothing": 3.0,
    "memory.start_scale": 4.0,
    "model.dropout": 0.2,
    "model.hidden": 96,
    "model.encoder": "recurrent",
}  # the shipped settings: the first trial


def overrides(settings: dict[str, Any]) -> list[str]:
    """Return settings as `section.key=value`; what is none keeps its default."""
    return [f"{name}={value}" for name, value in settings.items() if value != "none"]


if __name__ == "__main__":
    main()

"""Settings of the teacher for one log, by Optuna on validation users: the budget that sequence models have.

    python -m pipelines.experiments.tune_teacher --log ml-100k --data FOLDER --trials 8 --seeds 7,8 --out settings.json

Every trial is a whole `pretrain` step of each seed, whose validation users differ; its mark is the mean of the steps'
own validation NDCG@10 (cold users, mean over numbers of support events). Trial 0 is the log's config as it is. Prints
the best settings as overrides, ready for a config. Test users are not read.
"""

import json
from typing import Any

import optuna
from rich.console import Console

from pipelines.configuration import resolve_config
from pipelines.experiments.command import run_command
from pipelines.experiments.ranking import CONFIGS, run_parser
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from recsys.randomness import derive_seed

NONE = "none"  # what a setting that may be absent is called where it is
SPACE: dict[str, list[Any]] = {
    "pretrain.half_life_days": [NONE, 30.0, 60.0, 120.0, 240.0],
    "pretrain.hindsight": [0.5, 0.8, 1.0],
    "pretrain.history_power": [0.0, 0.3, 0.6],
    "pretrain.learning_rate": [5e-4, 1e-3, 2e-3, 4e-3],
    "memory.features": [128, 256, 512],
    "memory.item_power": [0.4, 0.5, 0.6],
    "memory.smoothing": [0.0, 3.0, 10.0],
    "memory.start_scale": [0.5, 1.0, 4.0],
    "memory.doubt": [0.0, 1.0],
    "memory.scalar_rate": [1.0, 10.0],
    "model.dropout": [0.2, 0.4],
    "model.hidden": [32, 96],
    "model.encoder": ["recurrent", "attention"],
}
TIMELESS = ("pretrain.half_life_days",)  # settings that mean nothing where a log has no times
RANDOM_TRIALS = 6  # before TPE draws


def main() -> None:
    """Search, print, write."""
    parser = run_parser(__doc__)
    parser.add_argument("--trials", type=int, default=8)
    asked = parser.parse_args()
    console = Console(stderr=True)
    data = [f"prepare.log.path={asked.data}"] if asked.data else []
    given = [*asked.set, *data, f"output={asked.runs}"]
    path = str(CONFIGS / f"{asked.log}.toml")
    as_it_is = resolve_config(path, given).model_dump()
    space, start = {}, {}
    for name, values in SPACE.items():
        if asked.log == "ml-1m" and name in TIMELESS:
            continue
        section, key = name.split(".")
        now = as_it_is[section][key]
        start[name] = NONE if now is None else now
        space[name] = values if start[name] in values else [*values, start[name]]
    record: list[dict[str, Any]] = []

    def quality(trial: optuna.Trial) -> float:
        chosen = {name: trial.suggest_categorical(name, values) for name, values in space.items()}
        by_seed = {}
        for seed in asked.seeds:
            own = [f"seed={seed}", f"name=tune-{asked.log}-{seed}"]
            config = resolve_config(path, [*given, *overrides(chosen), *own])
            summary = run_steps(config, all_steps(), ("prepare", "pretrain"), console)[-1].summary
            by_seed[seed] = {"validation_ndcg": summary["validation_ndcg"], "epoch": summary["best_epoch"]}
        found = sum(float(str(one["validation_ndcg"])) for one in by_seed.values()) / len(by_seed)
        record.append({"settings": chosen, "validation_ndcg": found, "seeds": by_seed})
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps({"log": asked.log, "record": record}, indent=1) + "\n")
        return found

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=derive_seed(asked.seeds[0], "tune-teacher") % 2**32, n_startup_trials=RANDOM_TRIALS
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(start)
    study.optimize(quality, n_trials=asked.trials)
    print(f"{study.best_value:.4f} after {len(record)} trials:", " ".join(overrides(study.best_params)))


def overrides(settings: dict[str, Any]) -> list[str]:
    """Return settings as `section.key=value`."""
    return [f"{name}={value}" for name, value in settings.items()]


if __name__ == "__main__":
    run_command(main)

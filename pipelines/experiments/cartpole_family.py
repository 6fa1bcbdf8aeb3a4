"""Does a meta-trained Q adapt to CartPoles that it has not seen? A check of the core outside recommending.

    python -m pipelines.experiments.cartpole_family --seed 1 --out one.json
    python -m pipelines.experiments.cartpole_family --table one.json two.json three.json

Meta-training plays training tasks (cartpole_tasks.py) and learns a Q with fast weights (cartpole_meta.py). Then every
network is frozen but the fresh ones'. An unseen task is lived through for ten episodes, each by the policy adapted to
the first transitions of the episodes before it, with some exploration; after so many of them the greedy policy is
measured on starts that are the same for every contestant:

- adapted: the meta network and what `AdaptationPrior.adapt` makes of the episodes;
- un-adapted: the same network without support;
- another task's: the same network, adapted to the episodes of a task with the other sign;
- multi-task: one DQN trained on the training tasks with as many steps, updates and transitions, and no fast weights;
- fresh: a DQN from scratch, on the very same episodes or on as many of its own.

For scale, `--long-tasks 4` lets a DQN of its own play each of the first unseen tasks for `--long-steps` steps instead.
`--split validation` draws other tasks, on which all settings were chosen.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from pipelines.experiments.cartpole import ours, run, store_episode
from pipelines.experiments.cartpole_family_table import table
from pipelines.experiments.cartpole_lives import (
    Adapted,
    MultiTaskLearner,
    PlainAgent,
    adapt_to_family,
    greedy_returns,
    learn_family,
    one_episode,
)
from pipelines.experiments.cartpole_meta import MetaLearner, MetaSettings
from pipelines.experiments.cartpole_presets import (
    FAMILY,
    FAMILY_GIVEN,
    FAMILY_GIVEN_UPDATES,
    FAMILY_OWN,
    FAMILY_OWN_UPDATES,
    PRESETS,
    Preset,
)
from pipelines.experiments.cartpole_tasks import Task, draw_tasks, refuse_seen, single_environment
from pipelines.experiments.command import run_command
from recsys.randomness import derive_seed, numpy_generator
from recsys.types import FloatArray

TRAINING_TASKS, UNSEEN_TASKS, STARTS = 32, 40, 10
AT = (0, 1, 2, 3, 5, 10)  # episodes of adaptation


def unseen_tasks(split: str, seed: int) -> list[Task]:
    """Return the tasks to adapt to."""
    return draw_tasks(UNSEEN_TASKS, numpy_generator(seed, f"family-{split}-tasks"))


def fresh_returns(
    tasks: Sequence[Task], adapted: Adapted | None, preset: Preset, updates: int, seed: int
) -> dict[int, FloatArray]:
    """Return what a DQN per task reaches after so many episodes, `updates` steps for each; (task,).

    The episodes are those of another agent, or its own if there is none.
    """
    returns = {at: np.zeros(len(tasks)) for at in AT}
    nothing = torch.zeros((1, 0))
    for place, task in enumerate(tasks):
        own = derive_seed(seed, f"fresh-{place}")
        update, network, store = ours(preset, 0, own)
        agent = PlainAgent(network)
        chance = numpy_generator(own, "fresh-exploration")
        for lived in range(max(AT) + 1):
            if lived in returns:
                returns[lived][place] = greedy_returns(agent, [task], nothing, STARTS, seed)[0]
            if lived == max(AT):
                break
            if adapted is None:
                episode = one_episode(agent, task, derive_seed(own, f"episode-{lived}") % 2**31, chance)
            else:
                episode = adapted.episodes[place][lived]
            store_episode(
                store, list(episode.states), list(episode.actions), episode.rewards, episode.ended, preset
            )
            for _ in range(updates):
                update()
    return returns


def compare(
    split: str,
    steps: int,
    seed: int,
    preset: Preset,
    settings: MetaSettings,
) -> dict[str, object]:
    """Train on training tasks, adapt to unseen ones; return the returns of every contestant by task."""
    training = draw_tasks(TRAINING_TASKS, numpy_generator(seed, "family-training-tasks"))
    unseen = unseen_tasks(split, seed)
    refuse_seen(unseen, training)
    updates = max(1, (steps - preset.first_update) // preset.steps_per_update)
    seconds: dict[str, float] = {}
    clock = time.process_time()
    meta = MetaLearner(preset, settings, updates, seed)
    learn_family(meta, training, steps, seed)
    seconds["meta-training"], clock = time.process_time() - clock, time.process_time()
    multi = MultiTaskLearner(preset, settings.tasks, updates, seed)
    learn_family(multi, training, steps, seed)
    seconds["multi-task training"], clock = time.process_time() - clock, time.process_time()
    adapted = adapt_to_family(meta, unseen, preset, seed, AT, STARTS)
    others = adapted.fast.roll(1, dims=0)  # signs alternate
    none = torch.zeros((len(unseen), 0))
    returns = {
        "adapted": adapted.returns,
        "another task's": {AT[-1]: greedy_returns(meta, unseen, others, STARTS, seed)},
        "multi-task": {0: greedy_returns(multi, unseen, none, STARTS, seed)},
    }
    seconds["adapting"], clock = time.process_time() - clock, time.process_time()
    returns["fresh, same episodes"] = fresh_returns(unseen, adapted, FAMILY_GIVEN, FAMILY_GIVEN_UPDATES, seed)
    returns["fresh, own episodes"] = fresh_returns(unseen, None, FAMILY_OWN, FAMILY_OWN_UPDATES, seed)
    seconds["fresh"] = time.process_time() - clock
    return {
        "seed": seed,
        "split": split,
        "steps": steps,
        "tasks": [asdict(task) for task in unseen],
        "returns": {
            who: {str(at): list(each) for at, each in curve.items()} for who, curve in returns.items()
        },
        "lived": adapted.lived.tolist(),
        "seconds": {what: round(took, 1) for what, took in seconds.items()},
    }


def play_long(split: str, seed: int, tasks: int, steps: int) -> list[dict[str, object]]:
    """Return what a DQN of its own reaches in each of the first unseen tasks, in so many steps of play."""
    played = []
    for task in unseen_tasks(split, seed)[:tasks]:
        result = run("ours", PRESETS["quick"], steps, seed, single_environment(task))
        played.append({**asdict(task), **asdict(result)})
    return played


def main() -> None:
    """Run one seed and write its result, or print the table of several."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--steps", type=int, default=30_000, help="of each training task")
    parser.add_argument("--long-tasks", type=int, default=0, help="play so many unseen tasks with a DQN each")
    parser.add_argument("--long-steps", type=int, default=30_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, nargs="+", help="results to print instead of a run")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.table:
        print(table(asked.table))
        return
    if asked.long_tasks:
        print(json.dumps(play_long(asked.split, asked.seed, asked.long_tasks, asked.long_steps)))
        return
    result = compare(asked.split, asked.steps, asked.seed, FAMILY, MetaSettings())
    text = json.dumps(result)
    if asked.out is None:
        print(text)
    else:
        asked.out.write_text(text + "\n", encoding="utf-8")
        print(table([asked.out]))


if __name__ == "__main__":
    run_command(main)

"""Pretraining data-parallel on Ray Train: its workers are the group of pipelines/together.py, DDP over gloo underneath.

When a node dies, Ray Train begins all workers again on the nodes that are left, and they go on after the last finished
epoch, which lies beside the run (`unfinished`), as `out` does: on a file system that every node sees.
"""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from pipelines import pretrain
from pipelines.runner import settle_chance
from pipelines.steps import StepContext, Summary
from pipelines.together import Share, follow
from recsys.errors import UserError
from recsys.learning.parallel import Group

MOST_FAILURES = 5  # of the group, before the step fails
SAID = ".said.json"  # what the leading worker leaves for the command


def train_on_ray(context: StepContext, workers: int) -> Summary:
    """Run the step on the cluster that is connected; raises UserError if it is refused or fails too often."""
    share = Share.of(context)
    with tempfile.TemporaryDirectory(prefix="recsys-train-") as scratch:
        trainer = TorchTrainer(
            _work,
            train_loop_config=share.__dict__,
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(
                storage_path=scratch, failure_config=FailureConfig(max_failures=MOST_FAILURES)
            ),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise UserError(
                f"{workers} workers failed more than {MOST_FAILURES} times ({str(error).splitlines()[0]}); see "
                "Ray's logs, then run the step again: it goes on after the last finished epoch"
            ) from None
    said: dict[str, Any] = json.loads((context.out / SAID).read_text(encoding="utf-8"))
    (context.out / SAID).unlink()
    for text in said["log"]:
        context.log(text)
    if said["refused"] is not None:
        raise UserError(said["refused"])
    summary: Summary = said["summary"]
    return summary


def _work(plain: dict[str, Any]) -> None:
    share, place = Share(**plain), ray.train.get_context()
    group = Group(place.get_world_rank(), place.get_world_size())
    said: dict[str, Any] = {"summary": None, "refused": None, "log": []}
    try:
        said["summary"] = _lead(share, group, said["log"]) if group.leads else follow(share, group)
    except UserError as error:  # told by value: Ray would begin again what is refused again
        said["refused"] = str(error)
    if group.leads:
        (Path(share.out) / SAID).write_text(json.dumps(said), encoding="utf-8")


def _lead(share: Share, group: Group, log: list[str]) -> Summary:
    out = Path(share.out)
    for left in out.iterdir():  # of a group that died while it wrote
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    context = replace(share.context(out), log=log.append)
    settle_chance(context.config, "pretrain")
    return pretrain.run(context, group)

"""Pretraining by several processes together: one leads and writes, the others follow (recsys/learning/parallel.py).

    torchrun --nproc-per-node 2 -m pipelines.together --config default

Over several machines torchrun needs --nnodes and --rdzv-endpoint, and `output` on a file system that all of them see.
Ray Train begins the same processes (pipelines/on_ray/training.py). A process that dies ends the others; the next start
goes on after the last epoch that was finished.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import distributed

from pipelines import pretrain
from pipelines.configuration import resolve_config
from pipelines.runner import run_steps, settle_chance
from pipelines.stages import all_steps
from pipelines.steps import Settings, Step, StepContext, Summary
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.learning.parallel import Group


@dataclass(frozen=True)
class Share:
    """What every process of a group is told, as plain values."""

    config: str  # JSON
    prepared: str  # folder of the `prepare` step
    unfinished: str | None
    out: str

    @staticmethod
    def of(context: StepContext) -> "Share":
        """Return what a step's context says, places as absolute paths."""
        unfinished = None if context.unfinished is None else str(context.unfinished.resolve())
        return Share(
            context.config.model_dump_json(),
            str(context.inputs["prepare"].resolve()),
            unfinished,
            str(context.out.resolve()),
        )

    def context(self, out: Path) -> StepContext:
        """Return the context of a process that is not the command's own."""
        return StepContext(
            RunConfig.model_validate_json(self.config),
            out,
            {"prepare": Path(self.prepared)},
            unfinished=None if self.unfinished is None else Path(self.unfinished),
        )


def follow(share: Share, group: Group) -> Summary:
    """Train beside the leading process; nothing is written."""
    with tempfile.TemporaryDirectory() as nowhere:
        context = share.context(Path(nowhere))
        settle_chance(context.config, "pretrain")
        return pretrain.run(context, group)


def with_workers(step: Step, run: Callable[[StepContext], Summary], workers: int) -> Step:
    """Return a step run by so many processes; their number is a setting, because it changes the sums of floats."""

    def settings(config: RunConfig) -> Settings:
        return {**step.settings(config), "workers": workers}

    return replace(step, run=run, settings=settings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Bring `pretrain` up to date with the processes that torchrun began."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", "-c", default="default")
    parser.add_argument("--set", "-s", action="append", default=[], metavar="section.key=value")
    asked = parser.parse_args(arguments)
    distributed.init_process_group("gloo")
    group = Group(distributed.get_rank(), distributed.get_world_size())
    try:
        if group.leads:
            _lead(resolve_config(asked.config, asked.set), group)
        elif (share := _hear()) is not None:
            follow(share, group)
    except UserError as error:
        if group.leads:
            print(f"recsys: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        distributed.destroy_process_group()


def _lead(config: RunConfig, group: Group) -> None:
    told = False

    def run(context: StepContext) -> Summary:
        nonlocal told
        told = True
        _tell(Share.of(context))
        return pretrain.run(context, group)

    steps = [with_workers(s, run, group.size) if s.name == "pretrain" else s for s in all_steps()]
    try:
        run_steps(config, steps, ("pretrain",), Console(stderr=True))
    finally:
        if not told:  # it was up to date, or refused before it began
            _tell(None)


def _tell(share: Share | None) -> None:
    text = json.dumps(None if share is None else share.__dict__).encode()
    distributed.broadcast(torch.tensor([len(text)]), 0)
    distributed.broadcast(torch.frombuffer(bytearray(text), dtype=torch.uint8), 0)


def _hear() -> Share | None:
    length = torch.zeros(1, dtype=torch.int64)
    distributed.broadcast(length, 0)
    text = torch.zeros(int(length), dtype=torch.uint8)
    distributed.broadcast(text, 0)
    plain = json.loads(bytes(text.numpy()))
    return None if plain is None else Share(**plain)


if __name__ == "__main__":
    main()

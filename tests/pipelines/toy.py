"""Two small steps with the shape of real ones; as a script, the command line over them, not the real ones.

With TOY_GATE set, `pretrain` makes that file when half of its artifact is written, and waits to be killed.
"""

import os
import time
from pathlib import Path

import numpy as np

from pipelines.steps import Step, StepContext, Summary
from recsys.config import LogConfig, PrepareConfig, RunConfig
from recsys.randomness import numpy_generator


def toy_config(folder: Path, **changes: object) -> RunConfig:
    """Return a config whose log is folder/log.csv and whose runs are below folder/runs."""
    log = folder / "log.csv"
    if not log.exists():
        log.write_text("a,b\n1,2\n")
    prepare = PrepareConfig(log=LogConfig(format="file", path=log))
    return RunConfig(name="toy", output=folder / "runs", prepare=prepare, threads=1).model_copy(
        update=changes
    )


def prepare(context: StepContext) -> Summary:
    """Write a folder inside the artifact, as event parts are."""
    text = context.config.prepare.log.path.read_text()
    (context.out / "parts").mkdir()
    (context.out / "parts" / "0.txt").write_text(text.upper())
    return {"length": len(text)}


def pretrain(context: StepContext) -> Summary:
    """Write weights in two halves."""
    text = (context.inputs["prepare"] / "parts" / "0.txt").read_bytes()
    weights = numpy_generator(context.seed, "toy").random(1000) + len(text) + context.config.pretrain.epochs
    context.progress.start(2, "halves", "writing")
    with (context.out / "weights.bin").open("wb") as file:
        file.write(weights[:500].tobytes())
        file.flush()
        context.progress.advance(1, loss=0.5)
        if gate := os.environ.get("TOY_GATE"):
            Path(gate).touch()
            time.sleep(60)
        file.write(weights[500:].tobytes())
    return {"mean": float(np.mean(weights))}


STEPS = (
    Step(name="prepare", run=prepare, sources=lambda config: (config.prepare.log.path,)),
    Step(
        name="pretrain",
        run=pretrain,
        inputs=("prepare",),
        settings=lambda config: {"pretrain": config.pretrain},
    ),
)


if __name__ == "__main__":
    from pipelines import cli, stages

    stages.all_steps = lambda: STEPS
    cli.main()

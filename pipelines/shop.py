"""A simulated shop: a world, a log of its past, a bundle that adapts and a baseline, published side by side."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console

from pipelines.baseline import PACKAGE, step_of
from pipelines.configuration import resolve_config
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from recsys.artifacts.registry import Registry
from recsys.logs.simulator import World, WorldSettings, make_world
from recsys.logs.simulator_files import write_log
from recsys.logs.simulator_policies import LoggingSettings

# tastes that a segment hardly tells, in a catalogue small enough that a log of some thousand lists has overlap
SHOP: Final = replace(
    WorldSettings(),
    items=60,
    types=12,
    topics=6,
    segment_fidelity=0.4,
    other_taste=(0.1, 0.3),
    personal_appeal=0.3,
)


@dataclass(frozen=True)
class Shop:
    """What a simulated shop has."""

    world: World
    registry: Path
    popular: str  # version of the baseline, which is the champion
    adapted: str  # version of the bundle that adapts, alias challenger

    def bundle(self, version: str) -> Path:
        """Return the folder of a version or alias."""
        return Registry(self.registry).resolve("metaq", version)


def open_shop(folder: Path, users: int = 2_500, seed: int = 7, overrides: tuple[str, ...] = ()) -> Shop:
    """Return the shop in a folder, trained on the lives of so many simulated users; what is up to date is kept.

    `overrides` are those of the command line, such as "pretrain.epochs=3".
    """
    world = make_world(SHOP, seed)
    log = folder / "log"
    write_log(world, LoggingSettings(), users, seed, log)
    config = resolve_config(
        "smoke",
        [
            "name=shop", f"seed={seed}", f"output={folder / 'runs'}", f"prepare.log.path={log}",
            "prepare.split.test_from=none", "prepare.split.test_share=0.1",
            f"publish.registry={folder / 'registry'}", "publish.name=metaq", "publish.alias=challenger",
            "evaluate.shots=[0, 1, 3, 5]", "evaluate.max_users=100", "evaluate.bootstrap=200",
            "metatrain.max_support=20", "baseline.kind=popularity", "pretrain.target=sarsa", "pretrain.epochs=4",
            "pretrain.batch_size=32", "model.hidden=32",
            *overrides,
        ],
    )  # fmt: skip
    quiet = Console(quiet=True)
    names = [step.name for step in all_steps()]
    run_steps(config, all_steps(), names, quiet)
    step = step_of(config.baseline.kind)
    outcome = run_steps(config, [*all_steps(), step], [step.name], quiet)[-1]
    registry = Registry(config.publish.registry)
    popular = registry.publish(outcome.folder / PACKAGE, config.publish.name)
    registry.set_alias(config.publish.name, "champion", popular)
    adapted = registry.aliases(config.publish.name)["challenger"]
    return Shop(world, config.publish.registry, popular, adapted)

"""Publish: the evaluated bundle becomes an immutable version of the registry, and an alias moves to it."""

import json
import shutil
from pathlib import Path
from typing import Any

from pipelines.manifest import read_manifest
from pipelines.steps import Step, StepContext, Summary
from pipelines.transferring import PARENT
from recsys.artifacts.card import write_card
from recsys.artifacts.files import files_below
from recsys.artifacts.health_gate import health_checks, hold_to_bounds
from recsys.artifacts.registry import Registry
from recsys.artifacts.training_state import NEEDED, keep_training
from recsys.artifacts.version_facts import run_name
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.logs.prepared import open_prepared

BUNDLE = "bundle"  # folder of the index step that evaluate has measured and that is served
EVALUATION = "evaluation.json"
AGREEMENT = "agreement.json"  # of distill: how alike student and teacher rank
HEALTH = "health.json"  # of pretrain: is the Q-function that everything inherits from sound?
PUBLISHED = "published.json"
CONTINUITY = "continuity.json"  # what live users would notice


def run(context: StepContext) -> Summary:
    """Pack bundle, evaluation, lineage and card; publish them; leave published.json and the card in `out`.

    Raises UserError before anything is published if the Q-function is not sound.
    """
    config = context.config.publish
    health = health_checks(
        json.loads((context.inputs["pretrain"] / HEALTH).read_text(encoding="utf-8")), config
    )
    hold_to_bounds(health)
    for check in health:
        if check.value is None:
            context.log(
                f"the {check.name} of the Q-function is unknown: no held-out history that earned anything"
            )
    evaluation = json.loads((context.inputs["evaluate"] / EVALUATION).read_text(encoding="utf-8"))

    package = context.out / "package"
    shutil.copytree(context.inputs["index"] / BUNDLE, package)
    shutil.copy(context.inputs["evaluate"] / EVALUATION, package / EVALUATION)
    lineage = {
        name: {"fingerprint": manifest.fingerprint, "digest": manifest.digest}
        for name, folder in sorted(context.inputs.items())
        if (manifest := read_manifest(folder)) is not None
    }
    (package / "lineage.json").write_text(
        json.dumps(lineage, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    # what is the run's own or another model's, and not this one's, stays out: the same model is the same version
    settings = context.config.model_dump_json(
        indent=2, exclude={"output", "threads", "publish", "baseline", "improve"}
    )
    (package / "run.json").write_text(settings + "\n", encoding="utf-8")
    origins = [
        context.inputs[name] / PARENT for name in ("prepare", "pretrain")
    ]  # of fine-tuning, of transfer
    parent = next((told for path in origins if (told := _told(path)) is not None), None)
    continuity = _told(context.inputs["continuity"] / CONTINUITY) if "continuity" in context.inputs else None
    if parent is not None:
        (package / PARENT).write_text(json.dumps(parent, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    info = open_prepared(context.inputs["prepare"]).info
    card = package / "card.md"
    alike = _told(context.inputs["distill"] / AGREEMENT) if "distill" in context.inputs else None
    write_card(
        card, config.name, context.config, info, evaluation, health, lineage, parent, continuity, alike
    )

    size = sum((package / path).stat().st_size for path in files_below(package))
    registry = Registry(config.registry)
    version = registry.publish(package, config.name)
    training = {name: context.inputs[name] for name in NEEDED if name in context.inputs}
    if config.keep_training and len(training) == len(NEEDED):
        keep_training(config.registry, config.name, version, training)
    if config.alias:
        before = registry.aliases(config.name).get(config.alias)
        registry.set_alias(config.name, config.alias, version)
        known = before in registry.versions(config.name)
        made_by = run_name(registry.resolve(config.name, before)) if before and known else ""
        if made_by not in ("", context.config.name):
            context.log(
                f"{config.alias} of {config.name} was {before}, made by the run {made_by}; `recsys rollback --name "
                f"{config.name} --alias {config.alias}` takes it back, --set publish.name=… keeps them apart"
            )
    called = f"is now {config.alias}" if config.alias else "is published"
    context.log(f"{config.name} {version} {called} in {config.registry}")

    shutil.copy(package / "card.md", context.out / "card.md")
    shutil.rmtree(package)
    record = {"name": config.name, "version": version}
    (context.out / PUBLISHED).write_text(json.dumps(record, sort_keys=True) + "\n", encoding="utf-8")
    return {"version": version, "alias": config.alias, "bundle_bytes": size}


def _told(path: Path) -> dict[str, Any] | None:
    """Return what a file says that only some runs have."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def still_holds(config: RunConfig, folder: Path) -> bool:
    """Say whether the registry still has the version; where the alias points is then for people to decide."""
    try:
        record = json.loads((folder / PUBLISHED).read_text(encoding="utf-8"))
        Registry(config.publish.registry).resolve(record["name"], record["version"])
    except (OSError, ValueError, KeyError, UserError):
        return False
    return True


STEP = Step(
    name="publish",
    run=run,
    inputs=("prepare", "pretrain", "metatrain", "distill", "index", "evaluate"),
    settings=lambda config: {"publish": config.publish},
    still_holds=still_holds,
)

"""Baseline: a bundle whose lists are ranked by a fitted baseline, measured as it is served, for the registry."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console

from pipelines.cases import test_cases, validation_cases
from pipelines.evaluate import intervals, quality, split_text
from pipelines.index import served_state
from pipelines.manifest import read_manifest
from pipelines.progress import say
from pipelines.publish import EVALUATION
from pipelines.runner import Outcome, run_steps
from pipelines.serve import served_version
from pipelines.stages import all_steps
from pipelines.steps import Step, StepContext, Summary
from recsys.artifacts.bundle import load_bundle, read_catalogue, save_policy_bundle
from recsys.artifacts.bundle_info import PolicyInfo
from recsys.artifacts.card import write_baseline_card
from recsys.artifacts.files import files_below
from recsys.artifacts.registry import Registry
from recsys.config import ExplorationConfig, RunConfig
from recsys.evaluation.served import served_lists
from recsys.logs.prepared import PreparedLog, open_prepared
from recsys.policies.choice import chosen_policy, popularity_of
from recsys.policies.options import options_of
from recsys.policies.spaces import cold_bench
from recsys.recommender import Recommender

PACKAGE = "package"  # folder of the step that goes into the registry
# what a baseline depends on: the same baseline is the same version, whatever else the config says
SETTINGS = {"name", "seed", "prepare", "state", "evaluate", "baseline"}


def run(context: StepContext) -> Summary:
    """Fit the baseline on all that may train, pack it with card, evaluation and lineage into `package`."""
    config, kind = context.config, context.config.baseline.kind
    prepared = context.inputs["prepare"]
    log = open_prepared(prepared)
    validation = validation_cases(context, log)
    bench = cold_bench(log, validation, config.evaluate.shots, config.evaluate.cutoff, context.seed)
    tuned = chosen_policy(bench, kind, config.baseline.options, config.baseline.trials)

    catalogue = read_catalogue(prepared / "items.parquet")
    info = PolicyInfo(
        state=served_state(config.state, log.info),
        event_types=log.info.event_types,
        attributes=log.info.user_attributes,
        attribute_values=log.info.user_attribute_values,
        reward=config.prepare.reward,
        exploration=drawn(config),
        impressions=log.info.impressions_are,
        candidates=config.index.candidates,
    )
    package = context.out / PACKAGE
    save_policy_bundle(package, info, tuned.policy, popularity_of(bench, tuned.policy).popularity_, catalogue)

    evaluation = {
        "baselines": {kind: tuned.report()},
        "trained_until": log.info.trained_until,
        **evaluated(context, log, package),
    }
    manifest = read_manifest(prepared)
    lineage = (
        {}
        if manifest is None
        else {"prepare": {"fingerprint": manifest.fingerprint, "digest": manifest.digest}}
    )
    write_json(package / EVALUATION, evaluation)
    write_json(package / "lineage.json", lineage)
    settings = config.model_dump_json(indent=2, include=SETTINGS)
    (package / "run.json").write_text(settings + "\n", encoding="utf-8")
    write_baseline_card(
        package / "card.md",
        config.publish.name,
        kind,
        tuned.report(),
        drawn(config),
        log.info,
        evaluation,
        lineage,
    )
    size = sum((package / path).stat().st_size for path in files_below(package))
    found = tuned.report()["validation_ndcg"]
    return {
        "validation_ndcg": "unknown" if found is None else found,
        "validation_users": len(validation),
        "trials": tuned.trials,
        "bundle_bytes": size,
    }


def evaluated(context: StepContext, log: PreparedLog, package: Path) -> dict[str, object]:
    """Return what `evaluate` says of the served object on cold test users; nothing without any."""
    settings, kind = context.config.evaluate, context.config.baseline.kind
    cases = test_cases(context, log)
    if not len(cases):
        return {}
    recommender = Recommender(load_bundle(package))
    context.progress.start(len(cases) * len(settings.shots), "list", "cold test users")
    per_user = {
        k: quality(
            served_lists(
                recommender, cases, k, settings.cutoff, adapt=True, on_case=context.progress.advance
            ),
            cases.query,
        )
        for k in settings.shots
    }
    return {
        "users": len(cases),
        "split": split_text(log),
        "cutoff": settings.cutoff,
        "policies": {kind: intervals(context, per_user)},
    }


def _options_line(config: RunConfig, made: Outcome) -> str:
    """Return what was chosen, and by what."""
    evaluation = json.loads((made.folder / PACKAGE / EVALUATION).read_text(encoding="utf-8"))
    settings = evaluation["baselines"][config.baseline.kind]["settings"]
    options = ", ".join(f"{name}={value}" for name, value in _flat(settings))
    tried, found, users = (
        made.summary.get(name, "?") for name in ("trials", "validation_ndcg", "validation_users")
    )
    chosen = f"the best of {tried} tried" if tried else "as given"
    return f"{options}; {chosen}, NDCG@{config.evaluate.cutoff} {found} on {users} validation users"


def _flat(settings: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", f"{value:.4g}" if isinstance(value, float) else value


def write_json(path: Path, content: object) -> None:
    """Write plain values so that equal ones are equal files."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def drawn(config: RunConfig) -> ExplorationConfig:
    """Return how lists are drawn: as those of Q, but for the temperature, which is in units of a baseline's spread."""
    return config.exploration.model_copy(update={"temperature": config.baseline.temperature})


def step_of(kind: str) -> Step:
    """Return the step of a kind: each has a folder of its own, so that one does not replace another."""
    return Step(
        name=f"baseline-{kind}",
        run=run,
        inputs=("prepare",),
        settings=lambda config: {
            "baseline": config.baseline,
            "state": config.state,
            "evaluate": config.evaluate,
            "exploration": drawn(config),
            "candidates": config.index.candidates,
            "name": config.publish.name,
            "threads": config.threads
            if kind == "sequence"
            else 0,  # sums of floats, so its weights, hang on them
        },
    )


def make(config: RunConfig, console: Console, *, promote: bool, force: bool) -> None:
    """Bring the baseline up to date and publish it as a version; the alias moves only to promote it.

    Raises UserError, one line, if an option is refused.
    """
    options_of(config.baseline.kind, config.baseline.options)  # before a log is read for nothing
    step = step_of(config.baseline.kind)
    steps = [*all_steps(), step]
    outcomes = run_steps(config, steps, [step.name], console, force=[step.name] if force else ())
    publish = config.publish
    registry = Registry(publish.registry)
    version = registry.publish(outcomes[-1].folder / PACKAGE, publish.name)
    said = Console()
    say(said, f"published  {publish.name} {version}, {config.baseline.kind}, in {publish.registry}")
    say(said, "options    " + _options_line(config, outcomes[-1]))
    if promote:
        registry.set_alias(publish.name, publish.alias, version)
        say(said, f"{publish.alias} of {publish.name} is now {version}")
    else:
        standing = registry.aliases(publish.name).get(publish.alias, "still nothing")
        say(said, f"{publish.alias} of {publish.name} is {standing}; --promote moves it")
        where = f"--registry {shlex.quote(str(publish.registry))} --name {shlex.quote(publish.name)}"
        say(said, f"challenge  recsys promote {version} --alias challenger {where}")
    say(said, "serve      " + served_version(config, version).command())

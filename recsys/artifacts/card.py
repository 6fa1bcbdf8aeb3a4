"""The model card: what a version is, what it was trained on and how well it does, in one Markdown page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys.artifacts.card_limits import card_limits
from recsys.artifacts.health_gate import HealthCheck
from recsys.config import ExplorationConfig, RunConfig
from recsys.logs.prepared import PreparedInfo


def write_card(
    path: Path,
    name: str,
    config: RunConfig,
    info: PreparedInfo,
    evaluation: Mapping[str, Any],
    health: Sequence[HealthCheck],
    lineage: Mapping[str, Mapping[str, str]],
    parent: Mapping[str, Any] | None = None,  # what it was trained on from: parent.json
    continuity: Mapping[str, Any] | None = None,  # what live users would notice, beside the parent
    distillation: Mapping[str, Any] | None = None,  # how alike student and teacher rank: agreement.json
) -> None:
    """Write the card of a version; no dates but those of the data, so equal models have equal cards."""
    sections = [
        f"# {name}",
        "A recommender that ranks by a distilled Q-network and adapts it, at request time, to each user "
        "from that user's events.",
        _data(info, parent),
        _quality(evaluation),
        _adaptation(evaluation),
        *([] if distillation is None else [_distillation(distillation)]),
        _health(health),
        *([] if continuity is None else [_continuity(continuity)]),
        card_limits(info, evaluation, health),
        _training(config),
        _lineage(lineage, parent),
    ]
    _write(path, sections)


def write_baseline_card(
    path: Path,
    name: str,
    kind: str,
    tuning: Mapping[str, Any],
    exploration: ExplorationConfig,
    info: PreparedInfo,
    evaluation: Mapping[str, Any],
    lineage: Mapping[str, Mapping[str, str]],
) -> None:
    """Write the card of a version whose lists are ranked by a baseline; `tuning` is a `Tuned.report`."""
    sections = [
        f"# {name}: {kind}",
        f"A baseline, {kind}, that scores the whole catalogue from the user's events at request time. Nothing is "
        "adapted and there is no Q-function.",
        _data(info),
        _quality(evaluation),
        _baseline(tuning, exploration),
        card_limits(info, evaluation, ()),
        _lineage(lineage),
    ]
    _write(path, sections)


def _write(path: Path, sections: Sequence[str]) -> None:
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _data(info: PreparedInfo, parent: Mapping[str, Any] | None = None) -> str:
    cut = f"cut at {info.test_from}" if info.test_from else "users held out by hash"
    rows = [
        ("source", info.source),
        ("first event", info.first_event),
        ("last event", info.last_event),
        ("split", cut),
        ("events", f"{info.events:,}"),
        ("items", f"{info.items:,}"),
        ("users", f"{info.users:,}"),
        ("sessions", f"{info.sessions:,}"),
        ("rows put aside", f"{sum(info.quarantined.values()):,}"),
    ]
    if parent is not None:
        told = ("new_since", "parent_log", "matched_items", "content_explains")
        rows += [(name.replace("_", " "), str(parent[name])) for name in told if name in parent]
        counts = ("new_events", "new_items", "new_users")
        rows += [(name.replace("_", " "), f"{parent[name]:,}") for name in counts if name in parent]
    return "## Data\n\n" + _table(("", "value"), rows)


def _quality(evaluation: Mapping[str, Any]) -> str:
    policies: Mapping[str, Any] = evaluation.get("policies", {})
    shots = sorted({shot for by_shot in policies.values() for shot in by_shot}, key=int)
    if not shots:
        return f"## Quality\n\nNot evaluated: {evaluation.get('why', 'nobody was asked about')}."
    rows = [
        (policy, *(_interval(by_shot.get(shot, {}).get("ndcg")) for shot in shots))
        for policy, by_shot in policies.items()
    ]
    users, split = evaluation.get("users", "?"), evaluation.get("split", "?")
    return (
        f"## Quality\n\nNDCG over the full catalogue, {users} cold users, split {split}; columns: events the "
        "user had given; brackets: interval over users.\n\n"
        + _table(("policy", *(f"k = {shot}" for shot in shots)), rows)
    )


def _interval(metric: Mapping[str, float] | None) -> str:
    if not metric or "mean" not in metric:
        return "–"
    if "low" not in metric or "high" not in metric:
        return f"{metric['mean']:.4f}"
    return f"{metric['mean']:.4f} [{metric['low']:.4f}, {metric['high']:.4f}]"


def _adaptation(evaluation: Mapping[str, Any]) -> str:
    """Return what events of a new user are worth: differences paired by user, against each rival."""
    paired: Mapping[str, Any] = evaluation.get("paired", {})
    shots = sorted(paired, key=int)
    rivals = list(dict.fromkeys(name for shot in shots for name in paired[shot]))
    if not rivals:
        return "## Adaptation curve\n\nNot measured."
    rows = [
        (name.removeprefix("adapted_minus_"), *(_signed(paired[shot].get(name)) for shot in shots))
        for name in rivals
    ]
    return (
        "## Adaptation curve\n\nNDCG of the adapted list less that of each rival, paired by user; columns: events the "
        "user had given; brackets: interval over users.\n\n"
        + _table(("adapted less", *(f"k = {shot}" for shot in shots)), rows)
    )


def _signed(metric: Mapping[str, float] | None) -> str:
    if not metric or "mean" not in metric:
        return "–"
    return f"{metric['mean']:+.4f} [{metric['low']:+.4f}, {metric['high']:+.4f}]"


def _distillation(told: Mapping[str, Any]) -> str:
    shots: Mapping[str, Mapping[str, float]] = told["shots"]
    teachers, ours, theirs = told["teachers"], told["student_parameters"], told["teacher_parameters"]
    size = f"{ours:,} parameters for the {theirs:,} of {'its teacher' if teachers == 1 else f'{teachers} teachers'}"
    if not shots:
        return f"## Distillation\n\nThe student has {size}. Nobody was there to compare their lists for."
    names = {
        "teacher_ndcg": "NDCG of the teacher",
        "student_ndcg": "NDCG of the student",
        "of_teacher": "the one over the other",
        "overlap": "share of the teacher's list in the student's",
        "rank_correlation": "rank correlation over the teacher's best 200",
    }
    rows = [(said, *(f"{by_shot[name]:.4f}" for by_shot in shots.values())) for name, said in names.items()]
    return (
        f"## Distillation\n\nThe student has {size}, item tables apart. Lists of {told['cutoff']} for {told['users']} "
        "validation users, both adapted; columns: events the user had given.\n\n"
        + _table(("", *(f"k = {shot}" for shot in shots)), rows)
    )


def _continuity(told: Mapping[str, Any]) -> str:
    names = {
        "overlap": "share of a known user's list that stays",
        "least_overlap": "the same, of the tenth of users with the least",
        "same_first": "users whose first item stays",
        "q_move": "mean move of Q, over its spread within a list",
        "largest_vector_move": "largest move of a known item's vector, over the mean length",
        "largest_feature_move": "the same of its adaptation features",
    }
    rows = [(said, "–" if told.get(name) is None else f"{told[name]:.3g}") for name, said in names.items()]
    return (
        "## Continuity\n\nBeside the version it was trained on from: greedy lists of "
        f"{told.get('users', 0)} known users with the history they had, {told.get('items', 0):,} known items.\n\n"
        + _table(("figure", "value"), rows)
    )


def _health(checks: Sequence[HealthCheck]) -> str:
    rows = [
        (check.name, "unknown" if check.value is None else f"{check.value:.3f}", f"{check.bound:g}")
        for check in checks
    ]
    return (
        "## Health of the Q-function\n\nThe teacher's, on histories it did not learn from; unknown where there were "
        "none, or where they earned nothing.\n\n" + _table(("figure", "value", "at most"), rows)
    )


def _training(config: RunConfig) -> str:
    parts = ("state", "model", "pretrain", "metatrain", "distill", "index", "exploration")
    settings = config.model_dump(mode="json")
    rows = [(f"{part}.{key}", str(value)) for part in parts for key, value in settings[part].items()]
    return f"## Settings\n\nSeed {config.seed}.\n\n" + _table(("setting", "value"), rows)


def _baseline(tuning: Mapping[str, Any], exploration: ExplorationConfig) -> str:
    rows = []
    for key, value in tuning["settings"].items():
        if isinstance(value, Mapping):
            rows += [(f"{key}.{below}", str(setting)) for below, setting in value.items()]
        else:
            rows.append((key, str(value)))
    found, trials = tuning["validation_ndcg"], tuning["trials"]
    unit = "in units of what lies between their first and their tenth score"
    drawn = {
        "greedy": "The best items are shown in order.",
        "plackett_luce": f"Lists are drawn at a temperature of {exploration.temperature:g}, {unit}.",
    }.get(exploration.kind, f"A share of {exploration.epsilon:g} of the positions is drawn at random.")
    chosen = f"The best of {trials} settings" if trials else "Options as given"
    measured = "no validation users" if found is None else f"NDCG {found:.4f} on validation users"
    return f"## Baseline\n\n{chosen}; {measured}. {drawn}\n\n" + _table(("option", "value"), rows)


def _lineage(lineage: Mapping[str, Mapping[str, str]], parent: Mapping[str, Any] | None = None) -> str:
    rows = [(step, record["fingerprint"], record["digest"][:16]) for step, record in lineage.items()]
    if parent is not None:
        rows += [(f"parent's {step}", "", digest[:16]) for step, digest in parent["digests"].items()]
    origin = (
        "Trained from nothing."
        if parent is None
        else f"{parent['how']} {parent['parent']}, which had been trained until {parent['parent_trained_until']}."
    )
    return f"## Lineage\n\n{origin}\n\n" + _table(("step", "fingerprint", "content"), rows)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

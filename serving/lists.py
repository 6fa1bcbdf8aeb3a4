"""How a list is answered: read the user, choose the model, rank within the time left, log, encode."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from recsys.candidates.filters import ItemFilter
from recsys.randomness import derive_seed
from recsys.recommender import LoggedEvent, Recommender
from recsys.types import ExternalId
from serving.dependencies import Service
from serving.engine import Ask, Served, answer
from serving.event_log import Impression, impression_of
from serving.explained import explained
from serving.fleet import Snapshot
from serving.identifiers import new_id
from serving.missing import unknown_of, unmet
from serving.problems import Problem, StoreUnavailable

NO_STORE = "store_away"


@dataclass(frozen=True)
class Wanted:
    """A request for a list, whichever route it came by."""

    n: int
    user: str | None = None
    session: str | None = None
    scenario: str | None = None
    context: Mapping[str, str] | None = None
    filter: ItemFilter | None = None
    exclude: Sequence[ExternalId] = ()
    exclude_seen: bool = True
    explain: bool = False
    variant: str | None = None
    deadline_ms: int | None = None
    attributes: dict[str, str] | None = None
    among: tuple[ExternalId, ...] | None = None
    events: Sequence[LoggedEvent] | None = None  # that came along, and are not stored
    notes: dict[str, Any] = field(default_factory=dict)


async def serve(service: Service, wanted: Wanted, began: float) -> bytes:
    """Return the encoded answer; raises Problem."""
    settings, metrics, tracer = service.settings, service.metrics, service.tracer
    _check_bounds(service, wanted)
    service.ready()
    unit = wanted.user or wanted.session
    snapshot, recommender, experiment, variant = service.fleet.assign(unit, wanted.scenario, wanted.variant)
    until = began + (wanted.deadline_ms or settings.deadline_ms) / 1e3
    recommendation_id = new_id()
    asked_at_us = time.time_ns() // 1_000
    with tracer.span("read"):
        events, attributes, failed = await _known_of(service, recommender, wanted, until)
    read = time.perf_counter()
    if wanted.context:
        attributes = {
            **attributes,
            **{k: v for k, v in wanted.context.items() if k in recommender.attributes},
        }
    with tracer.span("rank", model=recommender.version):
        served = answer(
            recommender,
            Ask(
                user=wanted.user or "",
                session=wanted.session,
                n=wanted.n,
                seed=derive_seed(settings.seed, recommendation_id)
                >> 10,  # 53 bits: exact in every JSON reader
                events=events,
                attributes=attributes,
                exclude=wanted.exclude,
                exclude_seen=wanted.exclude_seen,
                wanted=wanted.filter,
                among=wanted.among,
                exploration=None if variant is None else variant.exploration,
                revision=recommender.catalogue.revision,
            ),
            seconds_left=until - read,
            costs=service.costs,
            fallback=failed,
        )
    ranked = time.perf_counter()
    notes = dict(wanted.notes)
    if wanted.context:
        notes["context"] = dict(wanted.context)
    line = impression_of(
        recommendation_id,
        asked_at_us,
        recommender,
        served,
        scenario=wanted.scenario,
        variant=None if experiment is None else experiment.label(variant),
        events_kept=wanted.events is None,
        notes=notes,
    )
    reasons = _reasons(recommender, served) if wanted.explain else None
    unknown = unknown_of(recommender.catalogue, wanted.among, wanted.events)
    note = None if line.item_ids else unmet(recommender, wanted.filter)
    with tracer.span("log"):
        await _log(service, snapshot, line)
    done = time.perf_counter()
    metrics.duration["read"].observe(read - began)
    metrics.duration["rank"].observe(ranked - read)
    metrics.duration["log"].observe(done - ranked)
    metrics.duration["total"].observe(done - began)
    metrics.served[line.served_by].inc()
    if line.served_by == "adapted":
        metrics.adaptations.inc()
        metrics.adaptation.observe(ranked - read)
    if not events:
        metrics.cold.inc()
    if line.variant is not None:
        metrics.variants.labels(line.variant).inc()
    if served.fallback is not None:
        metrics.fallbacks.labels(served.fallback).inc()
    return _encoded(
        recommender, line, served, (done - began) * 1e3, reasons, {"unknown": unknown, "note": note}
    )


async def _known_of(
    service: Service, recommender: Recommender, wanted: Wanted, until: float
) -> tuple[Sequence[LoggedEvent], dict[str, str], str | None]:
    """Return events, attributes, and why they are not all that is known."""
    if wanted.events is not None or wanted.user is None:
        return wanted.events or (), wanted.attributes or {}, None
    store, settings = service.store, service.settings
    try:
        reading = store.newest(
            wanted.user, settings.history_events, impressions=recommender.reads_impressions
        )
        if settings.database is None:  # read in passing: there is nothing to wait for
            events = await reading
            attributes = wanted.attributes
            if attributes is None:
                attributes = await store.attributes(wanted.user)
        else:
            async with asyncio.timeout(max(0.0, until - time.perf_counter())):
                events = await reading
                attributes = wanted.attributes
                if attributes is None:
                    attributes = await _or_nothing(store.attributes(wanted.user))
    except (StoreUnavailable, TimeoutError):
        if settings.database is None:
            raise
        return (), wanted.attributes or {}, NO_STORE
    return events, attributes, None


async def _or_nothing(reading: Any) -> dict[str, str]:
    try:
        found: dict[str, str] = await reading
        return found
    except StoreUnavailable:
        return {}


async def _log(service: Service, snapshot: Snapshot, line: Impression) -> None:
    """Log a line; where a model ranks in its shadow, after the answer has left and with the difference in it."""
    shadow = snapshot.shadow
    place = int(line.recommendation_id[-8:], 16) / 2**32  # the digits are chance
    if shadow is None or shadow.version == line.model or place >= service.settings.shadow_share:
        await service.store.record(line)
        return
    loop = asyncio.get_running_loop()
    task = loop.create_task(_log_with_shadow(service, shadow, line))
    service.fleet.running.add(task)
    task.add_done_callback(service.fleet.running.discard)


async def _log_with_shadow(service: Service, shadow: Recommender, line: Impression) -> None:
    await asyncio.sleep(0)
    notes = dict(line.notes)
    try:
        recommendation = answer(shadow, line.ask).recommendation
    except Exception as error:
        notes["shadow"] = {"model": shadow.version, "failed": type(error).__name__}
    else:
        shown = shadow.catalogue.ids(recommendation.items)
        overlap = len(set(shown) & set(line.item_ids)) / max(1, len(line.item_ids))
        same = sum(one == other for one, other in zip(shown, line.item_ids, strict=False))
        notes["shadow"] = {
            "model": shadow.version,
            "served_by": recommendation.served_by,
            "overlap": round(overlap, 4),
            "same_positions": same,
            "items": shown,
        }
        service.metrics.overlap.observe(overlap)
    await service.store.record(replace(line, notes=notes))


async def next_of(service: Service, recommendation_id: str, n: int | None, began: float) -> bytes:
    """Return the list after a list: the same request without what was shown so far. Raises Problem."""
    before = await service.store.impression(recommendation_id)
    if before is None:
        raise Problem(404, "not_found", f"no list {recommendation_id!r}; begin anew with POST /v1/recommend")
    if not before.events_kept:
        raise Problem(
            409,
            "not_kept",
            "the list was for a session whose events are not kept; send them again to /v1/session/recommend, with "
            "what was shown in exclude",
        )
    ask = before.ask
    context = before.notes.get("context")
    return await serve(
        service,
        Wanted(
            n=n or ask.n,
            user=ask.user or None,
            session=ask.session,
            scenario=before.scenario,
            context=context,
            filter=ask.wanted,
            exclude=(*ask.exclude, *before.item_ids),
            exclude_seen=ask.exclude_seen,
            among=ask.among,
            variant=_still_running(service, before.variant),
            notes={"previous": recommendation_id},
        ),
        began,
    )


def _still_running(service: Service, label: str | None) -> str | None:
    experiments = service.ready().experiments
    labels = {experiment.label(variant) for experiment in experiments for variant in experiment.variants}
    return label if label in labels else None


def _reasons(recommender: Recommender, served: Served) -> list[dict[str, Any]]:
    ask = served.ask
    history = recommender.history(ask.events, ask.attributes or None)
    return explained(recommender, history, served.recommendation.items)


def _check_bounds(service: Service, wanted: Wanted) -> None:
    settings = service.settings
    for name, value, bound in (
        ("n", wanted.n, settings.max_n),
        ("exclude", len(wanted.exclude) if "previous" not in wanted.notes else 0, settings.max_exclude),
        ("items", 0 if wanted.among is None else len(wanted.among), settings.max_candidates),
    ):
        if value > bound:
            what = f"{name} is {value}" if name == "n" else f"{name} holds {value} ids"
            setting = "MAX_CANDIDATES" if name == "items" else f"MAX_{name.upper()}"
            fewer = "ask for fewer" if name == "n" else "send fewer"
            raise Problem(
                422, "invalid_request", f"{what}: must be at most {bound}; {fewer}, or raise RECSYS_{setting}"
            )


def _encoded(
    recommender: Recommender,
    line: Impression,
    served: Served,
    took_ms: float,
    reasons: list[dict[str, Any]] | None,
    beside: Mapping[str, Any],
) -> bytes:
    base = recommender.catalogue.base_items
    found = {"popular": "popular", "policy": "policy"}.get(line.served_by, "index")
    source = "caller" if line.ask.among is not None else found
    items: list[dict[str, Any]] = [
        {
            "item_id": item_id,
            "score": score,
            "propensity": propensity,
            "position": position,
            "source": source if index < base or source == "caller" else "added",
        }
        for position, (item_id, score, propensity, index) in enumerate(
            zip(
                line.item_ids,
                line.scores,
                line.propensities,
                served.recommendation.items.tolist(),
                strict=True,
            )
        )
    ]
    if reasons is not None:
        for item, why in zip(items, reasons, strict=True):
            item.update(why)
    content: dict[str, Any] = {
        "recommendation_id": line.recommendation_id,
        "model": line.model,
        "variant": line.variant,
        "policy": line.policy,
        "seed": line.ask.seed,
        "served_by": line.served_by,
        "support_events": line.support_events,
        "took_ms": round(took_ms, 3),
        "items": items,
    }
    content.update({name: told for name, told in beside.items() if told is not None})
    return orjson.dumps(content)

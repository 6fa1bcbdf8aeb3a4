"""The models of one worker: which is in use, which others stand ready, and the catalogue that all of them share.

What a request needs is one immutable snapshot, read once, so that no answer mixes versions. Loading happens away from
the event loop; a swap is the assignment of one reference.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recsys.artifacts.registry import Registry
from recsys.errors import UserError
from recsys.live_catalogue import ItemChange
from recsys.recommender import Recommender
from serving.engine import warm_up
from serving.experiments import FACT, Experiment, assigned, encode_experiments, parse_experiments
from serving.problems import INVALID, NotReady, Problem, StoreUnavailable
from serving.settings import Settings
from serving.store import Store

log = logging.getLogger(__name__)

SHADOW_FACT = "shadow"


@dataclass(frozen=True)
class Snapshot:
    """What one request is answered with."""

    champion: Recommender
    others: Mapping[str, Recommender]  # version or alias that variants name -> model
    experiments: tuple[Experiment, ...] = ()
    shadow: Recommender | None = None


class Fleet:
    """Loads, swaps and keeps up to date; everything but loading happens on the event loop."""

    def __init__(self, settings: Settings, load: Callable[[Path], Recommender], store: Store) -> None:
        self._settings, self._load, self._store = settings, load, store
        self._registry = None if settings.bundle is not None else Registry(settings.registry)
        self._loaded: dict[str, Recommender] = {}  # by version
        self._revision = 0  # of the catalogue
        self._changes: dict[str, ItemChange] = {}  # newest of each item
        self._catching_up = asyncio.Lock()
        self._swapping = asyncio.Lock()
        self._facts: tuple[str | None, ...] = (None, None)
        self._last_refused: str | None = None
        self.snapshot: Snapshot | None = None
        self.swaps = 0
        self.running: set[asyncio.Task[None]] = set()  # what goes on after answers

    @property
    def current(self) -> Recommender | None:
        """The model in use."""
        return None if self.snapshot is None else self.snapshot.champion

    def ready(self) -> Snapshot:
        """Return what to answer with; raises NotReady without a model."""
        if self.snapshot is None:
            raise NotReady(["a bundle"])
        return self.snapshot

    def assign(
        self, unit: str | None, scenario: str | None, wanted: str | None
    ) -> tuple[Snapshot, Recommender, Experiment | None, Any]:
        """Return the snapshot with the model, experiment and variant of one request."""
        snapshot = self.ready()
        try:
            found = assigned(snapshot.experiments, unit, scenario, wanted)
        except LookupError:
            known = [e.label(v) for e in snapshot.experiments for v in e.variants]
            why = f"not one of {', '.join(known)}" if known else "no experiment runs"
            raise Problem(422, INVALID, f"variant is {wanted!r}: {why}; leave it out") from None
        if found is None:
            return snapshot, snapshot.champion, None, None
        experiment, variant = found
        model = snapshot.champion if variant.model is None else snapshot.others.get(variant.model)
        return snapshot, model or snapshot.champion, experiment, variant

    async def start(self) -> None:
        """Load the model in use with everything that changed since it was made; raises UserError without one."""
        folder = self._folder(self._settings.alias)
        champion = await self._get(folder)
        self.snapshot = Snapshot(champion, {})
        await self.catch_up()
        await self._read_facts()

    def put_in_use(self, recommender: Recommender | None) -> None:
        """Answer with a model from the next request on."""
        self.snapshot = (
            None
            if recommender is None
            else replace(self.snapshot or Snapshot(recommender, {}), champion=recommender)
        )

    async def catch_up(self) -> None:
        """Apply the changes of the catalogue that are not applied yet, in their order, to every model."""
        async with self._catching_up:
            while changes := await self._store.item_changes(self._revision):
                await self._apply(changes)

    async def refresh(self) -> None:
        """Follow the alias, the experiments, the shadow and the catalogue to where other replicas moved them."""
        if await self._store.catalogue_revision() > self._revision:
            await self.catch_up()
        await self._read_facts()
        if self._registry is not None and self.snapshot is not None:
            folder = self._folder(self._settings.alias)
            if folder.name not in (self.snapshot.champion.version, self._last_refused):
                try:
                    await self._swap_to(folder)
                except UserError:
                    self._last_refused = folder.name  # say it once; the model in use stays
                    log.exception("%s cannot be loaded", folder.name)

    def models(self) -> dict[str, Any]:
        """Return the versions there are, where aliases point, and what is in use."""
        snapshot, settings = self.ready(), self._settings
        if self._registry is None:
            versions, aliases = [snapshot.champion.version], {}
        else:
            versions = self._registry.versions(settings.name)
            aliases = self._registry.aliases(settings.name)
        return {
            "name": settings.name,
            "active": snapshot.champion.version,
            "shadow": None if snapshot.shadow is None else snapshot.shadow.version,
            "versions": versions,
            "aliases": aliases,
            "loaded": sorted(self._loaded),
        }

    def folders(self) -> dict[str, Path]:
        """Return the folder of every version there is."""
        name = self._settings.name
        if self._registry is None:
            return {self.ready().champion.version: self._folder("")}
        return {version: self._registry.resolve(name, version) for version in self._registry.versions(name)}

    async def model(self, name: str) -> Recommender:
        """Return a version or an alias's version, loaded beside the one in use; raises Problem (404) without it."""
        return await self._get(self._known(name))

    async def activate(self, version: str) -> str:
        """Move the alias to a version and answer with it; the model before stands ready for a roll-back."""
        registry = self._needed_registry()
        folder = self._known(version)
        async with self._swapping:
            await self._get(folder)  # what cannot be loaded is never activated
            await asyncio.to_thread(
                registry.set_alias, self._settings.name, self._settings.alias, folder.name
            )
        await self._swap_to(folder)
        return folder.name

    async def roll_back(self) -> str:
        """Move the alias back and answer with where it points."""
        registry = self._needed_registry()
        try:
            version = await asyncio.to_thread(registry.rollback, self._settings.name, self._settings.alias)
        except UserError as error:
            raise Problem(409, "cannot_roll_back", f"{error}; activate a version instead") from None
        await self._swap_to(self._known(version))
        return version

    async def shadow(self, version: str | None) -> None:
        """Let a version rank beside the model in use, unseen; none for nobody."""
        if version is not None:
            self._known(version)
        await self._store.put_fact(SHADOW_FACT, version or "")
        await self._read_facts()

    async def put_experiments(self, experiments: Sequence[Experiment]) -> None:
        """Run these experiments; raises Problem (422) if one names a model that there is none of."""
        for experiment in experiments:
            for variant in experiment.variants:
                if variant.model is not None:
                    self._known(variant.model)
        await self._store.put_fact(FACT, encode_experiments(experiments))
        await self._read_facts()

    async def _swap_to(self, folder: Path) -> None:
        async with self._swapping:
            recommender = await self._get(folder)
            await self.catch_up()
            if self.current is not recommender:
                self.put_in_use(recommender)
                self.swaps += 1
                log.info("answers come from %s now", recommender.version)

    async def _read_facts(self) -> None:
        told = (await self._store.fact(FACT), await self._store.fact(SHADOW_FACT))
        experiments = parse_experiments(told[0])
        named = {v.model for e in experiments for v in e.variants if v.model is not None}
        # an alias that moves is another model, though what is told of it stays
        facts = (*told, *(self._version_of(name) for name in sorted({*named, *filter(None, told[1:])})))
        if facts == self._facts or self.snapshot is None:
            return
        others = {name: found for name in named if (found := await self._get_if_there(name)) is not None}
        shadow = await self._get_if_there(told[1]) if told[1] else None
        self.snapshot = replace(self.snapshot, others=others, experiments=experiments, shadow=shadow)
        self._facts = facts

    def _version_of(self, name: str) -> str | None:
        try:
            return self._folder(name).name
        except UserError:
            return None

    async def _get_if_there(self, name: str) -> Recommender | None:
        try:
            return await self._get(self._folder(name))
        except UserError:
            log.exception("%s cannot be loaded; the model in use stands in for it", name)
            return None

    async def _get(self, folder: Path) -> Recommender:
        """Return a loaded and warm model whose catalogue is as new as the others'."""
        version = folder.resolve().name
        if version not in self._loaded:
            recommender = await asyncio.to_thread(self._loaded_now, folder, dict(self._changes))
            async with self._catching_up:
                for change in self._changes.values():  # what came while it was loading
                    if change.revision > recommender.catalogue.revision:
                        recommender.change(*change, recommender.likeness(change.item_id, change.fields))
                self._loaded[version] = recommender
            self._let_go_of_others(version)
        return self._loaded[version]

    def _let_go_of_others(self, newest: str) -> None:
        """Keep what is in use, what others name, and the two newest loads."""
        snapshot = self.snapshot
        kept = {newest, *list(self._loaded)[-2:]}
        if snapshot is not None:
            kept |= {model.version for model in (snapshot.champion, *snapshot.others.values())}
            kept |= {snapshot.shadow.version} if snapshot.shadow is not None else set()
        for version in [version for version in self._loaded if version not in kept]:
            del self._loaded[version]

    def _loaded_now(self, folder: Path, changes: Mapping[str, ItemChange]) -> Recommender:
        recommender = self._load(folder)
        recommender.remember(self._settings.remembered)
        warm_up(recommender)
        for change in sorted(changes.values()):
            recommender.change(*change, recommender.likeness(change.item_id, change.fields))
        return recommender

    async def _apply(self, changes: Sequence[ItemChange]) -> None:
        models = list(self._loaded.values())
        newest = {change.item_id: change for change in changes}
        # content is compared away from the event loop, where requests go on
        likenesses = await asyncio.to_thread(
            lambda: [[model.likeness(c.item_id, c.fields) for model in models] for c in newest.values()]
        )
        for change, likeness in zip(newest.values(), likenesses, strict=True):
            for model, like in zip(models, likeness, strict=True):
                model.change(*change, like)
        self._changes |= newest
        self._revision = changes[-1].revision
        for model in models:
            model.catalogue.revision = self._revision

    def _folder(self, name: str) -> Path:
        if self._registry is None:
            assert self._settings.bundle is not None  # noqa: S101 - the one or the other
            return self._settings.bundle
        return self._registry.resolve(self._settings.name, name)

    def _known(self, version: str) -> Path:
        registry = self._needed_registry()
        try:
            return registry.resolve(self._settings.name, version)
        except UserError as error:
            raise Problem(404, "not_found", str(error)) from None

    def _needed_registry(self) -> Registry:
        if self._registry is None:
            raise Problem(
                409,
                "no_registry",
                "one bundle is served by its folder (RECSYS_BUNDLE), so there is nothing to choose from; serve from a "
                "registry (RECSYS_REGISTRY, RECSYS_NAME, RECSYS_ALIAS)",
            )
        return self._registry


async def follow(fleet: Fleet, every_s: float, then: Callable[[], None] = lambda: None) -> None:
    """Refresh for ever; what fails is tried again. `then` hears of it."""
    away = False
    while True:
        await asyncio.sleep(every_s)
        try:
            await fleet.refresh()
            then()
            away = False
        except StoreUnavailable as error:
            if not away:
                log.warning("changes cannot be followed: %s", error)
            away = True
        except Exception:
            log.exception("changes cannot be followed")

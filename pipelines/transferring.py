"""What a run takes from another log's run: read once, used by the pages that train."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipelines.manifest import read_manifest
from recsys import columns as c
from recsys.adaptation import AdaptationHead
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.learning.checkpoint import load_head, load_teacher
from recsys.learning.factors import ItemStatistics
from recsys.learning.transfer import Carried, Source, aligned, carry, prior_rows, volume
from recsys.logs.content import titles_of
from recsys.logs.prepared import PreparedLog, open_prepared
from recsys.logs.shared_content import item_words
from recsys.mdp.tasks import trainable
from recsys.types import FloatArray

PARENT: Final = "parent.json"  # in the folder of prepare or pretrain: what was gone on from, and with what
STEPS: Final = ("prepare", "metatrain")  # of the source


@dataclass(frozen=True)
class Warmth:
    """What a source gives to one log."""

    source: Source
    head: AdaptationHead
    carried: Carried

    def rows(self, content: FloatArray, config: RunConfig) -> FloatArray:
        """Return what stands beside the histories where co-occurrence is counted, (row, item)."""
        transfer = config.transfer
        return prior_rows(self.carried, content, transfer.prior_histories, transfer.content_histories)

    def popularity(self, counted: FloatArray, config: RunConfig) -> FloatArray:
        """Return popularity with what the source lets expect, (item,)."""
        with_prior: FloatArray = counted + np.float32(config.transfer.prior_histories) * self.carried.share
        return with_prior

    def volume(self, counted: FloatArray, config: RunConfig) -> FloatArray:
        """Return how loud the memory of each item may be, (item,), from the histories with it."""
        transfer = config.transfer
        return volume(self.carried, counted, transfer.prior_histories, transfer.half_trusted)

    def record(self, config: RunConfig) -> dict[str, object]:
        """Return what a version's card says of where it started."""
        folder = config.transfer.source or Path()
        info = open_prepared(folder / "prepare").info
        return {
            "how": "Warm-started from",
            "parent": folder.name,
            "digests": transfer_settings(config)["transfer"]["source"],  # type: ignore[index]
            "parent_trained_until": info.trained_until,
            "parent_log": info.source,
            "matched_items": self.carried.matched,
            "content_explains": round(self.carried.explained, 3),
        }

    @property
    def onto(self) -> FloatArray | None:
        """The source's coordinates, (item, feature), where enough items are shared to turn factors into them."""
        if not aligned(self.carried):
            return None
        return np.where((self.carried.row >= 0)[:, None], self.carried.memory, 0.0).astype(np.float32)


def warmth_for(config: RunConfig, log: PreparedLog) -> Warmth | None:
    """Return what the configured source gives; None without one.

    Raises UserError if the source cannot be read, or if its content lies in another space.
    """
    folder = config.transfer.source
    if folder is None:
        return None
    for step in STEPS:
        if read_manifest(folder / step) is None:
            raise UserError(
                f"transfer.source {folder} has no finished {step}; give the folder of a run (runs/NAME), or of a "
                "version's training state"
            )
    _same_space(config, folder)
    earlier = open_prepared(folder / "prepare")
    teacher = load_teacher(folder / "metatrain", config.pretrain.temperature).eval()
    known = pq.read_table(earlier.root / "items.parquet")
    items = pq.read_table(log.root / "items.parquet")
    words = frozenset(item_words(known)[0])
    own, counts = item_words(items)
    shared = counts @ np.array([word in words for word in own], np.float64)
    total = np.asarray(counts.sum(axis=1)).ravel()
    familiar = np.divide(shared, total, out=np.zeros(len(total)), where=total > 0)
    source = Source(
        teacher,
        names_to_match(known, config.transfer.match),
        np.array(earlier.content),
        ItemStatistics.load(folder / "metatrain" / "statistics.npz").popularity,
        len(trainable(earlier, identified_only=config.pretrain.identified_only)),
        earlier.info.event_types,
    )
    names = names_to_match(items, config.transfer.match)
    carried = carry(source, names, np.array(log.content), familiar)
    return Warmth(source, load_head(folder / "metatrain" / "head.safetensors"), carried)


def names_to_match(items: pa.Table, match: str) -> list[str]:
    """Return what an item is called in both logs, (item,); empty where nothing may be matched by it.

    A title counts with its year, where there is one, and only if no other item of the catalogue has it.
    """
    if match == "nothing":
        return [""] * items.num_rows
    if match == "ids":
        return [str(item) for item in items[c.ITEM_ID].to_pylist()]
    years = items["year"].to_pylist() if "year" in items.column_names else [None] * items.num_rows
    titles = [
        "" if not title else f"{title.casefold()} {'' if year is None else int(year)}"
        for title, year in zip(titles_of(items), years, strict=True)
    ]
    often = Counter(titles)
    return [title if often[title] == 1 else "" for title in titles]


def _same_space(config: RunConfig, folder: Path) -> None:
    """Raise UserError unless content means the same in both logs."""
    manifest = read_manifest(folder / "prepare")
    settings = {} if manifest is None else json.loads(json.dumps(manifest.settings)).get("prepare", {})
    theirs = (settings.get("content_space", "fitted"), settings.get("content_features"))
    ours = (config.prepare.content_space, config.prepare.content_features)
    if theirs != ours or ours[0] != "shared":
        raise UserError(
            f"content of {folder} is {theirs[0]} in {theirs[1]} features and of this run {ours[0]} in {ours[1]}, must "
            "be shared and as wide in both; set prepare.content_space=shared and one prepare.content_features for "
            "both, and run the source again"
        )


def transfer_settings(config: RunConfig) -> dict[str, object]:
    """Return what makes a step stale that starts from a source: its settings and what the source holds."""
    folder = config.transfer.source
    if folder is None:
        return {}
    found = {step: read_manifest(folder / step) for step in STEPS}
    digests = {step: "" if manifest is None else manifest.digest for step, manifest in found.items()}
    return {"transfer": {**config.transfer.model_dump(mode="json", exclude={"source"}), "source": digests}}


@torch.no_grad()
def warm_head(head: AdaptationHead, warmth: Warmth, event_types: tuple[str, ...]) -> None:
    """Let a fresh head take events as the source's does: noise, gains and offsets by event type, mix, growth, decay.

    What is said of single features stays fresh: they mean something else in another log.
    """
    theirs, prior = warmth.head, head.prior
    for name in ("log_noise", "mix_logit", "growth", "log_decay"):
        getattr(prior, name).copy_(getattr(theirs.prior, name))
    for here, name in enumerate(event_types):
        if name in warmth.source.event_types:
            there = warmth.source.event_types.index(name)
            prior.gain[here] = theirs.prior.gain[there]
            prior.offset[here] = theirs.prior.offset[there]
    head.log_precision.fill_(float(theirs.log_precision.mean()))
    head.log_negatives.copy_(theirs.log_negatives)

"""A bundle: everything that serving needs of a model, in one folder, without pickle.

bundle.json            format, what ranks, state, vocabularies, rewards, exploration (bundle_info.py)
items.parquet          ids, titles, categories, price, availability; row = item index
items.safetensors      popularity; with a student also vectors e_i, bias b_i, features φ(i); first axis item

with a student         student.safetensors   the state network
                       prior.safetensors     the adaptation prior
                       index.faiss           the candidate index over [e_i, φ(i), b_i]
with a baseline        policy.json           its kind and options
                       policy.safetensors    what it learnt
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recsys import columns as c
from recsys.adaptation import AdaptationPrior
from recsys.artifacts.bundle_info import DESCRIPTION, PolicyInfo, QInfo, parse_info
from recsys.candidates.index import CandidateIndex, load_index
from recsys.catalogue import Catalogue
from recsys.errors import UserError
from recsys.mdp.state import empty_history
from recsys.models.item_table import ItemTable
from recsys.models.student import StudentNetwork
from recsys.models.weights import save_module
from recsys.policies.policy import KeptPolicy
from recsys.policies.storage import load_policy, save_policy

PRICE = "price"
_LONGEST_REASON = 200  # characters
# what readers of JSON, safetensors and Parquet, and torch with other weights, say to a file that is not theirs
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    pa.ArrowException,
    SafetensorError,
)

Popularity = np.ndarray[tuple[int], np.dtype[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What every loaded bundle holds."""

    version: str
    info: QInfo | PolicyInfo
    popularity: Popularity = field(repr=False)  # (item,)
    catalogue: Catalogue


@dataclass(frozen=True, kw_only=True)
class QBundle(Bundle):
    """A student that is adapted, over a candidate index."""

    info: QInfo
    student: StudentNetwork = field(repr=False)
    prior: AdaptationPrior = field(repr=False)
    table: ItemTable = field(repr=False)
    index: CandidateIndex = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class PolicyBundle(Bundle):
    """A fitted baseline."""

    info: PolicyInfo
    policy: KeptPolicy = field(repr=False)


def save_bundle(
    folder: Path,
    info: QInfo,
    student: StudentNetwork,
    prior: AdaptationPrior,
    table: ItemTable,
    popularity: torch.Tensor,
    catalogue: Catalogue,
    index: CandidateIndex,
) -> None:
    """Write a bundle with a student into a folder that does not exist yet."""
    columns = {"vectors": table.vectors, "bias": table.bias, "features": table.features}
    _write_shared(folder, info, {**columns, "popularity": popularity}, catalogue)
    save_module(student, folder / "student.safetensors")
    save_module(prior, folder / "prior.safetensors")
    index.save(folder / "index.faiss")


def save_policy_bundle(
    folder: Path, info: PolicyInfo, policy: KeptPolicy, popularity: Popularity, catalogue: Catalogue
) -> None:
    """Write a bundle with a baseline into a folder that does not exist yet; `popularity` is (item,)."""
    _write_shared(folder, info, {"popularity": torch.from_numpy(popularity)}, catalogue)
    save_policy(policy, folder)


def _write_shared(
    folder: Path, info: QInfo | PolicyInfo, columns: dict[str, torch.Tensor], catalogue: Catalogue
) -> None:
    folder.mkdir(parents=True)
    (folder / DESCRIPTION).write_text(info.to_json(), encoding="utf-8")
    save_file(
        {name: column.detach().contiguous() for name, column in columns.items()},
        str(folder / "items.safetensors"),
    )
    pq.write_table(
        pa.table(
            {
                c.ITEM_ID: pa.array(catalogue.item_ids, pa.string()),
                c.TITLE: pa.array(catalogue.titles, pa.string()),
                c.CATEGORIES: pa.array(
                    [list(names) for names in catalogue.categories], pa.list_(pa.string())
                ),
                PRICE: pa.array(catalogue.price, pa.float32()),
                c.AVAILABLE: pa.array(catalogue.available, pa.bool_()),
            }
        ),
        folder / "items.parquet",
    )


def load_bundle(folder: Path) -> QBundle | PolicyBundle:
    """Read a bundle; raises UserError if the folder is not one, or one whose files are missing or damaged."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(f"no bundle at {folder}; `recsys run` makes one")
    try:
        info = parse_info(path.read_text(encoding="utf-8"), path)
        return _read_policy(folder, info) if isinstance(info, PolicyInfo) else _read_student(folder, info)
    except UserError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
        raise UserError(
            f"the bundle at {folder} is damaged or incomplete ({reason}); publish it again or roll back"
        ) from error


def _read_student(folder: Path, info: QInfo) -> QBundle:
    items = load_file(str(folder / "items.safetensors"))
    table = ItemTable.of(items["vectors"], items["bias"], items["features"])
    student = StudentNetwork(info.shape)
    student.load_state_dict(load_file(str(folder / "student.safetensors")))
    student.vectors = table.vectors
    prior = AdaptationPrior.from_weights(load_file(str(folder / "prior.safetensors")))
    for module in (student, prior):
        module.eval().requires_grad_(False)
    catalogue, index = (
        read_catalogue(folder / "items.parquet"),
        load_index(folder / "index.faiss", info.index),
    )
    counts = {"vectors": len(table.vectors), "catalogue": len(catalogue.item_ids), "index": len(index)}
    if len(set(counts.values())) > 1:
        raise ValueError(f"items differ in number: {counts}")
    return QBundle(
        version=folder.resolve().name,
        info=info,
        student=student,
        prior=prior,
        table=table,
        popularity=items["popularity"].numpy(),
        catalogue=catalogue,
        index=index,
    )


def _read_policy(folder: Path, info: PolicyInfo) -> PolicyBundle:
    try:
        policy = load_policy(folder)
    except UserError as error:
        raise UserError(f"{error}; publish the bundle again or roll back") from None
    catalogue = read_catalogue(folder / "items.parquet")
    popularity = load_file(str(folder / "items.safetensors"))["popularity"].numpy()
    # ranking for nobody finds arrays that do not fit each other now, and not at the first request
    scores = policy.scores([empty_history(np.zeros(len(info.attributes), np.int32))])
    counts = {"policy": scores.shape[1], "catalogue": len(catalogue.item_ids), "popularity": len(popularity)}
    if len(set(counts.values())) > 1:
        raise ValueError(f"items differ in number: {counts}")
    if not np.isfinite(scores).all():
        raise ValueError("scores are not finite")
    return PolicyBundle(
        version=folder.resolve().name,
        info=info,
        policy=policy,
        popularity=popularity,
        catalogue=catalogue,
    )


def read_catalogue(path: Path) -> Catalogue:
    """Read the catalogue from a Parquet item table, a bundle's or a prepared log's; absent columns are empty."""
    table = pq.read_table(path)
    empty = pa.nulls(len(table))

    def column(name: str) -> list[Any]:
        values: list[Any] = (table[name] if name in table.column_names else empty).to_pylist()
        return values

    return Catalogue(
        item_ids=tuple(column(c.ITEM_ID)),
        titles=tuple(title or "" for title in column(c.TITLE)),
        categories=tuple(tuple(names or ()) for names in column(c.CATEGORIES)),
        price=np.array([np.nan if price is None else price for price in column(PRICE)], np.float32),
        available=np.array([known is not False for known in column(c.AVAILABLE)], bool),
    )

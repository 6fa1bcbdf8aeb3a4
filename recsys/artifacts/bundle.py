"""A bundle: everything that serving needs of a model, in one folder, without pickle.

bundle.json            format, network shape, state, vocabularies, rewards, index and exploration settings
student.safetensors    the state network
prior.safetensors      the adaptation prior
items.safetensors      vectors e_i, bias b_i, features φ(i), popularity; first axis item
items.parquet          ids, titles, categories, price, availability; row = item index
index.faiss            the candidate index over [e_i, φ(i), b_i]
"""

import json
from dataclasses import asdict, dataclass
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
from recsys.candidates.index import CandidateIndex, load_index
from recsys.catalogue import Catalogue
from recsys.config import ExplorationConfig, Impressions, IndexConfig, RewardConfig, StateConfig
from recsys.errors import UserError
from recsys.models.item_table import ItemTable
from recsys.models.q_network import NetworkShape
from recsys.models.student import StudentNetwork
from recsys.models.weights import save_module

FORMAT = 1
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


@dataclass(frozen=True)
class BundleInfo:
    """What bundle.json says."""

    shape: NetworkShape
    state: StateConfig
    discount: float
    event_types: tuple[str, ...]
    attributes: tuple[str, ...]
    attribute_values: tuple[tuple[str, ...], ...]
    reward: RewardConfig
    index: IndexConfig
    exploration: ExplorationConfig
    impressions: Impressions = "apart"  # "actions": a history holds what was shown without response too

    def to_json(self) -> str:
        """Return the text of bundle.json."""
        plain: dict[str, Any] = {
            "format": FORMAT,
            "shape": asdict(self.shape),
            "discount": self.discount,
            "event_types": self.event_types,
            "attributes": self.attributes,
            "attribute_values": self.attribute_values,
            "impressions": self.impressions,
        }
        for name in ("state", "reward", "index", "exploration"):
            plain[name] = getattr(self, name).model_dump(mode="json")
        return json.dumps(plain, indent=2, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str, where: Path) -> "BundleInfo":
        """Parse bundle.json; raises UserError for another format."""
        raw = json.loads(text)
        if raw.get("format") != FORMAT:
            raise UserError(
                f"{where} has bundle format {raw.get('format')}, this version reads {FORMAT}; publish it again"
            )
        return BundleInfo(
            shape=NetworkShape(**{**raw["shape"], "attribute_sizes": tuple(raw["shape"]["attribute_sizes"])}),
            state=StateConfig(**raw["state"]),
            discount=raw["discount"],
            event_types=tuple(raw["event_types"]),
            attributes=tuple(raw["attributes"]),
            attribute_values=tuple(tuple(values) for values in raw["attribute_values"]),
            reward=RewardConfig(**raw["reward"]),
            index=IndexConfig(**raw["index"]),
            exploration=ExplorationConfig(**raw["exploration"]),
            impressions=raw.get("impressions", "apart"),  # bundles of before the choice
        )


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle."""

    version: str
    info: BundleInfo
    student: StudentNetwork
    prior: AdaptationPrior
    table: ItemTable
    popularity: np.ndarray[tuple[int], np.dtype[np.float32]]  # (item,)
    catalogue: Catalogue
    index: CandidateIndex


def save_bundle(
    folder: Path,
    info: BundleInfo,
    student: StudentNetwork,
    prior: AdaptationPrior,
    table: ItemTable,
    popularity: torch.Tensor,
    catalogue: Catalogue,
    index: CandidateIndex,
) -> None:
    """Write a bundle into a folder that does not exist yet."""
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text(info.to_json(), encoding="utf-8")
    save_module(student, folder / "student.safetensors")
    save_module(prior, folder / "prior.safetensors")
    columns = {
        "vectors": table.vectors,
        "bias": table.bias,
        "features": table.features,
        "popularity": popularity,
    }
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
    index.save(folder / "index.faiss")


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle; raises UserError if the folder is not one, or one whose files are missing or damaged."""
    path = folder / "bundle.json"
    if not path.is_file():
        raise UserError(f"no bundle at {folder}; `recsys run` makes one")
    try:
        return _read(folder, BundleInfo.from_json(path.read_text(encoding="utf-8"), path))
    except UserError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
        raise UserError(
            f"the bundle at {folder} is damaged or incomplete ({reason}); publish it again or roll back"
        ) from error


def _read(folder: Path, info: BundleInfo) -> Bundle:
    items = load_file(str(folder / "items.safetensors"))
    table = ItemTable.of(items["vectors"], items["bias"], items["features"])
    student = StudentNetwork(info.shape)
    student.load_state_dict(load_file(str(folder / "student.safetensors")))
    student.vectors = table.vectors
    prior = AdaptationPrior(table.features.shape[1], len(info.event_types))
    prior.load_state_dict(load_file(str(folder / "prior.safetensors")))
    for module in (student, prior):
        module.eval().requires_grad_(False)
    catalogue, index = (
        read_catalogue(folder / "items.parquet"),
        load_index(folder / "index.faiss", info.index),
    )
    counts = {"vectors": len(table.vectors), "catalogue": len(catalogue.item_ids), "index": len(index)}
    if len(set(counts.values())) > 1:
        raise ValueError(f"items differ in number: {counts}")
    return Bundle(
        version=folder.resolve().name,
        info=info,
        student=student,
        prior=prior,
        table=table,
        popularity=items["popularity"].numpy(),
        catalogue=catalogue,
        index=index,
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

"""Fitted policies on disk: `policy.json` names the kind and its options, `policy.safetensors` holds the arrays."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from safetensors.numpy import load_file, save_file

from recsys.errors import UserError
from recsys.policies.als import Als, AlsOptions
from recsys.policies.ease import Ease, EaseOptions
from recsys.policies.item_knn import ItemKnn, ItemKnnOptions
from recsys.policies.policy import KeptPolicy
from recsys.policies.popularity import Popularity, PopularityOptions
from recsys.policies.sequence_model import SequenceModel, SequenceOptions
from recsys.policies.vsknn import Vsknn, VsknnOptions

KINDS = {
    "popularity": (Popularity, PopularityOptions),
    "item_knn": (ItemKnn, ItemKnnOptions),
    "vsknn": (Vsknn, VsknnOptions),
    "ease": (Ease, EaseOptions),
    "als": (Als, AlsOptions),
    "sequence": (SequenceModel, SequenceOptions),
}
DESCRIPTION, ARRAYS = "policy.json", "policy.safetensors"


def kind_of(policy: KeptPolicy) -> str:
    """Return the name of a policy's kind."""
    return next(name for name, (made, _) in KINDS.items() if isinstance(policy, made))


def save_policy(policy: KeptPolicy, folder: Path) -> None:
    """Write a fitted policy into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(array) for name, array in policy.arrays().items()}
    save_file(arrays, str(folder / ARRAYS))
    description = {"kind": kind_of(policy), "options": asdict(policy.options)}
    (folder / DESCRIPTION).write_text(
        json.dumps(description, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )


def load_policy(folder: Path) -> KeptPolicy:
    """Read a fitted policy; raises UserError if the folder holds none of a known kind."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(f"no policy at {folder}; give a folder that holds {DESCRIPTION}")
    description = json.loads(path.read_text(encoding="utf-8"))
    kind = description.get("kind")
    if kind not in KINDS:
        raise UserError(f"{path} names the kind {kind!r}; it must be one of {', '.join(KINDS)}")
    made, options = KINDS[kind]
    try:
        chosen: Any = TypeAdapter(options).validate_python(description["options"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}; save the policy again") from None
    policy: KeptPolicy = made(chosen).restore(load_file(str(folder / ARRAYS)))
    return policy

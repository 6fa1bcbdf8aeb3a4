"""The bundle that training goes on from: where it is, and what its run left that serving does not need.

A bundle holds the student that is served. To go on, training needs the teacher, its adaptation head and the prepared
log too. `publish` keeps them beside the version (recsys/artifacts/training_state.py); a bundle in a run's own folder
has them next to it; --training names any other run's folder.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.configuration import put_override
from pipelines.manifest import read_manifest
from pipelines.publish import BUNDLE
from recsys.artifacts.bundle_info import DESCRIPTION, QInfo, ranker_name
from recsys.artifacts.registry import Registry
from recsys.artifacts.training_state import NEEDED, training_folder
from recsys.config import RunConfig, validate_config
from recsys.errors import UserError


@dataclass(frozen=True)
class Parent:
    """A bundle with its training state."""

    bundle: Path
    version: str  # of the registry, or the name of its run
    training: Path  # folders of the steps, by name

    def step(self, name: str) -> Path:
        """Return the folder of one step of the run that made the bundle."""
        return self.training / name

    def digests(self) -> dict[str, str]:
        """Return the content digest of each step that training goes on from."""
        found = {name: read_manifest(self.step(name)) for name in NEEDED}
        return {name: manifest.digest for name, manifest in found.items() if manifest is not None}


def find_parent(bundle: str, registry: Path, name: str, training: Path | None = None) -> Parent:
    """Return the parent that a version, an alias or a folder names.

    Raises UserError, one line, if there is none, if it has no Q-network, or if what training needs is missing.
    """
    folder = Path(bundle) if Path(bundle).is_dir() else Registry(registry).resolve(name, bundle)
    folder = folder.resolve()
    if not (folder / DESCRIPTION).is_file() and (folder / "index" / BUNDLE / DESCRIPTION).is_file():
        folder = folder / "index" / BUNDLE  # a run's folder
    if not (folder / DESCRIPTION).is_file():
        raise UserError(
            f"no bundle at {folder}; give a version, an alias, a bundle's folder or a run's folder"
        )
    if (kind := ranker_name(folder)) != QInfo.ranker:
        raise UserError(
            f"{folder.name} ranks by {kind or 'something unknown'}, only a Q-network can be trained on; fit the "
            "baseline again with `recsys baseline`, or name a version that `recsys run` made"
        )
    in_run = folder.name == BUNDLE and folder.parent.name == "index"
    version = folder.parents[1].name if in_run else folder.name
    place = training or (folder.parents[1] if in_run else _kept_beside(folder))
    parent = Parent(folder, version, place)
    _check(parent, in_run=in_run)
    return parent


def _kept_beside(folder: Path) -> Path:
    """Return where `publish` keeps the training state of a version."""
    home = folder.parent.parent  # <root>/<name>/versions/<version>
    return training_folder(home.parent, home.name, folder.name)


def _check(parent: Parent, *, in_run: bool) -> None:
    missing = [name for name in NEEDED if read_manifest(parent.step(name)) is None]
    if missing:
        raise UserError(
            f"{parent.version} cannot be trained on: {parent.training} lacks {', '.join(missing)} (teacher and "
            "prepared log); give --training with the folder of the run that made it (runs/NAME), or run `recsys run` "
            "again with publish.keep_training=true"
        )
    if in_run:
        return
    try:
        lineage = json.loads((parent.bundle / "lineage.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # a folder that nobody published: nothing to compare with
    for name, digest in parent.digests().items():
        if name in lineage and lineage[name].get("digest") != digest:
            raise UserError(
                f"{parent.training} has made another {name} since it made {parent.version}; go on from the version "
                "that it made last, or give --training with a folder that still has the old one"
            )


def config_of(parent: Parent, overrides: Sequence[str]) -> RunConfig:
    """Return the settings that made the parent, overridden; raises UserError if they are missing or refused."""
    found = [path for path in (parent.bundle / "run.json", parent.training / "config.json") if path.is_file()]
    if not found:
        raise UserError(
            f"{parent.version} has no run.json and {parent.training} no config.json, one is needed; give --training "
            "with the folder of the run that made it"
        )
    raw = json.loads(found[0].read_text(encoding="utf-8"))
    for override in overrides:
        put_override(raw, override)
    return validate_config(raw, f"settings of {parent.version}")

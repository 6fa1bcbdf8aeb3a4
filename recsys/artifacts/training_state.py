"""What training needs to go on from a version and serving does not: kept beside the version, not in it.

    <root>/<name>/training/<version>/prepare/ pretrain/ metatrain/ distill/     as the steps left them

Files are given a second name instead of being copied where the file system can, so keeping them costs no room while the
run's folder is there, and a run that trains again takes nothing away: steps replace folders and never change a file.
Removing `training/` frees the room and ends only the going on.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from recsys.artifacts.files import files_below, sync_tree

NEEDED: Final = ("prepare", "pretrain", "metatrain", "distill")  # steps to go on from


def training_folder(root: Path, name: str, version: str) -> Path:
    """Return where a version's training state is, if it was kept."""
    return root / name / "training" / version


def keep_training(root: Path, name: str, version: str, steps: Mapping[str, Path]) -> Path:
    """Keep the folders of some steps beside a version; one that is kept already stays as it is."""
    final = training_folder(root, name, version)
    if final.is_dir():
        return final
    staging = final.with_name(f".tmp-{version}-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    for step, folder in steps.items():
        for path in files_below(folder):
            target = staging / step / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(folder / path, target)
            except OSError:  # another file system, or one without links
                shutil.copyfile(folder / path, target)
    sync_tree(staging)
    try:
        staging.rename(final)
    except OSError:  # somebody else has kept it meanwhile
        shutil.rmtree(staging)
    return final

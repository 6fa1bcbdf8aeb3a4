"""What a notebook begins with, in one line each: a log's tables as frames, a bundle, a recommender.

Imports of weight are inside the functions: whoever imports any part of `recsys` runs this file, the endpoint too.
"""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from recsys.artifacts.bundle import PolicyBundle, QBundle
    from recsys.recommender import Recommender


def load_events(log: str | PathLike[str]) -> "pd.DataFrame":
    """Return the event table of a log as a frame, in the order of the file.

    `log` is a folder of tables, a prepared log, a Parquet file or a folder of Parquet parts. Columns of the event table
    that the file lacks are empty. Raises UserError if there is nothing to read or a needed column is missing.
    """
    from recsys.frames.tables import read_events

    return read_events(Path(log))


def load_items(log: str | PathLike[str]) -> "pd.DataFrame":
    """Return the item table beside a log, by item id; raises UserError if there is none."""
    from recsys.frames.tables import read_items

    return read_items(Path(log))


def load_users(log: str | PathLike[str]) -> "pd.DataFrame":
    """Return the user table beside a log, by user id; raises UserError if there is none."""
    from recsys.frames.tables import read_users

    return read_users(Path(log))


def load_bundle(
    where: str | PathLike[str], version: str = "champion", name: str = "metaq"
) -> "QBundle | PolicyBundle":
    """Return a bundle: that of a folder, or a version or alias of a registry.

    Raises UserError if there is none, or its files are damaged.
    """
    from recsys.artifacts import bundle

    return bundle.load_bundle(_folder(Path(where), version, name))


def load_recommender(
    where: str | PathLike[str], version: str = "champion", name: str = "metaq"
) -> "Recommender":
    """Return what serves a bundle; `where` as for `load_bundle`."""
    from recsys import recommender

    return recommender.load_recommender(_folder(Path(where), version, name))


def _folder(where: Path, version: str, name: str) -> Path:
    from recsys.artifacts.bundle_info import DESCRIPTION
    from recsys.artifacts.registry import Registry

    return where if (where / DESCRIPTION).is_file() else Registry(where).resolve(name, version)

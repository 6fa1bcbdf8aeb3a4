"""The folder that a log is written to, made ready without ever touching what is not ours."""

from pathlib import Path

from recsys.errors import UserError

_OURS = ("prepared.json", "quarantine.csv")  # one of them is there from the first moment of a run


def prepared_folder(out: Path, log: Path) -> None:
    """Empty a folder for a prepared log.

    Raises UserError if it is a file, holds the log itself, or holds events that `prepare` did not write.
    """
    _refuse(out, log)
    foreign = [name for name in ("events", "arrays") if (out / name).exists()]
    if foreign and not any((out / name).exists() for name in _OURS):
        raise UserError(f"{out} holds {' and '.join(foreign)} of another origin; choose an empty folder")
    (out / "prepared.json").unlink(missing_ok=True)  # first: what follows is no longer a prepared log
    for name, pattern in (("events", "part-*.parquet"), ("arrays", "*.npy")):
        (out / name).mkdir(parents=True, exist_ok=True)
        for path in (out / name).glob(pattern):
            path.unlink()


def export_folder(out: Path, log: Path) -> None:
    """Clear a folder of an earlier export; raises UserError if it is a file or holds the log itself."""
    _refuse(out, log)
    out.mkdir(parents=True, exist_ok=True)
    (out / "events.parquet").unlink(missing_ok=True)
    for path in (out / "events").glob("part-*.parquet"):
        path.unlink()


def _refuse(out: Path, log: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, must be a folder; choose another name")
    if log.resolve().is_relative_to(out.resolve()):
        raise UserError(f"{out} holds the log {log} itself and would overwrite it; choose another folder")

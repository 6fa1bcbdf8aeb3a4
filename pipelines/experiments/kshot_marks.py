"""Every user's marks on disk, and the k-shot table: means over seeds, paired differences by seed and over all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.errors import UserError
from recsys.evaluation.intervals import bootstrap_mean
from recsys.randomness import numpy_generator
from recsys.types import FloatArray, LongArray

RESAMPLES, CONFIDENCE = 2_000, 0.95


@dataclass(frozen=True)
class MarkedUsers:
    """What one policy earned from each user after each number of events."""

    shots: LongArray  # (shots,)
    users: LongArray  # (user,) history of the prepared log
    ndcg: FloatArray  # (shots, user)
    recall: FloatArray  # (shots, user)


def save_marks(folder: Path, seed: int, name: str, key: str, marks: MarkedUsers) -> None:
    """Keep a policy's marks with what they depend on."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{seed}-{name}.npz", key=np.array(key), **vars(marks))


def load_marks(folder: Path, seed: int, name: str, key: str | None = None) -> MarkedUsers | None:
    """Return the kept marks of a policy, or None: there are none, or they are of another key."""
    path = folder / f"{seed}-{name}.npz"
    if not path.exists():
        return None
    with np.load(path) as kept:
        if key is not None and json.loads(str(kept["key"])) != json.loads(key):
            return None
        return MarkedUsers(kept["shots"], kept["users"], kept["ndcg"], kept["recall"])


def kept_marks(folder: Path, seeds: Sequence[int]) -> dict[str, dict[int, MarkedUsers]]:
    """Return all kept marks, policy -> seed; raises UserError where those of one seed are of different users."""
    found: dict[str, dict[int, MarkedUsers]] = {}
    for seed in seeds:
        first: MarkedUsers | None = None
        for path in sorted(folder.glob(f"{seed}-*.npz")):
            name = path.stem.removeprefix(f"{seed}-")
            marks = load_marks(folder, seed, name)
            if marks is None:
                continue
            first = first or marks
            if not (np.array_equal(first.users, marks.users) and np.array_equal(first.shots, marks.shots)):
                raise UserError(f"{path} marks other users or shots than its neighbours; delete one of them")
            found.setdefault(name, {})[seed] = marks
    return found


def markdown(folder: Path, seeds: Sequence[int], ours: str) -> str:
    """Return the table of a folder: NDCG@10 and Recall@20 by policy, and `ours` minus each by seed."""
    found = kept_marks(folder, seeds)
    if not found:
        raise UserError(f"{folder} holds no marks of seeds {list(seeds)}; run without --table first")
    shots = next(iter(next(iter(found.values())).values())).shots
    lines = []
    for metric in ("ndcg", "recall"):
        title = "NDCG@10" if metric == "ndcg" else "Recall@20"
        lines += [_row([title, "seeds", *(f"k = {k}" for k in shots)]), "|---" * (len(shots) + 2) + "|"]
        for name, by_seed in found.items():
            means = np.mean([getattr(marks, metric).mean(axis=1) for marks in by_seed.values()], axis=0)
            lines.append(_row([name, str(len(by_seed)), *(f"{value:.4f}" for value in means)]))
        for name, by_seed in found.items():
            gaps, users = [], []
            for seed, marks in by_seed.items():
                if name != ours and seed in found.get(ours, {}):
                    gaps.append(getattr(found[ours][seed], metric) - getattr(marks, metric))
                    users.append(marks.users)
                    cells = [
                        _interval(row, seed, f"{name}-{k}") for row, k in zip(gaps[-1], shots, strict=True)
                    ]
                    lines.append(_row([f"{ours} − {name}", f"seed {seed}", *cells]))
            if len(gaps) > 1:
                pooled = by_user(np.concatenate(gaps, axis=1), np.concatenate(users))
                cells = [_interval(row, 0, f"{name}-{k}") for row, k in zip(pooled, shots, strict=True)]
                lines.append(_row([f"{ours} − {name}", f"all, {pooled.shape[1]} users", *cells]))
        lines.append("")
    sizes = {seed: len(marks.users) for by_seed in found.values() for seed, marks in by_seed.items()}
    return "\n".join([*lines, f"test users by seed: {sizes}"])


def by_user(values: FloatArray, users: LongArray) -> FloatArray:
    """Return the mean of each user's columns, (shots, distinct user): a user of several seeds is one user."""
    distinct, of_user = np.unique(users, return_inverse=True)
    summed = np.stack([np.bincount(of_user, row, len(distinct)) for row in values])
    means: FloatArray = summed / np.bincount(of_user, minlength=len(distinct))
    return means


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(values: FloatArray, seed: int, name: str) -> str:
    found = bootstrap_mean(values, RESAMPLES, CONFIDENCE, numpy_generator(seed, f"kshot-{name}"))
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"

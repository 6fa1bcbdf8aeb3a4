"""A made log in canonical tables: users of two tastes, later users and items, for training that goes on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.logs.schema import EVENTS

START = datetime(2024, 1, 1, tzinfo=UTC)
GATES = (  # a Q-function of two epochs is not sound
    "publish.max_over_estimation=1000",
    "publish.max_calibration_error=1000",
    "publish.max_unsupported_argmax=1",
)
TINY = (
    "prepare.content_features=8",
    "state.max_events=20",
    "model.item_features=8",
    "model.hidden=8",
    "factors.features=16",
    "memory.features=16",
    "memory.folds=2",
    "pretrain.epochs=2",
    "pretrain.warmup_epochs=1",
    "pretrain.batch_size=32",
    "pretrain.negatives=32",
    "metatrain.epochs=1",
    "metatrain.negatives=32",
    "metatrain.amortised_features=0",
    "metatrain.max_support=5",
    "distill.hidden=8",
    "distill.epochs=1",
    "distill.teacher_top=10",
    "distill.random_candidates=10",
    "evaluate.shots=[0, 1, 3]",
    "evaluate.bootstrap=50",
    *GATES,
)


def item_name(taste: int, number: int) -> str:
    return f"{'ab'[taste]}{number:02d}"


def events(first_user: int, users: int, items: range, day: int, seed: int) -> pa.Table:
    """Return ten purchases each of some users, in two sessions, all of the user's taste."""
    chance = np.random.default_rng(seed)
    rows = []
    for user in range(first_user, first_user + users):
        taken = chance.permutation(list(items))[:10]
        for place, number in enumerate(taken.tolist()):
            session = f"u{user}-{day}-{place // 5}"
            moment = START + timedelta(
                days=day + 20 * (user - first_user) / users + place // 5, minutes=place
            )
            item = item_name(user % 2, number)
            rows.append((f"{session}-{item}", f"u{user}", session, moment, item, "purchase", 1.0))
    names = EVENTS.names[:7]
    columns = list(zip(*rows, strict=True))
    return pa.table(
        {
            field.name: pa.array(columns[names.index(field.name)], field.type)
            if field.name in names
            else pa.nulls(len(rows), field.type)
            for field in EVENTS
        },
        schema=EVENTS,
    )


def items(numbers: range) -> pa.Table:
    both = [(taste, number) for taste in (0, 1) for number in numbers]
    return pa.table(
        {
            "item_id": [item_name(*each) for each in both],
            "title": [
                f"{('red wooden', 'blue woollen')[taste]} thing {number % 5}" for taste, number in both
            ],
            "price": [float(1 + number) for _, number in both],
        }
    )


def write_tables(folder: Path, log: pa.Table, catalogue: pa.Table | None = None) -> Path:
    folder.mkdir(parents=True)
    pq.write_table(log, folder / "events.parquet")
    if catalogue is not None:
        pq.write_table(catalogue, folder / "items.parquet")
    return folder

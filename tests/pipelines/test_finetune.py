"""Going on from a bundle: what must stay, what must be learnt, what is said when something is missing."""

import io
import json
import shutil
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from two_tastes import GATES, TINY, events, item_name, items, write_tables

from pipelines import finetune_teacher
from pipelines.configuration import resolve_config
from pipelines.finetune import Finetuned, finetune
from pipelines.improve import improve
from pipelines.loop_round import Asked
from pipelines.parent import find_parent
from pipelines.runner import run_steps
from pipelines.stages import NAMES, all_steps
from recsys.artifacts.bundle import QBundle, load_bundle
from recsys.artifacts.journal import Journal
from recsys.artifacts.registry import Registry
from recsys.errors import UserError
from recsys.logs.prepared import open_prepared
from recsys.recommender import Recommender, load_recommender
from tests.evaluation.replay.served_log import served_log, world


class Made(NamedTuple):
    home: Path
    new: Path
    parent: str
    child: Finetuned


def settings(home: Path) -> list[str]:
    return [
        f"prepare.log.path={home / 'old'}",
        "name=before",
        f"output={home / 'runs'}",
        f"publish.registry={home / 'registry'}",
        "publish.name=metaq",
        *TINY,
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A published bundle of 120 users and 30 items, and what came of 60 later users and four later items."""
    home = tmp_path_factory.mktemp("moving")
    write_tables(home / "old", events(0, 120, range(15), day=0, seed=1), items(range(15)))
    config = resolve_config("smoke", ["prepare.split.test_from=none", *settings(home)])
    run_steps(config, all_steps(), NAMES, Console(quiet=True))
    new = write_tables(home / "new", events(120, 60, range(5, 17), day=30, seed=2), items(range(17)))
    child = finetune(
        "champion",
        [new],
        overrides=GATES,
        registry=home / "registry",
        output=home / "runs",
        run_name="after",
    )
    return Made(home, new, Registry(home / "registry").aliases("metaq")["champion"], child)


def bundles(made: Made) -> tuple[QBundle, QBundle]:
    before = load_bundle(Registry(made.home / "registry").resolve("metaq", made.parent))
    after = load_bundle(made.child.bundle)
    assert isinstance(before, QBundle)
    assert isinstance(after, QBundle)
    return before, after


def test_known_items_keep_their_place_and_their_vectors_to_the_bit(made: Made) -> None:
    before, after = bundles(made)
    known = len(before.catalogue)
    assert known == 30
    assert after.catalogue.item_ids[:known] == before.catalogue.item_ids
    had = before.popularity > 0
    assert had.sum() == 30
    assert after.table.vectors[:known][had].equal(before.table.vectors[had])
    assert after.table.features[:known][had].equal(before.table.features[had])
    assert not after.table.bias[:known].equal(before.table.bias)  # popularity has moved
    assert made.child.continuity["largest_vector_move"] == 0


def test_new_items_have_vectors_and_are_recommended_to_whom_they_suit(made: Made) -> None:
    after = bundles(made)[1]
    assert after.catalogue.item_ids[30:] == ("a15", "a16", "b15", "b16")
    assert made.child.new_items == 4
    assert (after.table.vectors[30:].norm(dim=1) > 0).all()
    recommender = Recommender(after)
    scores = {}
    for taste in (0, 1):
        liked = [item_name(taste, number) for number in range(5, 10)]
        history = recommender.history([], {})
        index = np.array([after.catalogue.index_of[each] for each in liked], np.int32)
        zeros = np.zeros(5)
        purchase = after.info.event_types.index("purchase")
        history = type(history)(
            index,
            np.full(5, purchase, np.int8),
            np.ones(5, np.float32),
            (zeros + 1_700_000_000).astype(np.int64),
            zeros.astype(np.int32),
            history.attributes,
        )
        shown = recommender.recommend(history, 34, seed=0, greedy=True)
        scores[taste] = dict(zip(after.catalogue.ids(shown.items), shown.scores, strict=True))
    for number in (15, 16):
        assert scores[0][item_name(0, number)] > scores[1][item_name(0, number)]
        assert scores[1][item_name(1, number)] > scores[0][item_name(1, number)]


def test_the_version_says_where_it_comes_from(made: Made) -> None:
    assert made.child.parent == made.parent
    assert Registry(made.home / "registry").aliases("metaq") == {
        "champion": made.parent,
        "challenger": made.child.version,
    }
    told = json.loads((made.child.bundle / "parent.json").read_text())
    assert told["parent"] == made.parent
    assert told["new_events"] == made.child.new_events == 600
    assert told["new_since"] < "2024-01-31"  # the parent's own test period is new to training too
    card = (made.child.bundle / "card.md").read_text()
    assert f"Fine-tuned from {made.parent}, which had been trained until " in card
    assert "| new items | 4 |" in card
    assert "| largest move of a known item's vector, over the mean length | 0 |" in card
    for section in ("## Limits", "## Adaptation curve", "## Health of the Q-function"):
        assert section in card


def test_nobody_who_trained_before_is_asked_about(made: Made) -> None:
    before = open_prepared(made.home / "runs/before/prepare")
    after = open_prepared(made.child.run / "prepare")
    roles = {}
    for log in (before, after):
        users = pq.read_table(log.root / "users.parquet")["user_id"].to_pylist()
        roles[log.root] = {
            users[user]: role for user, role in zip(log.history_user, log.history_role, strict=True)
        }
    trained = {user for user, role in roles[before.root].items() if role == 0}
    asked = {user for user, role in roles[after.root].items() if role != 0}
    assert trained
    assert asked
    assert not trained & asked


def test_the_same_again_keeps_every_step(made: Made) -> None:
    again = finetune(
        "champion",
        [made.new],
        overrides=GATES,
        registry=made.home / "registry",
        output=made.home / "runs",
        run_name="after",
    )
    assert again.version == made.child.version
    assert again.seconds == made.child.seconds


def test_it_goes_on_from_what_was_gone_on_from_and_counts_events_once(made: Made, tmp_path: Path) -> None:
    later = write_tables(tmp_path / "later", events(180, 20, range(10, 17), day=60, seed=3))
    child = finetune(
        str(made.child.version),
        [made.new, later],
        overrides=["finetune.test_share=0"],
        registry=made.home / "registry",
        output=tmp_path / "runs",
        evaluate=False,
        to_registry=False,
    )
    assert child.version is None
    assert child.parent == made.child.version
    assert child.new_events == 140  # seven each: what the parent had read does not count again
    assert child.new_items == 0
    assert child.continuity["largest_vector_move"] == 0
    info = open_prepared(child.run / "prepare").info
    assert info.test_from == info.last_event
    assert child.evaluation["policies"] == {}


def test_sessions_that_the_endpoint_left_unnamed_are_cut_by_silence(made: Made, tmp_path: Path) -> None:
    log = events(200, 4, range(10), day=90, seed=4)
    unnamed = log.set_column(2, "session_id", pa.nulls(len(log), pa.string()))
    path = tmp_path / "export.parquet"
    pq.write_table(unnamed, path)
    child = finetune(
        str(made.home / "runs/before"),
        [path],
        overrides=["finetune.test_share=0"],
        output=tmp_path / "runs",
        evaluate=False,
        to_registry=False,
    )
    assert child.new_events == 40
    prepared = open_prepared(child.run / "prepare")
    assert prepared.info.sessions == open_prepared(made.home / "runs/before/prepare").info.sessions + 8


def test_a_moved_vector_is_seen(made: Made, tmp_path: Path) -> None:
    child = finetune(
        "champion",
        [made.new],
        overrides=["finetune.frozen=[]", "finetune.learning_rate=0.01"],
        registry=made.home / "registry",
        output=tmp_path / "runs",
        evaluate=False,
        to_registry=False,
    )
    assert child.continuity["largest_vector_move"] > 0.001


def test_what_is_missing_is_named_with_its_remedy(made: Made, tmp_path: Path) -> None:
    registry = made.home / "registry"
    with pytest.raises(UserError, match="no 'nobody' of metaq"):
        find_parent("nobody", registry, "metaq")
    kept = registry / "metaq" / "training" / made.parent
    shutil.move(kept / "metatrain", tmp_path / "metatrain")
    try:
        with pytest.raises(UserError, match=r"lacks metatrain .*--training with the folder of the run"):
            find_parent("champion", registry, "metaq")
        found = find_parent("champion", registry, "metaq", made.home / "runs/before")
        assert found.version == made.parent
        with pytest.raises(UserError, match="has made another prepare since it made"):
            find_parent("champion", registry, "metaq", made.child.run)
    finally:
        shutil.move(tmp_path / "metatrain", kept / "metatrain")
    with pytest.raises(UserError, match=r"no new events at .*nowhere"):
        finetune("champion", [tmp_path / "nowhere"], registry=registry, output=tmp_path / "runs")
    with pytest.raises(UserError, match="content_features is 9, must be 8"):
        finetune(
            "champion",
            [made.new],
            overrides=["prepare.content_features=9"],
            registry=registry,
            output=tmp_path,
        )


def test_the_loop_goes_on_from_the_champion(made: Made, tmp_path: Path) -> None:
    """`recsys improve` by fine-tuning: the child knows nothing from the cut on, and can be gone on from again."""
    shutil.copytree(made.home / "registry", tmp_path / "registry")
    champion = load_recommender(Registry(tmp_path / "registry").resolve("metaq", made.parent))
    log = served_log(champion, world(len(champion.catalogue)), users=150, requests=3, length=1)
    later = pc.add(log["timestamp"], timedelta(days=365))  # than all that the parent has learnt from
    log = log.set_column(log.column_names.index("timestamp"), "timestamp", later)
    pq.write_table(log, tmp_path / "traffic.parquet")
    config = resolve_config(
        "smoke",
        [
            "prepare.split.test_from=none",
            *settings(made.home),
            f"output={tmp_path / 'runs'}",
            f"publish.registry={tmp_path / 'registry'}",
            "improve.how=finetune",
            f"improve.finetune={json.dumps(list(GATES))}",
            "improve.self_test=false",
            "improve.max_p95_ms=5000",
            "improve.min_new_lists=100",
        ],
    )
    heard = io.StringIO()
    code = improve(config, Asked(log=tmp_path / "traffic.parquet"), Console(file=heard))
    line = Journal(tmp_path / "registry" / "metaq").lines()[-1]
    assert code in (0, 1, 3), heard.getvalue()
    assert "replayed" in line, line["why"]
    assert line["champion"] == made.parent
    assert line["continuity"]["largest_vector_move"] == 0
    child = Registry(tmp_path / "registry").resolve("metaq", line["challenger"])
    assert json.loads((child / "evaluation.json").read_text())["trained_until"] == line["replayed_from"]
    assert json.loads((child / "lineage.json").read_text())["loop"]["parent"] == made.parent
    assert json.loads((child / "parent.json").read_text())["parent"] == made.parent
    assert (child / "health.json").is_file()
    assert line["health"] == "measured"
    assert find_parent(line["challenger"], tmp_path / "registry", "metaq").digests()
    cut = datetime.fromisoformat(line["replayed_from"])
    taught = pc.sum(pc.less(log["timestamp"], pa.scalar(cut, log["timestamp"].type))).as_py()
    assert line["live_events"] == taught


def test_a_feed_goes_on_from_its_last_updates_whatever_validation_says(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = count()
    monkeypatch.setattr(finetune_teacher, "validation_quality", lambda *_: -float(next(falling)))
    moved = {}
    for keep in ("best_epoch", "target_network"):
        child = finetune(
            made.parent,
            [made.new],
            overrides=[f"pretrain.keep={keep}", "pretrain.terminal=history"],
            registry=made.home / "registry",
            output=tmp_path,
            run_name=keep,
            evaluate=False,
            to_registry=False,
        )
        moved[keep] = (child.run / "pretrain" / "teacher.safetensors").read_bytes()
        told = json.loads((child.run / "pretrain" / "step.json").read_text())["summary"]
        assert (told["best_epoch"] > 0) == (keep == "target_network")
    assert moved["best_epoch"] != moved["target_network"]

"""A run on one log that starts from a bundle of another: what it says, what it refuses, what makes it stale."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from two_tastes import TINY, events, items, write_tables

from pipelines.configuration import resolve_config
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from pipelines.transfer import transfer
from recsys.config import RunConfig
from recsys.errors import UserError
from recsys.learning.checkpoint import load_teacher

SHARED = ("prepare.content_space=shared", "prepare.split.kind=users", "prepare.split.test_from=none", *TINY)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run `there`, in the shared space, and of the tables of another shop."""
    home = tmp_path_factory.mktemp("shops")
    write_tables(home / "old", events(0, 100, range(15), day=0, seed=1), items(range(15)))
    write_tables(home / "new", events(500, 60, range(8, 24), day=0, seed=5), items(range(8, 24)))
    run_steps(config(home, "there", "old"), all_steps(), ["index"], Console(quiet=True))
    return home


def config(home: Path, name: str, log: str, *more: str) -> RunConfig:
    places = [f"name={name}", f"output={home / 'runs'}", f"publish.registry={home / 'registry'}"]
    return resolve_config("smoke", [f"prepare.log.path={home / log}", *SHARED, *places, *more])


def warm(home: Path, *more: str) -> tuple[str, ...]:
    places = ["name=here", f"output={home / 'runs'}", f"publish.registry={home / 'registry'}"]
    return (*SHARED, *places, *more)


def test_the_card_says_where_a_warm_run_began(home: Path) -> None:
    resolved, outcomes = transfer(str(home / "runs/there"), "smoke", warm(home), log=home / "new")
    assert [outcome.step for outcome in outcomes][-1] == "publish"
    told = json.loads((home / "runs/here/pretrain/parent.json").read_text())
    assert told["matched_items"] == 14  # eight to fourteen, of both tastes
    card = (home / "runs/here/publish/card.md").read_text()
    assert "Warm-started from there, which had been trained until " in card
    assert "| matched items | 14 |" in card
    again = run_steps(resolved, all_steps(), ["metatrain"], Console(quiet=True))
    assert all(outcome.kept for outcome in again)


def test_what_is_frozen_to_the_end_is_what_the_source_left(home: Path) -> None:
    frozen = config(
        home,
        "frozen",
        "new",
        f"transfer.source={home / 'runs/there'}",
        "transfer.frozen_epochs=2",
        "transfer.match=nothing",
    )
    run_steps(frozen, all_steps(), ["pretrain"], Console(quiet=True))
    source, made = (
        load_teacher(folder, 0.1).state_dict()
        for folder in (home / "runs/there/metatrain", home / "runs/frozen/pretrain")
    )
    for name in (
        "states.encoder.gru.weight_hh_l0",
        "states.tokens.project.weight",
    ):
        assert made[name].equal(source[name])
    assert not made["states.advantage.weight"].equal(source["states.advantage.weight"])
    assert json.loads((home / "runs/frozen/pretrain/parent.json").read_text())["matched_items"] == 0


def test_a_source_in_another_space_or_shape_is_refused_with_the_remedy(home: Path) -> None:
    source = f"transfer.source={home / 'runs/there'}"
    apart = config(home, "apart", "new", source, "prepare.content_space=fitted")
    with pytest.raises(
        UserError, match=r"this run fitted in 8, must be shared .* set prepare.content_space=shared"
    ):
        run_steps(apart, all_steps(), ["pretrain"], Console(quiet=True))
    wide = config(home, "wide", "new", source, "model.hidden=12")
    with pytest.raises(
        UserError, match=r"the source is another network \(states\..* give model, memory.features"
    ):
        run_steps(wide, all_steps(), ["pretrain"], Console(quiet=True))
    nowhere = config(home, "nowhere", "new", f"transfer.source={home / 'runs/nobody'}")
    with pytest.raises(UserError, match="has no finished prepare; give the folder of a run"):
        run_steps(nowhere, all_steps(), ["pretrain"], Console(quiet=True))

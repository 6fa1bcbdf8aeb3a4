"""Items without a history, end to end on a log of two tastes whose titles tell them apart."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console
from two_tastes import TINY, events, items, write_tables

from pipelines.configuration import resolve_config
from pipelines.experiments.kshot_marks import load_marks
from pipelines.experiments.new_items import main
from pipelines.index import with_content_rows
from pipelines.publish import BUNDLE
from pipelines.runner import run_steps
from pipelines.stages import all_steps
from recsys.artifacts.bundle import load_bundle
from recsys.catalogue import Catalogue
from recsys.models.item_table import ItemTable


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty users who know fifteen items of their taste, then sixty who buy five more as well."""
    early, late = events(0, 60, range(15), day=0, seed=1), events(60, 60, range(20), day=30, seed=2)
    return write_tables(
        tmp_path_factory.mktemp("new") / "log", pa.concat_tables([early, late]), items(range(20))
    )


def overrides(log: Path) -> list[str]:
    own = (f"prepare.log.path={log}", "prepare.split.test_from=2024-01-25T00:00:00Z", "evaluate.shots=[0, 3]")
    return [part for each in (*TINY, *own) for part in ("--set", each)]


def test_content_brings_new_items_to_those_who_like_their_kind(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        [
            "--seeds",
            "1",
            "--marks",
            str(tmp_path / "marks"),
            "--runs",
            str(tmp_path / "runs"),
            *overrides(log),
        ]
    )
    marks = {
        name: load_marks(tmp_path / "marks" / "new", 1, name) for name in ("trained", "content", "shuffled")
    }
    told = {name: found.ndcg[1].mean() for name, found in marks.items() if found is not None}
    assert told["content"] > told["shuffled"] + 0.1
    assert told["content"] > told["trained"] + 0.1
    assert "| content − trained |" in capsys.readouterr().out


def test_seen_items_keep_their_rows_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    table = ItemTable.of(*(torch.randn(*shape, generator=generator) for shape in ((4, 3), (4,), (4, 2))))
    unseen = np.array([False, True, False, False])
    titles = ("red cup", "red cup", "blue bag", "blue bag")
    ids = ("a", "b", "c", "d")
    catalogue = Catalogue(ids, titles, ((),) * 4, np.full(4, np.nan, np.float32), np.ones(4, bool))
    found = with_content_rows(table, catalogue, unseen)
    for before, after in zip(
        (table.vectors, table.bias, table.features), (found.vectors, found.bias, found.features), strict=True
    ):
        assert torch.equal(before[~torch.from_numpy(unseen)], after[~torch.from_numpy(unseen)])
        torch.testing.assert_close(after[1], before[0])  # the one that shares its words
    assert with_content_rows(table, catalogue, np.zeros(4, bool)) is table


def test_the_bundle_has_the_rows_that_the_setting_asks_for(log: Path, tmp_path: Path) -> None:
    tables = {}
    for unseen in ("trained", "content"):
        settings = [f"name={unseen}", f"output={tmp_path}", "seed=1", f"index.unseen={unseen}"]
        config = resolve_config("default", [*overrides(log)[1::2], *settings])
        folder = run_steps(config, all_steps(), ("index",), Console(stderr=True))[-1].folder
        bundle = load_bundle(folder / BUNDLE)
        tables[unseen] = bundle.table.vectors
        seen = bundle.popularity > 0
    assert 0 < (~seen).sum() < len(seen)
    same = (tables["trained"] == tables["content"]).all(dim=1).numpy()
    assert np.array_equal(same, seen)

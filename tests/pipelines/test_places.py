"""What is refused before any cluster is asked."""

from pathlib import Path

import pytest

from pipelines.places import Where, placed_steps
from pipelines.serve import Served, serve_replicas
from recsys.errors import UserError


def test_several_workers_here_are_refused_with_a_remedy() -> None:
    with (
        pytest.raises(UserError, match=r"--workers is 2, must be 1 here; give --on ray"),
        placed_steps(Where.HERE, None, 2),
    ):
        pass


def test_replicas_need_a_database_that_all_of_them_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECSYS_DATABASE", raising=False)
    with pytest.raises(UserError, match=r"RECSYS_DATABASE is not set"):
        serve_replicas(Served(registry=tmp_path), host="127.0.0.1", port=1, replicas=2, address=None)

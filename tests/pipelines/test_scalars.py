"""Training curves come back as they were written."""

from pathlib import Path

import pytest

from pipelines.scalars import TensorBoardScalars, read_scalars
from recsys.errors import UserError


def test_points_come_back_by_name_in_order(tmp_path: Path) -> None:
    written = TensorBoardScalars(tmp_path / "pretrain")
    for update in (20, 40, 60):
        written.add("pretrain/td", 1.0 / update, update)
        written.add("health/over_estimation", 1.5, update)
    written.close()
    got = read_scalars(tmp_path / "pretrain")
    td = got[got["name"] == "pretrain/td"]
    assert td["update"].to_list() == [20, 40, 60]
    assert td["value"].to_list() == pytest.approx([1 / 20, 1 / 40, 1 / 60])
    assert set(got["name"]) == {"pretrain/td", "health/over_estimation"}


def test_a_folder_without_curves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training curves"):
        read_scalars(tmp_path)

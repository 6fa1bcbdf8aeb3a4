"""Figures of the Q-function that were written are read back as they were."""

import json
from pathlib import Path

import numpy as np

from recsys.learning.health import CalibrationBin, QHealth, read_health


def test_what_was_written_is_read_back_and_what_was_unknown_stays_unknown(tmp_path: Path) -> None:
    bins = (CalibrationBin(0.5, 0.25, 10), CalibrationBin(1.5, 1.75, 12))
    health = QHealth(2.0, 1.0, float("nan"), 0.1, 0.2, 0.3, 0.25, bins)
    path = tmp_path / "health.json"
    path.write_text(json.dumps(health.plain()), encoding="utf-8")
    got = read_health(path)
    assert got.calibration == bins
    assert (got.mean_max_q, got.calibration_error, got.over_estimation) == (2.0, 0.25, 2.0)
    assert np.isnan(got.unsupported_argmax)

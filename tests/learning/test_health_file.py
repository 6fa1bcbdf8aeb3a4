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
    assert np.isnan(got.over_promise)


def test_a_promise_is_read_back_and_files_of_before_have_none(tmp_path: Path) -> None:
    health = QHealth(2.0, 1.0, 0.0, 0.1, 0.2, 0.3, 0.25, (), promised=3.0, fitted_value=2.0)
    path = tmp_path / "health.json"
    path.write_text(json.dumps(health.plain()), encoding="utf-8")
    assert read_health(path).over_promise == 1.5
    told = json.loads(path.read_text())
    assert told["over_promise"] == 1.5
    for name in ("promised", "fitted_value", "over_promise"):
        del told[name]
    path.write_text(json.dumps(told), encoding="utf-8")
    assert np.isnan(read_health(path).over_promise)


def test_a_policy_that_brings_nothing_has_no_ratio() -> None:
    lossy = QHealth(2.0, 1.0, 0.0, 0.1, 0.2, 0.3, 0.25, (), promised=3.0, fitted_value=-0.1)
    assert lossy.plain()["over_promise"] is None

"""`python -m serving` ends with one line where it could never answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"HISTORY": "/nope"}, "serving: no events at /nope; set RECSYS_HISTORY"),
        ({"BUNDLE": None}, "serving: no 'champion' of metaq in registry"),
    ],
)
def test_what_can_never_be_ready_ends_at_once(bundle, tmp_path, settings, says):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
    chosen = {"BUNDLE": str(bundle), **settings}
    environment |= {f"RECSYS_{name}": value for name, value in chosen.items() if value is not None}
    ended = subprocess.run(
        [sys.executable, "-m", "serving"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(says)
    assert ended.stderr.count("\n") == 1

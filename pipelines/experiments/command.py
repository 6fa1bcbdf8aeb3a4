"""An experiment as a command: what its user got wrong ends it with one line and exit code 2, as with `recsys`.

Its file may grow by one training at a time, so that a stopped run goes on; `opened_report` takes up what is there.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recsys.errors import UserError


def run_command(main: Callable[[], object]) -> None:
    """Run it; a UserError is told in one line."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def opened_report(out: Path, log: str, overrides: Sequence[str], part: str) -> dict[str, Any]:
    """Return the report of an earlier run of the same question, or one whose `part` is empty, with its folder made.

    Raises UserError if the file holds the report of another log or of other overrides.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if not out.exists():
        return {"log": log, "set": list(overrides), part: {}}
    report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    if report["log"] != log or report["set"] != list(overrides):
        raise UserError(
            f"{out} holds {report['log']} with --set {report['set']}, must be {log} with --set {list(overrides)}; "
            "give another --out"
        )
    return report

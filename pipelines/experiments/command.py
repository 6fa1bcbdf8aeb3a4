"""An experiment as a command: what its user got wrong ends it with one line and exit code 2, as with `recsys`."""

import sys
from collections.abc import Callable

from recsys.errors import UserError


def run_command(main: Callable[[], object]) -> None:
    """Run it; a UserError is told in one line."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None

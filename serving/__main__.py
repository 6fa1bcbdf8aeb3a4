"""`python -m serving`: one worker at RECSYS_HOST and RECSYS_PORT, for containers without the command line."""

import sys
from typing import Final

import uvicorn

from recsys.artifacts.registry import Registry
from recsys.errors import UserError
from serving.app import create_app
from serving.settings import Settings

EXIT_USER_ERROR: Final = 2


def main() -> None:
    """Serve; what would never become ready is one line and exit code 2."""
    settings = Settings()
    try:
        check(settings)
    except UserError as error:
        print(f"serving: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_USER_ERROR) from None
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, access_log=False)


def check(settings: Settings) -> None:
    """Raise UserError if the version is missing or damaged, or if there is no history where one is named."""
    if settings.bundle is None:
        registry = Registry(settings.registry)
        registry.verify(registry.resolve(settings.name, settings.alias))
    if settings.history is not None and not settings.history.exists():
        raise UserError(
            f"no events at {settings.history}; set RECSYS_HISTORY to a Parquet file or a folder of "
            "part-*.parquet, or unset it"
        )


if __name__ == "__main__":
    main()

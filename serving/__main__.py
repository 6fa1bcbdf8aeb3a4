"""`python -m serving`: one worker at RECSYS_HOST and RECSYS_PORT; `python -m serving keys` makes API keys."""

import argparse
import sys
from typing import Final

import uvicorn
from pydantic import ValidationError

from recsys.artifacts.registry import Registry
from recsys.errors import UserError
from serving.app import create_app
from serving.security import SCOPES, add_key, read_keys, remove_key
from serving.settings import Settings

EXIT_USER_ERROR: Final = 2


def main() -> None:
    """Serve, or keep the file of keys; what would never become ready is one line and exit code 2."""
    asked = _arguments()
    try:
        settings = Settings()
        if asked.command == "keys":
            _keys(settings, asked)
            return
        check(settings)
        app = create_app(settings)
    except (UserError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        print(f"serving: {reason}", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_USER_ERROR) from None
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        server_header=False,
        timeout_graceful_shutdown=round(settings.timeout_s),
        timeout_keep_alive=30,
    )


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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    keys = commands.add_parser("keys", help="keep the file of API keys (RECSYS_API_KEYS)")
    what = keys.add_subparsers(dest="what", required=True)
    add = what.add_parser("add", help="make a key and print it, once; only its hash is kept")
    add.add_argument("name")
    add.add_argument("--scopes", default="read", help="by commas, of read, write, admin")
    remove = what.add_parser("remove", help="let a key in no longer; servers notice within a second")
    remove.add_argument("name")
    what.add_parser("list", help="names and scopes")
    return parser.parse_args()


def _keys(settings: Settings, asked: argparse.Namespace) -> None:
    if asked.what == "add":
        scopes = [scope for scope in SCOPES if scope in asked.scopes.split(",")]
        if unknown := set(asked.scopes.split(",")) - set(SCOPES):
            raise UserError(f"no scope {', '.join(sorted(unknown))}; choose of {', '.join(SCOPES)}")
        print(add_key(settings.api_keys, asked.name, scopes))  # noqa: T201
    elif asked.what == "remove":
        remove_key(settings.api_keys, asked.name)
    else:
        for key in read_keys(settings.api_keys):
            print(f"{key.name}: {', '.join(key.scopes)}")  # noqa: T201


if __name__ == "__main__":
    main()

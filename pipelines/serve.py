"""`recsys serve`: hands the process over to the server, which finds the application by its import string."""

import os
import socket
import sys
from pathlib import Path

from recsys.artifacts.registry import Registry
from recsys.errors import UserError

APPLICATION = "serving.app:create_app"


def serve(
    *,
    host: str,
    port: int,
    registry: Path,
    name: str,
    alias: str,
    store: Path | None,
    history: Path | None,
    workers: int,
) -> None:
    """Replace this process by the server; raises UserError if there is nothing to serve or no port for it."""
    Registry(registry).resolve(name, alias)
    _check_free(host, port)
    environment = {
        **os.environ,
        # One request is one small matrix; threads of numerical libraries would only fight over cores. They
        # read this when they load, so a fresh interpreter starts with it.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "RECSYS_REGISTRY": str(registry),
        "RECSYS_NAME": name,
        "RECSYS_ALIAS": alias,
        "RECSYS_HOST": host,
        "RECSYS_PORT": str(port),
    }
    if store is not None:
        environment["RECSYS_STORE"] = str(store)
    if history is not None:
        environment["RECSYS_HISTORY"] = str(history)
    server = ["-m", "uvicorn", APPLICATION, "--factory", "--no-access-log"]
    address = ["--host", host, "--port", str(port), "--workers", str(workers)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(sys.executable, [sys.executable, *server, *address], environment)  # noqa: S606


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another with --host and --port"
            ) from None

"""A real endpoint as a process on loopback, for notebooks and for whoever plays its users."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.serve import APPLICATION
from recsys.errors import UserError

_READY_S = 90.0
_STOP_S = 20.0
_HOST = "127.0.0.1"


@contextmanager
def running_endpoint(
    store: Path, registry: Path, name: str = "metaq", alias: str = "champion", **settings: object
) -> Iterator[str]:
    """Serve a version on a free port with a store of its own; give the address; stop in the end.

    `settings` are the endpoint's (serving/settings.py), in lower case. Raises UserError if it does not start, with the
    last line that it wrote.
    """
    store.parent.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    told = {
        "registry": registry, "name": name, "alias": alias, "store": store, "auth": "off", "log": "off",
        "deadline_ms": 60_000,  # nobody is in a hurry here, and a list from a lower rung would be another policy's
        **settings,
    }  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RECSYS_")}
    environment |= {f"RECSYS_{key.upper()}": str(value) for key, value in told.items()}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "uvicorn", APPLICATION, "--factory", "--no-access-log"]
    command += ["--host", _HOST, "--port", str(port)]
    written = store.with_suffix(".log")
    with written.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)  # noqa: S603 - our own server
    url = f"http://{_HOST}:{port}"
    try:
        _wait(process, url, written)
        yield url
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run_experiment(url: str, name: str, variants: Sequence[Mapping[str, object]]) -> None:
    """Let an endpoint answer users by variants (docs/endpoint.md); raises UserError if it refuses them."""
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{url}/v1/experiments/{name}",
        json.dumps({"variants": list(variants)}).encode(),
        {"content-type": "application/json"},
        method="PUT",
    )
    try:
        with urllib.request.urlopen(request, timeout=60.0):  # noqa: S310  # nosec B310
            return
    except urllib.error.HTTPError as error:
        raise UserError(
            f"the endpoint refused the experiment {name}: {error.read().decode()[:300]}"
        ) from None


def _wait(process: subprocess.Popen[bytes], url: str, written: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2.0):  # noqa: S310  # nosec B310
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    lines = written.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    state = "did not get ready" if process.poll() is None else f"ended with {process.returncode}"
    raise UserError(f"the endpoint {state} ({lines[-1] if lines else 'it wrote nothing'}); see {written}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])

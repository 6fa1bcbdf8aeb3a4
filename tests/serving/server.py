"""A real server process on a free loopback port, started and stopped by its own process id."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START_TIMEOUT_S = 60
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"the server ended with {self.process.returncode}:\n{self.log.read_text()}"
                )
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise TimeoutError(f"not ready within {START_TIMEOUT_S} s:\n{self.log.read_text()}")

    def stop(self) -> int:
        """End it as an operator would; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(timeout=20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_server(bundle: Path | None, store: Path, workers: int = 1, **settings: object) -> Server:
    """Start a server; settings become RECSYS_ variables."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
    environment |= {"RECSYS_STORE": str(store), "RECSYS_AUTH": "off"}
    environment |= {} if bundle is None else {"RECSYS_BUNDLE": str(bundle)}
    environment |= {"RECSYS_LOG": "off", "OMP_NUM_THREADS": "1"}
    environment |= {f"RECSYS_{name.upper()}": str(value) for name, value in settings.items()}
    store.parent.mkdir(parents=True, exist_ok=True)
    log = store.with_suffix(f".{port}.log")
    command = [sys.executable, "-m", "uvicorn", "--factory", "serving.app:create_app", "--no-access-log"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    return Server(process, port, log)


@contextmanager
def running_server(
    bundle: Path | None, store: Path, workers: int = 1, **settings: object
) -> Iterator[Server]:
    """Start a server, wait until it is ready, and stop it in the end."""
    server = start_server(bundle, store, workers, **settings)
    try:
        server.wait_until_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()

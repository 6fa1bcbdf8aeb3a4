"""A server in a forked process: what takes seconds to import is there already, so that hundreds can be killed.

It is the same app under the same server with files and databases of its own; the kill is the kernel's SIGKILL.
"""

import os
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from serving.app import create_app
from serving.settings import Settings
from tests.serving.server import START_TIMEOUT_S, free_port


@dataclass(frozen=True)
class ForkedServer:
    """A running server."""

    pid: int
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise TimeoutError(f"not ready within {START_TIMEOUT_S} s:\n{self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a crash would."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def fork_server(bundle: Path, store: Path, **settings: object) -> ForkedServer:
    """Start a server in a child of this process; its output goes to a file beside the store."""
    port, log = free_port(), store.with_suffix(".log")
    pid = os.fork()
    if pid:
        return ForkedServer(pid, port, log)
    try:
        with closing(log.open("ab")) as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        app = create_app(Settings(bundle=bundle, store=store, auth="off", log="off", **settings))  # type: ignore[arg-type]
        uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="error")
    finally:
        os._exit(1)

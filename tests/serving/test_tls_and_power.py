"""What is between the endpoint and the world: TLS with a real certificate, and the disk before a 202."""

import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.serving.server import ROOT, free_port


@contextmanager
def direct(
    bundle: Path, folder: Path, scheme: str, verify: object, *before: str, **more: object
) -> Iterator[str]:
    """Start `python -m serving` behind another command, wait until it answers, stop it; give its address."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
    chosen = {
        "BUNDLE": bundle,
        "STORE": folder / "s.sqlite",
        "AUTH": "off",
        "PORT": port,
        "LOG": "off",
        **more,
    }
    environment |= {f"RECSYS_{name}": str(value) for name, value in chosen.items()}
    command = [*before, sys.executable, "-m", "serving"]
    with (folder / "server.log").open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    url = f"{scheme}://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert process.poll() is None, (folder / "server.log").read_text()
            try:
                if httpx.get(f"{url}/readyz", verify=verify, timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_tls_is_spoken_with_the_certificate_that_is_named(bundle: Path, tmp_path: Path, click) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(made, check=True, capture_output=True)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with (
        direct(bundle, tmp_path, "https", trusting, TLS_CERTIFICATE=certificate, TLS_KEY=key) as url,
        httpx.Client(base_url=url, verify=trusting) as http,
    ):
        assert http.post("/v1/events", json=click("a")).status_code == 202
        assert http.post("/v1/recommend", json={"user": "a", "n": 3}).json()["support_events"] == 1
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{url}/healthz")
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http") + "/healthz")


def traces() -> bool:
    """Tell whether system calls can be watched here."""
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-qq", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not traces(), reason="no strace that may trace, to see when the disk is waited for")
def test_no_202_leaves_before_the_disk_has_what_it_promises(bundle: Path, tmp_path: Path, click) -> None:
    """What a power cut takes is what no fsync was waited for: none of it may have been acknowledged."""
    seen = tmp_path / "calls"
    watch = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "16", "-o", str(seen)]
    watch += ["-e", "trace=pwrite64,pwritev,fsync,fdatasync,sendto,write,writev"]
    with (
        direct(bundle, tmp_path, "http", True, *watch) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        for number in range(8):
            assert http.post("/v1/events", json=click("a", event_id=f"e{number}")).status_code == 202
    dirty, promised, synced = False, 0, 0
    for call in seen.read_text(errors="replace").splitlines():
        if re.search(r"\bpwrite(64|v)\(\d+<[^>]*s\.sqlite-wal>", call):
            dirty = True
        elif re.search(r"\b(fsync|fdatasync)\(\d+<[^>]*s\.sqlite-wal>\)", call):
            dirty, synced = False, synced + 1
        elif '"HTTP/1.1 202' in call:
            promised += 1
            assert not dirty, "a 202 left while what it promises was not on the disk"
    assert promised == 8
    assert synced >= 8

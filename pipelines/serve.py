"""`recsys serve`: hands the process over to the server, which finds the application by its import string."""

import os
import shlex
import socket
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.folders import RunFolder
from pipelines.places import require_ray
from recsys.artifacts.registry import Registry
from recsys.artifacts.version_facts import run_name
from recsys.config import RunConfig
from recsys.errors import UserError

APPLICATION = "serving.app:create_app"
LIVE = Path("live")  # folder of the stores
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Served:
    """What an endpoint is started on."""

    registry: Path = Path("registry")
    name: str = "metaq"
    alias: str = "champion"  # or a version
    store: Path = LIVE / "store.sqlite"
    history: Path | None = None  # events that a new store begins with: a Parquet file or a folder of parts

    def command(self) -> str:
        """Return the line that serves it."""
        words = ["recsys", "serve", "--registry", str(self.registry), "--name", self.name]
        words += ["--alias", self.alias, "--store", str(self.store)]
        if self.history is not None:
            words += ["--history", str(self.history)]
        return shlex.join(words)


def served_by_run(config: RunConfig) -> Served:
    """Return what a run serves: its published model, a store of its own, the users of its prepared log."""
    events = RunFolder(config.output, config.name).step("prepare") / "events"
    publish = config.publish
    return Served(
        registry=publish.registry,
        name=publish.name,
        alias=publish.alias,
        store=LIVE / f"{config.name}.sqlite",
        history=events if events.is_dir() else None,
    )


def maker(served: Served, run: str) -> str:
    """Return one line about what is served and the run that made it, for who asked to serve `run`; may be empty.

    What `recsys finetune` and `recsys improve` make of a run is called after it.
    """
    folder = Registry(served.registry).resolve(served.name, served.alias)
    made_by = run_name(folder)
    if not made_by:
        return ""
    said = f"serves {served.name} {folder.name}, made by the run {made_by}"
    if made_by == run or made_by.startswith(f"{run}-"):
        return said
    return f"{said}, not by {run}; `recsys models --name {served.name}` lists what else --alias may name"


def served_version(config: RunConfig, version: str) -> Served:
    """Return what serves one version, wherever the alias points, beside the store and the users of a run."""
    return replace(served_by_run(config), alias=version)


def serve(served: Served, *, host: str, port: int, workers: int) -> None:
    """Replace this process by the server.

    Raises UserError if the version is missing or damaged, the store or the history cannot be used, or the
    port is taken.
    """
    environment = {**os.environ, **endpoint_environment(served, host, port)}
    server = ["-m", "uvicorn", APPLICATION, "--factory", "--no-access-log"]
    address = ["--host", host, "--port", str(port), "--workers", str(workers)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(sys.executable, [sys.executable, *server, *address], environment)  # noqa: S606


def serve_replicas(served: Served, *, host: str, port: int, replicas: int, address: str | None) -> None:
    """Serve on a Ray cluster over the PostgreSQL of RECSYS_DATABASE, until interrupted.

    Raises UserError where `serve` does, if there is no database, or no cluster answers.
    """
    if not os.environ.get("RECSYS_DATABASE"):
        raise UserError(
            "RECSYS_DATABASE is not set, must be postgresql://user@host:5432/name for --on ray: replicas on several "
            "machines share no file"
        )
    require_ray()
    environment = {name: text for name, text in os.environ.items() if name.startswith("RECSYS_")}
    environment |= endpoint_environment(served, host, port)
    environment["RECSYS_SPOOLS"] = str(served.store.parent.resolve())
    environment["RECSYS_REGISTRY"] = str(served.registry.resolve())
    from pipelines.on_ray.cluster import connected
    from pipelines.on_ray.serving import serve_on_ray

    with connected(address):
        serve_on_ray(APPLICATION, environment, replicas, host, port)


def endpoint_environment(served: Served, host: str, port: int) -> dict[str, str]:
    """Return the settings of the endpoint as its environment, after looking that it can start with them."""
    registry = Registry(served.registry)
    registry.verify(registry.resolve(served.name, served.alias))
    _check_history(served.history)
    _check_store(served.store)
    _check_keys(host)
    _check_free(host, port)
    environment = {
        # One request is one small matrix; threads of numerical libraries would only fight over cores. They
        # read this when they load, so a fresh interpreter starts with it.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "RECSYS_REGISTRY": str(served.registry),
        "RECSYS_NAME": served.name,
        "RECSYS_ALIAS": served.alias,
        "RECSYS_STORE": str(served.store),
        "RECSYS_HOST": host,
        "RECSYS_PORT": str(port),
    }
    if served.history is not None:
        environment["RECSYS_HISTORY"] = str(served.history)
    if "RECSYS_AUTH" not in os.environ and host in LOOPBACK:
        environment["RECSYS_AUTH"] = (
            "off"  # nobody but this machine can ask; elsewhere the endpoint needs keys
        )
    return environment


def _check_history(history: Path | None) -> None:
    if history is None or history.is_file() or any(history.glob("part-*.parquet")):
        return
    raise UserError(f"no events at {history}; give --history a Parquet file or a folder of part-*.parquet")


def _check_store(store: Path) -> None:
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store.parent):  # SQLite writes files beside its own
            pass
        if store.exists():
            with store.open("r+b"):
                pass
    except OSError as error:
        raise UserError(
            f"no store can be kept at {store} ({error.strerror}); give --store a file in a folder that can be written"
        ) from None


def _check_keys(host: str) -> None:
    keys = Path(os.environ.get("RECSYS_API_KEYS", LIVE / "keys.json"))
    if host in LOOPBACK or keys.is_file():
        return
    raise UserError(
        f"{host} is open to others and there are no API keys at {keys}; make one with `{sys.executable} -m serving "
        "keys add NAME --scopes read,write`, or serve 127.0.0.1"
    )


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

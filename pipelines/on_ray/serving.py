"""The endpoint on Ray Serve: the application of `recsys serve`, as many replicas over one PostgreSQL.

Replicas hold no state of their own: adapted weights follow from the model and the user's events, which lie in the
database. What a replica keeps on its node's disk is the file where events wait while the database is away; a replica
takes the first such file of its folder that no living one holds, so a new one sends what a dead one left.
"""

import contextlib
import importlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.config import HTTPOptions

from recsys.artifacts.files import locked

NAME = "recsys"
APPLICATION = "RECSYS_APPLICATION"  # import string of the application's factory; set for replicas alone
SPOOLS = "RECSYS_SPOOLS"  # folder of the files where events wait; likewise
_held = contextlib.ExitStack()  # for as long as the replica's process lives


def serve_on_ray(
    application: str,
    environment: Mapping[str, str],
    replicas: int,
    host: str,
    port: int,
    *,
    proxies: str = "EveryNode",
    block: bool = True,
) -> None:
    """Run the endpoint on the cluster that is connected, until interrupted if `block`.

    `application` is the import string of its factory, `environment` are its RECSYS_ settings; every node that may hold
    a replica must see the registry. Each node listens at host and port, or the first alone with `proxies` "HeadOnly".
    """
    deployment = serve.deployment(
        name=NAME,
        num_replicas=replicas,
        max_ongoing_requests=128,  # of a replica; the endpoint itself refuses beyond RECSYS_MAX_IN_FLIGHT
        health_check_period_s=2,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=20,
        ray_actor_options={
            "num_cpus": 1,
            "runtime_env": {"env_vars": {**environment, APPLICATION: application}},
        },
    )
    serve.start(proxy_location=proxies, http_options=HTTPOptions(host=host, port=port))
    serve.run(deployment(serve.ingress(_application)(_Endpoint)).bind(), name=NAME, route_prefix="/")
    if block:
        try:
            threading.Event().wait()
        finally:
            serve.delete(NAME)


class _Endpoint:
    """Nothing but the application below."""


def _application() -> Any:
    """Return the application as a replica builds it, from the environment of its process."""
    folder = Path(os.environ[SPOOLS])
    os.environ["RECSYS_STORE"] = str(_free_spool(folder))
    module, _, factory = os.environ[APPLICATION].partition(":")
    return getattr(importlib.import_module(module), factory)()


def _free_spool(folder: Path) -> Path:
    """Take the first file of the folder that no living process holds."""
    number = 0
    while True:
        try:
            _held.enter_context(locked(folder / f"spool-{number}.lock", wait=False))
        except BlockingIOError:
            number += 1
            continue
        return folder / f"spool-{number}.sqlite"

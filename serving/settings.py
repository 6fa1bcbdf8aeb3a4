"""Settings of the endpoint: environment variables with the prefix RECSYS_, read when the app is made."""

import ipaddress
import sys
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Settings(BaseSettings):
    """Where the bundle and the store are, who may ask, and what one request may ask for."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_", frozen=True, extra="ignore")

    # what is served
    registry: Path = Path("registry")
    name: str = "metaq"
    alias: str = "champion"  # or a version
    bundle: Path | None = (
        None  # a bundle's folder; when set, the registry is not asked and nothing can be activated
    )
    seed: int = 7

    # the live store
    store: Path = Path("live/store.sqlite")
    # postgresql://user@host:5432/name; when set, the store is there, and the file is where events wait while it is away
    database: str | None = None
    database_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    database_readers: Positive = 4  # connections to read with, per worker
    synchronous: Literal["full", "normal"] = (
        "full"  # "full": an accepted event survives power loss, not just a crash
    )
    max_pending_writes: Positive = 10_000  # requests waiting for the store; beyond it the answer is 503
    busy_timeout_s: Positive = 5  # patience with other processes that write to the same file
    refresh_s: Annotated[float, Field(gt=0)] = 0.25  # how often other replicas' changes are looked for
    history: Path | None = (
        None  # events Parquet, a file or a folder of part-*.parquet, imported once into an empty store
    )
    # attributes of the history's users, a Parquet file, imported with it; users.parquet beside the history if unset
    users: Path | None = None

    # where it listens
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: str = ""  # addresses whose X-Forwarded headers are believed, by commas; none
    cors_origins: tuple[str, ...] = ()  # JSON array of origins that browsers may ask from; none

    # who may ask
    auth: Literal["on", "off"] = "on"  # "off" is refused on an address that is not loopback
    api_keys: Path = Path("live/keys.json")  # hashed; `python -m serving keys add NAME --scopes read,write`
    rate_limit: Annotated[float, Field(ge=0)] = (
        0.0  # requests a second of one key, in one worker; 0 = no limit
    )
    rate_burst: Positive = 50  # requests that may come at once

    # what one request may ask for
    history_events: Positive = 200  # newest events of a user that the state, adaptation and exclude_seen know
    remembered: Natural = (
        4_096  # users' states that a worker keeps until they do something; 0 adapts for every list
    )
    max_n: Positive = 200
    max_exclude: Positive = 1_000
    max_candidates: Positive = 1_000  # of /v1/rank
    max_body_bytes: Positive = 2_000_000
    max_events_per_batch: Positive = 5_000
    max_items_per_batch: Positive = 1_000
    max_clock_skew_s: Positive = 300  # an event later than now by more is refused

    # under stress
    deadline_ms: Positive = 200  # of a list that names none; a rung that would miss it is left out
    max_in_flight: Positive = 128  # requests at once in one worker; beyond it the answer is 503
    timeout_s: Annotated[float, Field(gt=0)] = 30.0  # of a request other than a stream

    # what is told
    log: Literal["json", "off"] = "json"  # a line a request on standard error, without ids of users and items
    tracing: bool = False  # OpenTelemetry; needs the extra "telemetry" and its OTEL_ variables
    console: Literal["on", "off"] = "on"  # pages at / for people (docs/console.md); off adds nothing
    shadow_share: Share = 1.0  # of lists that the shadow model ranks too

    @model_validator(mode="after")
    def _open_only_at_home(self) -> "Settings":
        if self.auth == "off" and not is_loopback(self.host):
            raise ValueError(
                f"auth is off on host {self.host!r}, must be on where others can connect; set RECSYS_AUTH=on and make "
                f"keys with `{sys.executable} -m serving keys add NAME --scopes read,write`, or listen on 127.0.0.1"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key must both be given, or neither; set the other")
        return self


@lru_cache(maxsize=64)  # asked of every request where keys are off
def is_loopback(host: str) -> bool:
    """Tell whether only this machine can connect to an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

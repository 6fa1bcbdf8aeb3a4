"""Settings of the endpoint: environment variables with the prefix RECSYS_, read when the app is made."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Positive = Annotated[int, Field(gt=0)]


class Settings(BaseSettings):
    """Where the bundle and the store are, and what one request may ask for."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_", frozen=True, extra="ignore")

    registry: Path = Path("registry")
    name: str = "metaq"
    alias: str = "champion"  # or a version
    bundle: Path | None = None  # a bundle's folder; when set, the registry is not asked
    store: Path = Path("live/store.sqlite")
    history: Path | None = (
        None  # events Parquet, a file or a folder of part-*.parquet, imported once into an empty store
    )
    # attributes of the history's users, a Parquet file, imported with it; users.parquet beside the history if unset
    users: Path | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    seed: int = 7
    history_events: Positive = 200  # newest events of a user that the state, adaptation and exclude_seen know
    max_n: Positive = 200
    max_exclude: Positive = 1_000
    max_body_bytes: Positive = 2_000_000
    max_events_per_batch: Positive = 5_000
    max_clock_skew_s: Positive = 300  # an event later than now by more is refused
    max_pending_writes: Positive = 10_000  # requests waiting for the store; beyond it the answer is 503
    busy_timeout_s: Positive = 5  # patience with other processes that write to the same store
    synchronous: Literal["full", "normal"] = (
        "full"  # "full": an accepted event survives power loss, not just a crash
    )

"""What a round of the loop works with, and how it ends: a line in the journal, or the alias moved between two."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from pipelines.progress import say
from recsys.artifacts.journal import Journal
from recsys.artifacts.registry import Registry
from recsys.config import RunConfig
from recsys.errors import UserError

EXIT: Final = {"promoted": 0, "kept": 1, "cannot say": 3, "on trial": 4}
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Endpoint:
    """Where the endpoint is asked, and with which key (scope admin)."""

    url: str
    key: str | None = None

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Return what it answers; raises UserError if it does not, or refuses."""
        try:
            import httpx
        except ImportError:
            raise UserError(
                'trials ask the endpoint by HTTP; install the extra: pip install "metaq[client]"'
            ) from None
        headers = {} if self.key is None else {"X-API-Key": self.key}
        where = f"{self.url.rstrip('/')}{path}"
        try:
            answer = httpx.request(method, where, json=body, headers=headers, timeout=_TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UserError(
                f"the endpoint at {self.url} does not answer ({error}); give --endpoint its address"
            ) from None
        if not answer.is_success:
            raise UserError(f"the endpoint at {self.url} refuses {method} {path}: {answer.text[:300]}")
        return dict(answer.json())


@dataclass(frozen=True)
class Asked:
    """What a round is asked for, besides the config."""

    log: Path | None = None
    store: str | None = None
    candidate: str | None = None  # judge this version instead of making one
    canary: float | None = None  # percent of users who get a challenger that passes, before it is promoted
    shadow: bool = False  # let a challenger that passes rank unseen first
    endpoint: Endpoint | None = None  # where trials run
    terse: bool = False  # say nothing of training and replay but how the round ended


@dataclass(frozen=True)
class Round:
    """What one round works with."""

    config: RunConfig
    registry: Registry
    journal: Journal
    console: Console
    asked: Asked

    @property
    def steps(self) -> Console:
        """Where training and replay say how far they are."""
        return Console(quiet=True) if self.asked.terse else self.console

    @property
    def champion(self) -> str:
        """The version that the alias points to."""
        return self.folder(self.config.publish.alias).name

    def folder(self, version: str) -> Path:
        """Return where a version or an alias's version lies."""
        return self.registry.resolve(self.config.publish.name, version)

    def end(self, outcome: str, why: str, facts: Mapping[str, Any]) -> int:
        """Write the journal, say one line, return the exit code."""
        line = self.journal.write(outcome, {"why": why, **facts})
        say(self.console, f"{line['at']} {outcome}: {why}")
        return EXIT[outcome]


def promote(work: Round, challenger: str, why: str, facts: Mapping[str, Any]) -> int:
    """Move the alias: said before, done whole, said again. Endpoints follow by themselves."""
    publish = work.config.publish
    work.journal.write("promoting", {**facts, "challenger": challenger, "why": why})
    work.registry.set_alias(publish.name, publish.alias, challenger)
    return work.end("promoted", why, {**facts, "challenger": challenger})

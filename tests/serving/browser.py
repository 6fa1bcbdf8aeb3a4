"""A real browser: Debian's chromium, driven by playwright, with an eye on what pages ask for and complain of."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 30_000
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


def chromium_path() -> str:
    """Return where chromium is; skips without one."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium on this machine (apt-get install chromium), so no browser tests")
    return found


@dataclass
class Watched:
    """A page and what happened in it."""

    page: object
    complaints: list[str] = field(default_factory=list)  # errors on the console, exceptions
    asked: list[str] = field(default_factory=list)  # addresses

    def others(self, url: str) -> list[str]:
        """Return what was asked for from elsewhere."""
        return [address for address in self.asked if urlsplit(address).netloc != urlsplit(url).netloc]


@contextmanager
def watched(browser, *, size=None, scheme: str = "light", key: str | None = None) -> Iterator[Watched]:
    """Give a page in a context of its own, with a key already entered if one is given."""
    context = browser.new_context(
        viewport=size or DESK, color_scheme=scheme, reduced_motion="reduce", service_workers="block"
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    seen = Watched(page)
    page.on("console", lambda told: told.type in ("error", "warning") and seen.complaints.append(told.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    context.on("request", lambda request: seen.asked.append(request.url))
    if key is not None:
        context.add_init_script(f"sessionStorage.setItem('metaq-key', '{key}')")
    try:
        yield seen
    finally:
        context.close()

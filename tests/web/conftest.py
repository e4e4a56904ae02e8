"""Pages of small stored results, and a browser to read them in. Skipped where there is no browser or no Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stored_pages import make

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

Opened = Callable[..., AbstractContextManager["Page"]]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the page of a kind, made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("web"), dict[str, Path]()

    def page(kind: str) -> Path:
        if kind not in made:
            made[kind] = make(kind, folder / kind)
        return made[kind]

    return page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, as the system has it; ``ROBUSTKIT_CHROMIUM`` names another."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra test-web")
    asked = os.environ.get("ROBUSTKIT_CHROMIUM")
    path = asked or next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as started:
        made = started.chromium.launch(executable_path=path, args=list(QUIET))
        yield made
        made.close()


@pytest.fixture
def opened(browser: Browser) -> Opened:
    """Return a function that opens a file at a width, light or dark; what leaves the page or fails is an error."""

    @contextmanager
    def open_(path: Path, width: int = 1300, scheme: str = "light", **more: Any) -> Iterator[Page]:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        page, wrong = context.new_page(), list[str]()
        page.set_default_timeout(10_000)
        context.on("request", lambda r: None if _own(r.url, path) else wrong.append(f"request {r.url[:200]}"))
        page.on("pageerror", lambda error: wrong.append(f"error {error}"))
        page.on("console", lambda m: wrong.append(f"console {m.text}") if m.type in ("error", "warning") else None)
        page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        try:
            page.goto(path.as_uri())
            yield page
        finally:
            context.close()
        assert not wrong

    return open_


def _own(url: str, path: Path) -> bool:
    return url.startswith("data:") or url.partition("#")[0] == path.as_uri()

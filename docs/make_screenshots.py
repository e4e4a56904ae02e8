"""Photograph a report for docs/report.md: ``python docs/make_screenshots.py robustkit-out`` (a few seconds).

Needs the extra test-web, a Chromium, and pdftoppm (Debian: poppler-utils) for the page as it is printed. Pictures go to
``docs/images/report-*.png``, 64 colours each, so that all of them together take a few hundred kB.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
COLOURS, HEIGHT = 64, 1100
# name: width, colour scheme, the part that is shown (the top of the page where it is empty)
SHOTS = {
    "report-wide": (1300, "light", ""),
    "report-tablet": (768, "light", ""),
    "report-phone": (390, "light", ""),
    "report-dark": (390, "dark", ""),
    "report-checks": (1300, "dark", "believe"),
    "report-images": (1300, "light", "images"),
    "report-samples": (1300, "light", "samples"),
}
ARGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def main(report: Path) -> None:
    """Write every picture, and say how large it is."""
    chromium = next(
        found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))
    )
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=list(ARGS))
        for name, (width, scheme, part) in SHOTS.items():
            page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
            page.goto(report.resolve().as_uri())
            write(name, shot(page, part))
            page.close()
        for at, sheet in enumerate(printed(browser, report), 1):
            write(f"report-paper-{at}", sheet)
        browser.close()


def shot(page: Any, part: str) -> bytes:
    """Return a picture of what the window shows: the top of the page, or of one of its parts, unfolded."""
    if part:
        page.evaluate("(id) => { document.getElementById(id).open = true; location.hash = id; }", part)
    if part == "samples":
        page.locator("#explorer tbody th button").nth(1).click()
        page.locator("#explorer").scroll_into_view_if_needed()
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(200)
    return page.screenshot()


def printed(browser: Any, report: Path, sheets: int = 2) -> Iterator[bytes]:
    """Yield the first sheets of the page on paper."""
    page = browser.new_page(color_scheme="dark")
    page.goto(report.resolve().as_uri())
    with tempfile.TemporaryDirectory() as folder:
        page.pdf(path=f"{folder}/page.pdf", format="A4")
        subprocess.run(
            ["pdftoppm", "-r", "70", "-l", str(sheets), "-png", f"{folder}/page.pdf", f"{folder}/sheet"], check=True
        )
        yield from (file.read_bytes() for file in sorted(Path(folder).glob("sheet*.png")))


def write(name: str, png: bytes) -> None:
    """Write a picture with few colours."""
    path = IMAGES / f"{name}.png"
    PIL.Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "report.html")

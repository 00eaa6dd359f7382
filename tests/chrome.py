"""A headless Chromium that notes what a page complains of and what it asks the network for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def launch() -> Iterator[object]:
    """The browser, or a skip that says what is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not shutil.which(CHROMIUM):
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def opened(browser, path, *, page: str = "", width: int = 1200, **settings):
    """The page at `path`, once its script is done; `.complaints` and `.requests` are lists."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
    tab = context.new_page()
    tab.complaints, tab.requests = [], []
    tab.on("console", lambda m: m.type in ("error", "warning") and tab.complaints.append(m.text))
    tab.on("pageerror", lambda e: tab.complaints.append(str(e)))
    tab.on("request", lambda r: tab.requests.append(r.url))
    tab.goto(path.as_uri() + (f"#{page}" if page else ""))
    if settings.get("java_script_enabled", True):
        tab.wait_for_selector("html[data-ready]", timeout=60_000)
        tab.wait_for_timeout(600)  # charts are drawn in frames of their own
    yield tab
    context.close()

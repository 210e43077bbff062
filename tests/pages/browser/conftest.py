"""Fixtures for tests in Chromium, and the checks of every page: width, colour scheme and accessibility."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT, LiveServer
from tests.operate.conftest import start_nginx

__all__ = ["start_nginx"]

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A host name other than localhost has no secure context over HTTP, as on an office network.
    "--host-resolver-rules=MAP crm.example 127.0.0.1",
)
SCREENSHOTS = ROOT / "test-output"
# In pixels. Chromium takes half a minute for a screenshot of 57,000; of a taller page, only the first screen is saved.
TALLEST_SCREENSHOT = 10_000
PHONE, DESKTOP = 375, 1280
# The layout depends on the width, contrast on the color scheme: each value is used once.
WIDTHS_AND_SCHEMES = [(PHONE, "dark"), (DESKTOP, "light")]
OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return Chromium; skip the test if it is not installed."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"There is no browser at {CHROMIUM}: apt-get install chromium, or set CHROMIUM to another's path.")
    playwright_api = pytest.importorskip("playwright.sync_api")
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Return a function that opens an empty page with a width and a colour scheme, without cookies.

    A script error or a violation of the Content-Security-Policy fails the test.
    """
    contexts, errors = [], []

    def open_new(width: int = DESKTOP, scheme: str = "light", **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 812 if width == PHONE else 800}, color_scheme=scheme, **options
        )
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        return page

    yield open_new
    for context in contexts:
        context.close()
    assert errors == []


def expect(target: Any) -> Any:
    """Return Playwright's assertions on a page or an element; they wait until they are true."""
    from playwright.sync_api import expect

    return expect(target)


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """Return an empty page at desktop width, in light colours."""
    return open_page()


@pytest.fixture
def demo(start_server: Callable[..., LiveServer]) -> LiveServer:
    """Return a server with demo data and its first key."""
    server = start_server("serve", "--demo")
    server.read_first_key()
    return server


def show_with_scripts(page: Page, checked: Page, url: str = "") -> None:
    """Load the URL of `page`, which has no JavaScript, or another URL in `checked`, which has it for axe."""
    checked.context.clear_cookies()
    checked.context.add_cookies(page.context.cookies())
    checked.goto(url or page.url)


def check_layout(page: Page, name: str) -> None:
    """Save a screenshot; check that the page fits the width of its window and that axe finds no violation."""
    from axe_playwright_python.sync_playwright import Axe

    SCREENSHOTS.mkdir(exist_ok=True)
    is_tall = page.evaluate("document.documentElement.scrollHeight") > TALLEST_SCREENSHOT
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=not is_tall)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than its window"
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()

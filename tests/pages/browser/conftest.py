"""A browser, pages of it in each width and colour scheme, and what is asked of every page that is seen."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import ROOT, LiveServer

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A name that isn't this machine's own: no secure context, as in an office's network.
    "--host-resolver-rules=MAP crm.example 127.0.0.1",
)
PICTURES = ROOT / "test-output"
PHONE, DESKTOP = 375, 1280
LOOKS = [
    pytest.param(width, scheme, id=f"{scheme}-{width}") for width in (PHONE, DESKTOP) for scheme in ("light", "dark")
]
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return Chromium; skip where there is none."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"There is no browser at {CHROMIUM}: apt-get install chromium, or set CHROMIUM to another's path.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Return a function that opens an empty page of a width and colour scheme, in a browser that knows nobody.

    An error in a page's console, as a broken policy is, fails the test.
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


@pytest.fixture
def page(open_page: Open) -> Page:
    """Return an empty page, of a desktop's width and light."""
    return open_page()


@pytest.fixture
def demo(start: Callable[..., LiveServer]) -> LiveServer:
    """Return a server with demo data and its first key."""
    server = start("serve", "--demo")
    server.read_first_key()
    return server


def inspect(page: Page, name: str) -> None:
    """Keep a picture of the page; hold that it fits its window's width, and that axe finds nothing to mend."""
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than its window"
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()

"""The screenshots of README: `make pictures` saves new ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, LiveServer
from tests.pages.browser.conftest import SCREENSHOTS, OpenPage, expect
from tests.pages.browser.test_settings_page import create_key, sign_in

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.tools


def show_docs(page: Page, server: LiveServer) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/docs/api/companies#listCompanies")


def show_settings(page: Page, server: LiveServer) -> None:
    sign_in(page, server)
    for name, scope in ("Newsletter sync", "read"), ("Website chat", "write"), ("Reporting", "read"):
        create_key(page, name, scope)
        page.get_by_role("link", name="Done").click()
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


@pytest.mark.parametrize("show", [show_docs, show_settings], ids=["docs", "settings"])
def test_the_screenshots_of_the_readme_are_small(
    open_page: OpenPage, demo: LiveServer, show: Callable[[Page, LiveServer], None]
) -> None:
    name = f"{show.__name__.removeprefix('show_')}.png"
    page = open_page()
    show(page, demo)
    (SCREENSHOTS / "readme").mkdir(parents=True, exist_ok=True)

    assert len(page.screenshot(path=SCREENSHOTS / "readme" / name, full_page=show is show_settings)) < 200_000
    assert 10_000 < (ROOT / "docs" / name).stat().st_size < 200_000
    assert f"(docs/{name})" in (ROOT / "README.md").read_text(encoding="utf-8")

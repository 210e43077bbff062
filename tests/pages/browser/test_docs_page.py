"""/docs in Chromium: layout, requests sent from the page, samples, and use without JavaScript."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LiveServer
from tests.pages.browser.conftest import WIDTHS_AND_SCHEMES, OpenPage, check_layout, expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.tools


def docs_url(server: LiveServer) -> str:
    return f"http://127.0.0.1:{server.port}/docs"


def open_try_it(page: Page, operation: str) -> None:
    page.locator(f"#{operation} .try summary").click()


def response_of(page: Page, operation: str) -> str:
    page.locator(f"#{operation} .try button").click()
    output = page.locator(f"#{operation} .try pre")
    expect(output).to_be_visible()
    expect(output).not_to_have_text("…")
    return output.inner_text()


@pytest.mark.parametrize(("width", "scheme"), WIDTHS_AND_SCHEMES)
def test_the_documentation_fits_and_is_accessible(
    open_page: OpenPage, demo: LiveServer, width: int, scheme: str
) -> None:
    page = open_page(width, scheme)
    page.goto(docs_url(demo))

    expect(page.get_by_role("heading", name="Authentication")).to_be_visible()
    check_layout(page, f"docs-{scheme}-{width}")
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    check_layout(page, f"docs-opened-{scheme}-{width}")


@pytest.mark.parametrize(("width", "scheme"), WIDTHS_AND_SCHEMES)
def test_every_get_request_can_be_sent_with_a_key(
    open_page: OpenPage, demo: LiveServer, width: int, scheme: str
) -> None:
    page = open_page(width, scheme)
    page.goto(docs_url(demo))
    page.get_by_label("API key").fill(f" {demo.key} ")

    open_try_it(page, "listCompanies")
    head, _, body = response_of(page, "listCompanies").partition("\n\n")
    assert head.startswith("GET /api/v1/companies?limit=3\n200 OK in ")
    assert "Dataset-Version: " in head and "Link: <" in head
    company = json.loads(body)[0]

    open_try_it(page, "getCompany")
    page.locator("#getCompany .try").get_by_label("id", exact=True).fill(company["id"])
    assert json.loads(response_of(page, "getCompany").partition("\n\n")[2]) == company
    for operation in "listContacts", "listConversations", "listChanges", "listKeys":
        open_try_it(page, operation)
        assert "\n200 OK in " in response_of(page, operation)
    check_layout(page, f"docs-tried-{scheme}-{width}")


def test_a_failed_request_shows_the_error(page: Page, demo: LiveServer) -> None:
    page.goto(docs_url(demo))
    open_try_it(page, "listContacts")

    assert response_of(page, "listContacts").startswith("Enter an API key first")
    page.get_by_label("API key").fill("cfk_nonsense")
    assert "\n401 " in response_of(page, "listContacts")
    page.get_by_label("API key").fill(demo.key)
    page.locator("#listContacts .try").get_by_label("limit").fill("many")
    refused = response_of(page, "listContacts")
    assert "\n400 " in refused and "limit must be a whole number from 1 to 1000" in refused


def test_choosing_a_language_switches_all_samples_and_copy_works(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(docs_url(demo))
    shown = page.locator("#updateContact .copied:visible code").first
    expect(shown).to_contain_text("curl -X PATCH")

    page.locator("#listCompanies").get_by_text("Python", exact=True).click()
    expect(shown).to_contain_text("requests.patch(")
    page.locator("#updateContact .languages button:visible").click()
    expect(page.locator("#updateContact .languages button:visible")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("import requests\n")


def test_the_documentation_works_without_javascript(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page(java_script_enabled=False)
    page.goto(f"http://127.0.0.1:{demo.port}/")

    assert page.url == docs_url(demo)
    expect(page.get_by_label("API key")).to_be_hidden()
    page.locator("#getContact").get_by_text("JavaScript", exact=True).click()
    expect(page.locator("#getContact .copied:visible code").first).to_contain_text("await fetch(")
    page.get_by_role("link", name="Errors").click()
    expect(page.get_by_role("heading", name="Errors")).to_be_in_viewport()

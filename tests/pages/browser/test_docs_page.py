"""The documentation as people read it: in Chromium, by phone and by desktop, with a key to try it."""

import json

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import LiveServer
from tests.pages.browser.conftest import LOOKS, Open, inspect


def address(server: LiveServer) -> str:
    return f"http://127.0.0.1:{server.port}/docs"


def open_trial(page: Page, operation: str) -> None:
    page.locator(f"#{operation} .try summary").click()


def answer_of(page: Page, operation: str) -> str:
    page.locator(f"#{operation} .try button").click()
    output = page.locator(f"#{operation} .try pre")
    expect(output).to_be_visible()
    expect(output).not_to_have_text("…")
    return output.inner_text()


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_documentation_fits_and_can_be_read_by_everybody(
    open_page: Open, demo: LiveServer, width: int, scheme: str
) -> None:
    page = open_page(width, scheme)
    page.goto(address(demo))

    expect(page.get_by_role("heading", name="Get a key")).to_be_visible()
    inspect(page, f"docs-{scheme}-{width}")
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    inspect(page, f"docs-opened-{scheme}-{width}")


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_every_read_can_be_tried_with_a_pasted_key(open_page: Open, demo: LiveServer, width: int, scheme: str) -> None:
    page = open_page(width, scheme)
    page.goto(address(demo))
    page.get_by_label("Your key").fill(f" {demo.key} ")

    open_trial(page, "listCompanies")
    head, _, body = answer_of(page, "listCompanies").partition("\n\n")
    assert head.startswith("GET /api/v1/companies?limit=3\n200 OK in ")
    assert "Dataset-Version: " in head and "Link: <" in head
    company = json.loads(body)[0]

    open_trial(page, "getCompany")
    page.locator("#getCompany .try").get_by_label("id", exact=True).fill(company["id"])
    assert json.loads(answer_of(page, "getCompany").partition("\n\n")[2]) == company
    for operation in "listContacts", "listConversations", "listChanges", "listKeys":
        open_trial(page, operation)
        assert "\n200 OK in " in answer_of(page, operation)
    inspect(page, f"docs-tried-{scheme}-{width}")


def test_a_trial_says_what_is_wrong(page: Page, demo: LiveServer) -> None:
    page.goto(address(demo))
    open_trial(page, "listContacts")

    assert answer_of(page, "listContacts").startswith("Paste your key first")
    page.get_by_label("Your key").fill("cfk_nonsense")
    assert "\n401 " in answer_of(page, "listContacts")
    page.get_by_label("Your key").fill(demo.key)
    page.locator("#listContacts .try").get_by_label("limit").fill("many")
    refused = answer_of(page, "listContacts")
    assert "\n400 " in refused and "limit must be a whole number from 1 to 1000" in refused


def test_one_choice_of_language_is_for_all_examples_and_each_can_be_copied(open_page: Open, demo: LiveServer) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(address(demo))
    shown = page.locator("#updateContact .copied:visible code").first
    expect(shown).to_contain_text("curl -X PATCH")

    page.locator("#listCompanies").get_by_text("Python", exact=True).click()
    expect(shown).to_contain_text("requests.patch(")
    page.locator("#updateContact .languages button:visible").click()
    expect(page.locator("#updateContact .languages button:visible")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("import requests\n")


def test_the_documentation_reads_without_a_script(open_page: Open, demo: LiveServer) -> None:
    page = open_page(java_script_enabled=False)
    page.goto(f"http://127.0.0.1:{demo.port}/")

    assert page.url == address(demo)
    expect(page.get_by_label("Your key")).to_be_hidden()
    page.locator("#getContact").get_by_text("JavaScript", exact=True).click()
    expect(page.locator("#getContact .copied:visible code").first).to_contain_text("await fetch(")
    page.get_by_role("link", name="Errors").click()
    expect(page.get_by_role("heading", name="Errors")).to_be_in_viewport()

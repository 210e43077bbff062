"""/docs in Chromium: layout, search, requests sent from the page, samples, and use without JavaScript."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LiveServer
from tests.pages.browser.conftest import DESKTOP, PHONE, WIDTHS_AND_SCHEMES, OpenPage, check_layout, expect
from tests.pages.browser.test_settings_page import sign_in

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.tools

TALLEST = 8_000
# One page of each kind.
PAGES = ("", "/errors", "/api/companies")
# The names in tables that are broken into two lines, though there would be room for them.
BROKEN_NAMES = """() => [...document.querySelectorAll("td code")].filter((code) =>
  /^\\w{1,24}$/.test(code.textContent) && code.getClientRects().length > 1).map((code) => code.textContent)"""
# The links of the search whose right part lies under something else.
COVERED_HITS = """() => [...document.querySelectorAll(".hits a")].filter((link) => {
  const { right, top } = link.getBoundingClientRect();
  return !link.contains(document.elementFromPoint(right - 10, top + 10));
}).length"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return one server with demo data for all tests of this file."""
    server = LiveServer(tmp_path_factory.mktemp("demo"), "serve", "--demo")
    server.read_first_key()
    yield server
    server.close()


def open_docs(page: Page, server: LiveServer, path: str = "") -> None:
    page.goto(f"http://127.0.0.1:{server.port}/docs{path}")


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
    for path in PAGES:
        open_docs(page, demo, path)
        name = f"docs{path.replace('/', '-')}-{scheme}-{width}"
        check_layout(page, name)
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    check_layout(page, f"{name}-opened")


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_every_page_is_less_than_8000_pixels_tall_and_as_wide_as_the_window(
    open_page: OpenPage, demo: LiveServer, width: int
) -> None:
    page = open_page(width)
    open_docs(page, demo)
    links = page.locator(".contents nav > ul > li > a").evaluate_all("(all) => all.map((each) => each.href)")
    assert len(links) > 15

    heights = {}
    for link in links:
        page.goto(link)
        heights[link] = page.evaluate("document.documentElement.scrollHeight")
        assert page.evaluate("document.documentElement.scrollWidth") == width, link
        assert page.evaluate(BROKEN_NAMES) == [], link
    assert {link: height for link, height in heights.items() if height >= TALLEST} == {}


def test_on_a_phone_code_scrolls_within_its_box(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page(PHONE)
    open_docs(page, demo, "/api/companies#deleteCompany")
    code = page.locator("#deleteCompany .copied:visible pre").first

    assert code.evaluate("(each) => each.scrollWidth > each.clientWidth")
    expect(page.get_by_role("heading", name="Delete a company")).to_be_in_viewport()


def test_every_kind_of_request_can_be_sent_with_a_key(page: Page, demo: LiveServer) -> None:
    open_docs(page, demo, "/api/companies")
    page.get_by_label("API key").fill(f" {demo.key} ")

    open_try_it(page, "listCompanies")
    page.locator("#listCompanies .try").get_by_label("filters").fill("stageId=stage-123&dealValue[gte]=1")
    page.locator("#listCompanies .try").get_by_label("Prefer").fill("count=exact")
    head, _, body = response_of(page, "listCompanies").partition("\n\n")
    assert head.startswith("GET /api/v1/companies?limit=3&stageId=stage-123&dealValue[gte]=1\n200 OK in ")
    assert "Dataset-Version: " in head and "X-Total-Count: 1" in head
    [company] = json.loads(body)
    open_try_it(page, "getCompany")
    assert json.loads(response_of(page, "getCompany").partition("\n\n")[2]) == company

    # Writes store nothing, until the dry run is switched off.
    for operation in "updateCompany", "replaceCompany", "createCompany", "deleteCompany":
        open_try_it(page, operation)
        assert re.search("\n20[014] ", response_of(page, operation)), operation
    assert json.loads(response_of(page, "getCompany").partition("\n\n")[2]) == company
    page.locator("#deleteCompany .try").get_by_text("Dry run").click()
    assert "\n204 " in response_of(page, "deleteCompany")
    assert "\n404 " in response_of(page, "getCompany")
    page.locator("#replaceCompany .try").get_by_text("Dry run").click()
    assert "\n201 " in response_of(page, "replaceCompany")
    assert "\n200 " in response_of(page, "getCompany")
    check_layout(page, "docs-tried")

    open_docs(page, demo, "/api/changes")
    open_try_it(page, "listChanges")
    assert "\n200 OK in " in response_of(page, "listChanges"), "the tab keeps the key"


def test_a_failed_request_shows_the_error(page: Page, demo: LiveServer) -> None:
    open_docs(page, demo, "/api/contacts")
    open_try_it(page, "listContacts")

    assert response_of(page, "listContacts").startswith("Enter an API key first")
    page.get_by_label("API key").fill("cfk_nonsense")
    assert "\n401 " in response_of(page, "listContacts")
    page.get_by_label("API key").fill(demo.key)
    page.locator("#listContacts .try").get_by_label("limit").fill("many")
    refused = response_of(page, "listContacts")
    assert "\n400 " in refused and "limit must be a whole number from 1 to 1000" in refused
    open_try_it(page, "createContact")
    page.locator("#createContact .try textarea").fill("{")
    assert "\n400 " in response_of(page, "createContact")


def test_the_language_is_chosen_for_all_samples_and_pages_and_copy_works(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    open_docs(page, demo, "/api/contacts")
    shown = page.locator("#updateContact .copied:visible code").first
    expect(shown).to_contain_text("curl -X PATCH")

    page.locator("#listContacts").get_by_text("Python", exact=True).click()
    expect(shown).to_contain_text("requests.patch(")
    page.locator("#updateContact .languages button:visible").click()
    expect(page.locator("#updateContact .languages button:visible")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("import requests\n")
    open_docs(page, demo, "/pagination")
    expect(page.locator("#follow-the-link .copied:visible code").first).to_contain_text("requests.get(")


def test_the_search_finds_sections_of_all_pages(page: Page, demo: LiveServer) -> None:
    open_docs(page, demo, "/api/companies")
    page.keyboard.press("/")
    page.keyboard.type("idempotency")
    expect(page.locator(".hits a").first).to_have_text("Repeat a requestWriting safely")
    check_layout(page, "docs-search")
    for path in "", "/webhooks":
        open_docs(page, demo, path)
        page.get_by_label("Search").fill("we")
        expect(page.locator(".hits a").first).to_be_visible()
        assert page.evaluate(COVERED_HITS) == 0
    page.get_by_label("Search").fill("list conv")
    expect(page.locator(".hits a").first).to_contain_text("List conversations")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/docs/api/conversations#listConversations$"))

    page.get_by_label("Search").fill("nothing-like-this")
    expect(page.locator(".hits")).to_have_text("Nothing found.")
    page.keyboard.press("Escape")
    expect(page.locator(".hits")).to_be_hidden()


def test_links_to_the_former_page_lead_to_the_new_ones_and_the_current_section_is_marked(
    page: Page, demo: LiveServer
) -> None:
    for anchor, path in ("listContacts", "/api/contacts#listContacts"), ("errors", "/errors"), ("keys", "/api/keys"):
        page.goto("about:blank")
        open_docs(page, demo, f"#{anchor}")
        expect(page).to_have_url(f"http://127.0.0.1:{demo.port}/docs{path}")

    open_docs(page, demo, "/api/contacts")
    page.locator("#updateContact h2").evaluate("(each) => each.scrollIntoView()")
    expect(page.locator(".sections a[aria-current=location]")).to_have_text("PATCH Update a contact")


def test_a_signed_in_user_creates_a_key_in_the_quickstart(page: Page, demo: LiveServer) -> None:
    sign_in(page, demo)
    page.get_by_role("link", name="Documentation").click()
    page.get_by_role("button", name="Create a key").click()

    key = page.locator("#new-key").inner_text()
    expect(page.locator("#send-a-request .copied:visible code").first).to_contain_text(f"Bearer {key}")
    check_layout(page, "docs-new-key")
    open_docs(page, demo, "/api/contacts")
    open_try_it(page, "listContacts")
    assert "\n200 OK in " in response_of(page, "listContacts")


def test_the_documentation_works_without_javascript(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page(PHONE, java_script_enabled=False)
    page.goto(f"http://127.0.0.1:{demo.port}/")
    assert page.url.endswith("/docs")

    page.get_by_role("button", name="Menu").click()
    expect(page.get_by_label("Search the documentation")).to_be_hidden()
    page.get_by_role("link", name="Contacts").first.click()
    expect(page.get_by_label("API key")).to_be_hidden()
    page.locator("#getContact").get_by_text("JavaScript", exact=True).click()
    expect(page.locator("#getContact .copied:visible code").first).to_contain_text("await fetch(")
    page.set_viewport_size({"width": DESKTOP, "height": 800})
    page.get_by_role("link", name="Delete a contact").click()
    expect(page.get_by_role("heading", name="Delete a contact")).to_be_in_viewport()


def test_the_menu_of_a_phone_closes_after_a_choice(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page(PHONE, "dark")
    open_docs(page, demo, "/api/contacts")
    page.get_by_role("button", name="Menu").click()
    check_layout(page, "docs-menu-dark")
    page.get_by_role("link", name="Delete a contact").click()

    expect(page.locator("#docs-contents")).to_be_hidden()
    expect(page.get_by_role("heading", name="Delete a contact")).to_be_in_viewport()


def test_samples_have_https_where_the_page_came_by_it(page: Page, demo: LiveServer) -> None:
    # As behind a proxy with TLS that the server knows nothing of.
    def answer(route: Route) -> None:
        address = route.request.url.replace("https://crm.example/", f"http://127.0.0.1:{demo.port}/")
        route.fulfill(response=route.fetch(url=address, headers={**route.request.headers, "host": "crm.example"}))

    page.route("https://crm.example/**", answer)
    page.goto("https://crm.example/docs")

    expect(page.locator("#send-a-request .copied code").first).to_contain_text('curl "https://crm.example/api/v1/')
    assert "http://crm.example" not in page.content()
    # The icon may still be on its way: closing the page would fail the next test.
    page.unroute_all(behavior="wait")

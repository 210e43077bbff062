"""/data in Chromium, without JavaScript: search, filters, sorting, pages, a company, CSV, and empty lists."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import LiveServer, send_request
from tests.pages.browser.conftest import WIDTHS_AND_SCHEMES, OpenPage, check_layout, expect, show_with_scripts
from tests.pages.browser.test_activity_page import patch
from tests.pages.browser.test_settings_page import LONG_NAME, sign_in

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.tools

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def check_long_values(page: Page) -> None:
    """Check that long values scroll in boxes of their own, and are cut in the history one by one."""
    for name in "website", "notes":
        box = page.get_by_role("region", name=name)
        assert box.evaluate("(each) => each.scrollHeight > each.clientHeight && each.clientHeight < 200")
        box.focus()
        expect(box).to_be_focused()
    assert box.inner_text().startswith("First line\nW")
    expect(page.get_by_role("heading", name="Contacts")).to_be_visible()
    changes = page.locator(".history :is(del, ins)")
    assert "First line\nW" in "".join(changes.all_inner_texts())
    assert max(changes.evaluate_all("(all) => all.map((each) => each.clientHeight)")) < 80
    expect(page.get_by_role("row", name="industry").get_by_role("link")).to_have_text(UUID)


@pytest.mark.parametrize(("width", "scheme"), WIDTHS_AND_SCHEMES)
def test_a_company_is_found_read_and_downloaded(open_page: OpenPage, demo: LiveServer, width: int, scheme: str) -> None:
    company = f"/api/v1/companies/{'123e4567-e89b-12d3-a456-426614174000'}"
    patch(
        demo, company, notes="First line\n" + "W" * 5_000, website=f"https://acme.com/{'long/' * 300}", dealValue=1999.5
    )
    patch(demo, company, industry=LONG_NAME)
    tagged = send_request(demo, "/api/v1/conversations", {"tags": ["W" * 64, *map(str, range(49))]})[1]
    page = open_page(width, scheme, java_script_enabled=False)
    checked = open_page(width, scheme)

    def check(name: str) -> None:
        """Check the same page with JavaScript, which axe needs, and with all of it open."""
        show_with_scripts(page, checked)
        checked.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        check_layout(checked, f"data-{name}-{scheme}-{width}")

    sign_in(page, demo)
    page.get_by_role("link", name="Data", exact=True).click()
    check("companies")
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("rowheader")).to_have_count(25)
    page.get_by_role("searchbox").fill("ACME corp")
    page.get_by_label("isCustomer", exact=True).select_option("false")
    page.get_by_label("sort", exact=True).select_option("-dealValue")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("rowheader")).to_have_text(["Acme Corporation"])
    check("found")
    page.get_by_text("As CSV").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "companies.csv"
    [row] = csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8").splitlines())
    assert row["industry"] == LONG_NAME

    page.get_by_role("link", name="Acme Corporation").click()
    expect(page.get_by_role("row", name="industry")).to_contain_text("Technology → Nightly")
    check("company")
    check_long_values(page)
    page.get_by_role("link", name="John Doe").click()
    expect(page.get_by_role("definition").filter(has_text="john@acme.com")).to_be_visible()
    page.get_by_role("link", name="Acme Corporation").click()
    page.get_by_role("link", name="Jane Smith").click()
    page.get_by_role("link", name="Conversations").click()
    check("conversations")
    page.goto(f"{page.url}/{json.loads(tagged)['id']}")
    expect(page.locator(".tag").first).to_have_text("W" * 64)
    check("tagged")
    page.get_by_role("link", name="Conversations").click()
    page.goto(f"{page.url}?status=opened")
    expect(page.get_by_text("Must be one of open, pending, snoozed, resolved, closed.")).to_be_visible()
    check("wrong")
    page.get_by_role("link", name="Show the page without parameters").click()
    page.get_by_role("searchbox").fill("nobody at all")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("No conversations match.")).to_be_visible()


def test_a_key_in_the_address_opens_nothing_and_asks_for_no_password(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page()
    response = page.goto(f"http://{demo.key}:@127.0.0.1:{demo.port}/api/v1/companies")

    assert response and response.status == 401
    page.goto(f"http://127.0.0.1:{demo.port}/docs")
    assert page.evaluate("fetch('/api/v1/companies', {credentials: 'include'}).then((answer) => answer.status)") == 401
    assert send_request(demo)[0] == 200

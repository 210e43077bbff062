"""Settings → Activity in Chromium, without JavaScript: the list, a request's changes, a revert and its conflicts."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection

import pytest

from tests.conftest import LiveServer, send_request
from tests.pages.browser.conftest import WIDTHS_AND_SCHEMES, OpenPage, check_layout, expect, show_with_scripts
from tests.pages.browser.test_settings_page import LONG_NAME, sign_in

pytestmark = pytest.mark.tools


def patch(server: LiveServer, path: str, **fields: object) -> None:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        connection.request("PATCH", path, json.dumps(fields), headers)
        assert connection.getresponse().status == 200


@pytest.mark.parametrize(("width", "scheme"), WIDTHS_AND_SCHEMES)
def test_a_request_is_found_by_its_key_read_and_reverted(
    open_page: OpenPage, demo: LiveServer, width: int, scheme: str
) -> None:
    first = demo.key
    demo.key = json.loads(send_request(demo, "/api/v1/keys", {"name": LONG_NAME, "scope": "write"})[1])["key"]
    contact = json.loads(send_request(demo, "/api/v1/contacts", {"name": "Ann <b>Roe</b>", "title": "CTO"})[1])
    path = f"/api/v1/contacts/{contact['id']}"
    patch(demo, path, title=None, notes="W" * 5_000, email="ann.roe@acme.example", isPrimary=True)
    demo.key = first
    send_request(demo, "/api/v1/companies", [{"name": f"Company {number}"} for number in range(3)])
    page = open_page(width, scheme, java_script_enabled=False)
    checked = open_page(width, scheme)

    def check(name: str) -> None:
        """Check the same page with JavaScript, which axe needs."""
        show_with_scripts(page, checked)
        check_layout(checked, f"activity-{name}-{scheme}-{width}")

    sign_in(page, demo)
    page.get_by_role("link", name="Activity").click()
    check("list")
    page.get_by_label("Key").select_option(index=2)
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("rowheader")).to_have_text(["contacts: 1 updated", "contacts: 1 created"])
    check("key")
    page.get_by_role("link", name="contacts: 1 updated", exact=True).click()
    expect(page.get_by_role("row", name="title")).to_have_text("titleCTOnull")
    check("request")
    page.get_by_role("link", name="Revert…").click()
    expect(page.get_by_role("row", name="title")).to_have_text("titlenullCTO")
    check("preview")
    page.get_by_role("button", name="Revert").click()
    expect(page.get_by_role("status")).to_contain_text("Reverted")
    check("reverted")
    assert json.loads(send_request(demo, path)[1])["title"] == "CTO"

    patch(demo, path, title="CFO")
    page.go_back()
    page.go_back()
    page.get_by_role("link", name="Revert…").click()
    expect(page.get_by_role("listitem")).to_contain_text("Was changed afterwards")
    check("conflict")
    page.get_by_role("link", name="Leave these rows out").click()
    expect(page.get_by_text("There is nothing to revert.")).to_be_visible()
    check("nothing")
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("link", name="All requests").click()
    page.get_by_role("link", name="Developer").click()
    expect(page.get_by_role("heading", name="API keys")).to_be_visible()

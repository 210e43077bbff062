"""Settings → Webhooks in Chromium, without JavaScript: a webhook is created, tested, read and deleted."""

from __future__ import annotations

import pytest

from tests.conftest import LiveServer, send_request
from tests.pages.browser.conftest import DESKTOP, PHONE, OpenPage, check_layout, expect, show_with_scripts
from tests.pages.browser.test_settings_page import sign_in

pytestmark = pytest.mark.tools


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")])
def test_a_webhook_is_created_tested_and_deleted(
    open_page: OpenPage, demo: LiveServer, width: int, scheme: str
) -> None:
    page = open_page(width, scheme, java_script_enabled=False)
    checked = open_page(width, scheme)

    def check(name: str) -> None:
        """Check the same page with JavaScript, which axe needs."""
        show_with_scripts(page, checked)
        check_layout(checked, f"webhooks-{name}-{scheme}-{width}")

    sign_in(page, demo)
    page.get_by_role("link", name="Webhooks").click()
    check("none")
    page.get_by_label("URL").fill("ftp://127.0.0.1")
    page.get_by_label("*", exact=True).uncheck()
    page.get_by_label("contact.*").check()
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("Must be an http or https URL.")).to_be_visible()
    assert [page.get_by_label(event, exact=True).is_checked() for event in ("*", "contact.*")] == [False, True]
    check("wrong")
    page.get_by_label("URL").fill(f"http://127.0.0.1:1/{'long' * 50}")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#secret")).to_contain_text("whsec_")
    page.reload()
    expect(page.get_by_text("This form was sent already")).to_be_visible()
    page.get_by_role("link", name="Go to Webhooks").click()
    expect(page.get_by_role("rowheader")).to_have_count(1)
    check("list")
    page.get_by_role("rowheader").get_by_role("link").click()
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_role("status")).to_contain_text("is not a public address")
    check("webhook")
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("button", name="Enable")).to_be_visible()
    page.get_by_text("Delete…").click()
    page.get_by_role("button", name="Delete with all attempts").click()
    expect(page.get_by_text("There are no webhooks yet.")).to_be_visible()


def test_on_a_phone_the_failures_of_a_webhook_are_beside_its_state(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page(PHONE)
    send_request(demo, "/api/v1/webhooks", {"url": "http://127.0.0.1:1", "events": ["*"]})
    send_request(demo, "/api/v1/contacts", {"name": "Jane Roe"})
    sign_in(page, demo)
    failures = page.locator("td", has_text="failed")
    for _time in range(100):
        page.goto(f"http://127.0.0.1:{demo.port}/settings/webhooks")
        if failures.count():
            break

    state, tag = failures.bounding_box(), failures.locator(".tag").bounding_box()
    assert state and tag and tag["y"] - state["y"] < 10

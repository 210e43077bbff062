"""The developer settings in Chromium: keys, sign-in, layout, and use without JavaScript."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from database.columns import now
from formats.values import format_time
from tests.conftest import LiveServer, run_external_sql, send_request
from tests.pages.browser.conftest import PHONE, WIDTHS_AND_SCHEMES, OpenPage, check_layout, expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.tools

LONG_NAME = "Nightly-synchronisation-of-the-newsletter-" + "W" * 200


def settings_url(server: LiveServer, path: str = "", host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.port}/settings/developer{path}"


def sign_in(page: Page, server: LiveServer, host: str = "127.0.0.1") -> None:
    page.goto(settings_url(server, host=host))
    page.get_by_label("Admin key").fill(server.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="API keys")).to_be_visible()


def create_key(page: Page, name: str, scope: str = "read") -> str:
    page.get_by_role("link", name="Create a key").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label(scope).check()
    page.get_by_role("button", name="Create").click()
    return page.locator("#key").inner_text()


def submit_key_form(page: Page, name: str, lifetime: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label(lifetime).check()
    page.get_by_role("button", name="Create").click()


def add_three_keys(server: LiveServer) -> None:
    for name, scope, days in ("Newsletter sync", "read", 90), ("Website chat", "write", 0), ("Reporting", "read", 30):
        expires_at = format_time(now() + timedelta(days=days)) if days else None
        send_request(server, "/api/v1/keys", {"name": name, "scope": scope, "expiresAt": expires_at})


def read_link(server: LiveServer) -> str:
    assert server.process.stdout
    return next(line.split()[-1] for line in server.process.stdout if "/settings/developer/link" in line)


def test_a_key_is_created_copied_used_and_deleted(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    sign_in(page, demo)
    key = create_key(page, "Newsletter sync")

    page.get_by_role("button", name="Copy key").click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == key
    page.get_by_role("button", name="Copy command").click()
    expect(page.get_by_role("button", name="Copied")).to_have_count(2)
    line = page.evaluate("navigator.clipboard.readText()")
    pasted = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=20)
    assert len(json.loads(pasted.stdout)) == 50

    page.get_by_role("link", name="Done").click()
    expect(page.locator("body")).not_to_contain_text(key)
    page.get_by_role("link", name="Newsletter sync").click()
    page.get_by_role("button", name="Roll key").click()
    demo.key = page.locator("#key").inner_text()
    assert send_request(demo)[0] == 200
    page.get_by_role("link", name="Done").click()
    page.get_by_role("link", name="Newsletter sync").click()
    page.get_by_role("button", name="Delete key").click()
    expect(page.get_by_role("rowheader", name="Newsletter sync")).to_have_count(0)
    assert send_request(demo)[0] == 401
    demo.key = key
    assert send_request(demo)[0] == 401


def test_a_wrong_key_is_refused(page: Page, demo: LiveServer) -> None:
    page.goto(settings_url(demo))
    page.get_by_label("Admin key").fill("cfk_wrong")
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_have_text("This is not a valid admin key.")
    page.goto(settings_url(demo))
    expect(page).to_have_url(settings_url(demo, "/sign-in"))


def test_after_signing_out_the_sign_in_page_is_shown(page: Page, demo: LiveServer) -> None:
    sign_in(page, demo)
    page.get_by_role("button", name="Sign out").click()

    expect(page).to_have_url(settings_url(demo, "/sign-in"))
    page.go_back()
    expect(page.get_by_label("Admin key")).to_be_visible()


@pytest.mark.parametrize("host", ["127.0.0.1", "crm.example"])
def test_the_link_printed_by_serve_signs_in_once(
    open_page: OpenPage, start_server: Callable[..., LiveServer], host: str
) -> None:
    server = start_server("serve")
    link, first, second = read_link(server).replace("127.0.0.1", host), open_page(), open_page()
    for page in first, second:
        page.goto(link)
    with first.expect_request(lambda request: request.method == "POST") as sent:
        first.get_by_role("button", name="Sign in").click()
    assert sent.value.all_headers()["referer"] == link.partition("settings")[0]
    expect(first.get_by_role("heading", name="API keys")).to_be_visible()

    second.get_by_role("button", name="Sign in").click()
    expect(second.get_by_role("heading")).to_have_text("This link is no longer valid")
    second.goto(link)
    expect(second.get_by_role("heading")).to_have_text("This link is no longer valid")
    assert link.split("token=")[1] not in server.log


def test_deleting_the_key_of_the_session_signs_out(page: Page, demo: LiveServer) -> None:
    send_request(demo, "/api/v1/keys", {"name": "another", "scope": "admin"})
    sign_in(page, demo)
    page.get_by_role("row", name="this session").get_by_role("link").click()
    expect(page.locator(".fault")).to_have_text("You are signed in with this key. Deleting it signs you out.")
    page.get_by_role("button", name="Delete key").click()

    expect(page).to_have_url(settings_url(demo, "/sign-in"))


def test_the_pages_work_without_javascript_except_for_copying(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page(java_script_enabled=False)
    sign_in(page, demo)
    create_key(page, "No script")
    expect(page.get_by_role("button", name="Copy key")).to_be_hidden()
    page.get_by_role("link", name="Done").click()
    page.get_by_role("link", name="No script").click()
    page.get_by_role("button", name="Delete key").click()

    expect(page.get_by_role("rowheader")).to_contain_text(["first start"])


def test_signing_in_works_over_plain_http_on_another_host_name(page: Page, demo: LiveServer) -> None:
    sign_in(page, demo, "crm.example")
    create_key(page, "Office")

    assert page.evaluate("isSecureContext") is False
    expect(page.get_by_role("button", name="Copy key")).to_be_hidden()


def test_a_form_from_another_site_changes_nothing(page: Page, demo: LiveServer) -> None:
    sign_in(page, demo)
    page.route("http://elsewhere.example/", lambda route: route.fulfill(content_type="text/html", body=forged))
    forged = (
        f'<form method="post" action="{settings_url(demo, "/keys/new")}"><input name="name" value="Mallory"></form>'
    )
    page.goto("http://elsewhere.example/")
    with page.expect_navigation() as navigation:
        page.evaluate("document.forms[0].submit()")

    assert navigation.value.status == 403
    assert "Mallory" not in send_request(demo, "/api/v1/keys")[1].decode()


@pytest.mark.parametrize(("width", "scheme"), WIDTHS_AND_SCHEMES)
def test_every_page_fits_and_is_accessible(open_page: OpenPage, demo: LiveServer, width: int, scheme: str) -> None:
    page = open_page(width, scheme)

    def check(name: str, shown: Locator) -> None:
        # A click returns before the next page is there.
        expect(shown).to_be_visible()
        check_layout(page, f"settings-{name}-{scheme}-{width}")

    page.goto(settings_url(demo))
    check("sign-in", page.get_by_label("Admin key"))
    page.get_by_label("Admin key").fill("cfk_wrong")
    page.get_by_role("button", name="Sign in").click()
    check("refused", page.get_by_role("alert"))
    add_three_keys(demo)
    sign_in(page, demo)
    check("demo", page.get_by_role("rowheader", name="Newsletter sync"))
    page.get_by_role("link", name="Overview").click()
    page.get_by_text("Day by day").click()
    check("overview", page.locator("details[open]"))
    page.get_by_role("link", name="Developer").click()
    page.get_by_role("link", name="Create a key").click()
    check("new", page.get_by_role("group", name="Expires after"))
    submit_key_form(page, "x" * 300, "never")
    check("new-refused", page.get_by_role("alert"))
    expect(page.get_by_label("Name")).to_have_value("x" * 300)
    submit_key_form(page, LONG_NAME, "90 days")
    check("created", page.get_by_role("heading", name="Key created"))
    page.get_by_role("link", name="Done").click()
    page.get_by_role("link", name=re.compile("^Nightly")).click()
    check("key", page.get_by_role("button", name="Delete key"))
    page.goto(settings_url(demo, "/nowhere"))
    check("not-found", page.get_by_role("heading"))


@pytest.mark.parametrize(("width", "scheme"), WIDTHS_AND_SCHEMES)
def test_forty_keys_and_stages_with_long_names_fit(
    open_page: OpenPage, demo: LiveServer, width: int, scheme: str
) -> None:
    for number in range(40):
        name = (f"Integration {number}", f"{number} {LONG_NAME}"[:255], "W" * 255, "名" * 100)[
            number % 4 if number < 8 else 0
        ]
        scope, expires_at = ("read", "write", "admin")[number % 3], format_time(now() + timedelta(days=30 * number + 1))
        body = {"name": name, "scope": scope, "expiresAt": expires_at if number % 2 else None}
        assert send_request(demo, "/api/v1/keys", body)[0] == 201
    for number in range(12):
        company = {
            "name": "Acme",
            "stageId": f"stage-{number}-" + "long" * 60,
            "dealValue": 999_999_999_999.99 - number,
        }
        assert send_request(demo, "/api/v1/companies", company)[0] == 201
    page = open_page(width, scheme)
    sign_in(page, demo)

    expect(page.get_by_role("rowheader")).to_have_count(41)
    check_layout(page, f"settings-forty-{scheme}-{width}")
    assert width != PHONE or page.evaluate("document.documentElement.scrollHeight") <= 2000
    use = "used never expires in 3 years" if width == PHONE else "never 0 0 in 3 years"
    expect(page.get_by_role("row", name=f"Integration 39 read {use}", exact=True)).to_be_visible()
    use = "used never" if width == PHONE else "never 0 0 never"
    expect(page.get_by_role("row", name=f"Integration 38 admin {use}", exact=True)).to_be_visible()
    page.get_by_label("Filter by name").fill("integration 1")
    page.get_by_label("Scope").select_option("write")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("rowheader")).to_have_text(
        ["Integration 19", "Integration 16", "Integration 13", "Integration 10"]
    )
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("rowheader", name="11 others")).to_be_visible()
    check_layout(page, f"settings-stages-{scheme}-{width}")


def test_the_top_bar_has_the_same_place_on_all_pages(open_page: OpenPage, demo: LiveServer) -> None:
    page = open_page(1920)
    sign_in(page, demo)
    places = {}
    for link in page.locator(".top nav a").evaluate_all("(all) => all.map((each) => each.href)"):
        page.goto(link)
        places[link] = page.locator(".brand").evaluate("(each) => each.getBoundingClientRect().left")

    assert len(places) == 7
    assert len({*places.values()}) == 1, places


@pytest.mark.parametrize(("width", "scheme"), WIDTHS_AND_SCHEMES)
def test_the_pages_of_an_empty_database_fit_and_are_accessible(
    open_page: OpenPage, start_server: Callable[..., LiveServer], width: int, scheme: str
) -> None:
    server = start_server("serve")
    server.read_first_key()
    page, link = open_page(width, scheme), read_link(server)
    page.goto(link)
    check_layout(page, f"settings-link-{scheme}-{width}")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="API keys")).to_be_visible()
    run_external_sql(f"sqlite:///{server.folder}/cardfile.db", "DELETE FROM api_keys")
    page.reload()

    expect(page.get_by_text("There are no API keys yet")).to_be_visible()
    check_layout(page, f"settings-empty-{scheme}-{width}")
    page.get_by_role("button", name="Load demo data").click()
    expect(page.get_by_role("definition").first).to_have_text("50")

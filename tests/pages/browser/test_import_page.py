"""Settings → Import in Chromium, without JavaScript: a file is uploaded, previewed, its columns chosen, and stored."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ROOT, LiveServer, send_request
from tests.pages.browser.conftest import WIDTHS_AND_SCHEMES, OpenPage, check_layout, expect, show_with_scripts
from tests.pages.browser.test_settings_page import sign_in

pytestmark = pytest.mark.tools
EXPORT = ROOT / "tests" / "transfer" / "exports" / "hubspot-contacts.csv"


@pytest.mark.parametrize(("width", "scheme"), WIDTHS_AND_SCHEMES)
def test_an_export_is_uploaded_previewed_and_stored(
    open_page: OpenPage, demo: LiveServer, width: int, scheme: str
) -> None:
    page = open_page(width, scheme, java_script_enabled=False)
    checked = open_page(width, scheme)

    def check(name: str) -> None:
        """Check the page's content in a page with JavaScript, which axe needs: most pages are responses to a form."""
        show_with_scripts(page, checked, f"http://127.0.0.1:{demo.port}/settings/import")
        checked.set_content(page.content())
        checked.wait_for_load_state()
        check_layout(checked, f"import-{name}-{scheme}-{width}")

    sign_in(page, demo)
    page.get_by_role("link", name="Import").click()
    check("upload")
    page.get_by_label("File").set_input_files(EXPORT)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("choose a time zone")
    check("choices")
    page.get_by_label("Times are in").select_option("Europe/Berlin")
    page.get_by_label("title", exact=True).select_option("")
    page.get_by_label("Lead Status").check()
    page.get_by_role("button", name="Update the preview").click()
    expect(page.get_by_label("Lead Status")).to_be_checked()
    expect(page.get_by_role("row")).to_have_count(11)
    check("preview")
    page.get_by_label("email", exact=True).select_option("{First Name}")
    page.get_by_role("button", name="Update the preview").click()
    expect(page.get_by_role("list", name="Faults")).to_contain_text("Line 3: email: Must be an e-mail address")
    check("faults")
    page.get_by_label("email", exact=True).select_option("{Email}")
    page.get_by_role("button", name="Update the preview").click()
    page.get_by_role("button", name="Import 30 contacts").click()
    expect(page.get_by_role("status")).to_have_text("Stored 30 contacts, and created 26 companies for them.")
    check("imported")
    contact = json.loads(send_request(demo, "/api/v1/contacts/hubspot-101")[1])
    assert (contact["title"], contact["notes"]) == (None, "Lead Status: OPEN_DEAL")
    page.get_by_role("link", name="Revert…").click()
    page.get_by_role("button", name="Revert").click()
    assert send_request(demo, "/api/v1/contacts/hubspot-101")[0] == 404

"""The pages behind nginx with TLS, at the root of a host and with a path in front."""

import json
import os
import subprocess
from collections.abc import Callable

import pytest

from tests.operate.conftest import Nginx
from tests.pages.browser.conftest import OpenPage, expect

pytestmark = pytest.mark.tools


@pytest.mark.parametrize("prefix", ["", "/crm"], ids=["root", "prefix"])
def test_keys_are_created_in_the_browser_and_used_as_pasted(
    start_nginx: Callable[..., Nginx], open_page: OpenPage, prefix: str
) -> None:
    nginx = start_nginx()
    page = open_page(ignore_https_errors=True)
    page.goto(f"{nginx.address}{prefix}/")
    expect(page).to_have_url(f"{nginx.address}{prefix}/docs")
    page.locator(".contents").get_by_role("link", name="Companies").click()
    expect(page.locator("#listCompanies .copied:visible code").first).to_contain_text(
        f'curl "{nginx.address}{prefix}/api'
    )
    page.get_by_label("API key").fill(nginx.server.key)
    page.locator("#listCompanies .try summary").click()
    page.locator("#listCompanies .try button").click()
    expect(page.locator("#listCompanies .try pre")).to_contain_text("200 OK")
    expect(page.locator("#listCompanies .try pre")).to_contain_text(f"Link: <{nginx.address}{prefix}/api/v1/companies?")

    page.get_by_role("link", name="Developer").click()
    expect(page).to_have_url(f"{nginx.address}{prefix}/settings/developer/sign-in")
    page.get_by_label("Admin key").fill(nginx.server.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{nginx.address}{prefix}/settings/developer")
    cookies = [(each["path"], each["secure"], each["httpOnly"]) for each in page.context.cookies()]
    assert sorted(cookies) == [(f"{prefix}/data", True, True), (f"{prefix}/settings", True, True)]

    page.get_by_role("link", name="Create a key").click()
    page.get_by_label("Name").fill("pasted")
    page.get_by_role("button", name="Create").click()
    line = page.locator("#line").inner_text()
    assert line.endswith(f" {nginx.address}{prefix}/api/v1/companies")
    pasted = subprocess.run(
        ["sh", "-c", line],  # noqa: S607
        env=os.environ | {"CURL_CA_BUNDLE": str(nginx.certificate)},
        check=True,
        capture_output=True,
        timeout=30,
    )
    assert len(json.loads(pasted.stdout)) == 50
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{nginx.address}{prefix}/settings/developer/sign-in")
    assert page.context.cookies() == []

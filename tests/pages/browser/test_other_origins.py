"""The API in the browser, called by the page of another origin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import LiveServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.tools

CALL = """async ([method, url, key]) => {
    const headers = {Authorization: `Bearer ${key}`, "Content-Type": "application/json", "Idempotency-Key": "a"};
    const body = method === "POST" ? '{"name": "Acme"}' : undefined;
    try {
        const response = await fetch(url, {method, headers, body});
        return [response.status, response.headers.get("Location") ?? (await response.json()).detail];
    } catch (error) { return String(error); }
}"""


@pytest.fixture
def port() -> Iterator[int]:
    """Return the port of a server with a page; it is another origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


def test_a_page_of_a_named_origin_reads_and_writes(
    start_server: Callable[..., LiveServer], page: Page, port: int
) -> None:
    named, other = f"http://127.0.0.1:{port}", f"http://crm.example:{port}"
    server = start_server("serve", CORS_ORIGINS=named)
    server.read_first_key()

    def call(origin: str, method: str, path: str, key: str = server.key) -> Any:
        page.goto(f"{origin}/docs/docs.png")
        return page.evaluate(CALL, [method, f"http://127.0.0.1:{server.port}/api/v1/{path}", key])

    status, location = call(named, "POST", "companies")
    assert (status, location[:18]) == (201, "/api/v1/companies/")
    status, detail = call(named, "GET", "company")
    assert (status, detail) == (404, "There is nothing at this address. Did you mean companies?")
    assert call(named, "GET", "companies", "wrong")[0] == 401
    assert call(other, "GET", "companies") == "TypeError: Failed to fetch"

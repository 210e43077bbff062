"""Browsers get a page for a problem, except under /api/v1; programs get problem+json."""

import pytest
from flask.testing import FlaskClient

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
HTML, PROBLEM = "text/html; charset=utf-8", "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "accept", "status", "content_type"),
    [
        ("GET", "/nothing", BROWSER, 404, HTML),
        ("HEAD", "/nothing", BROWSER, 404, HTML),
        ("GET", "/docs/nothing", BROWSER, 404, HTML),
        ("GET", "/docs/api/nothing", BROWSER, 404, HTML),
        ("GET", "/static/nothing.css", BROWSER, 404, HTML),
        ("GET", "/apiv1", BROWSER, 404, HTML),
        ("DELETE", "/docs", BROWSER, 405, HTML),
        ("GET", "/metrics", BROWSER, 401, HTML),
        ("GET", "/settings/nothing", "application/json", 404, HTML),
        ("GET", "/nothing", "*/*", 404, PROBLEM),
        ("GET", "/nothing", None, 404, PROBLEM),
        ("GET", "/nothing", "application/json, text/html;q=0.5, */*", 404, PROBLEM),
        ("GET", "/api/v1", BROWSER, 401, PROBLEM),
        ("GET", "/api/v1/nothing", BROWSER, 401, PROBLEM),
        ("GET", "/api/v1/companies", BROWSER, 401, PROBLEM),
    ],
)
def test_a_problem_is_a_page_for_browsers_outside_the_api(
    anonymous: FlaskClient, method: str, path: str, accept: str | None, status: int, content_type: str
) -> None:
    response = anonymous.open(path, method=method, headers={"Accept": accept} if accept else {})

    assert (response.status_code, response.content_type) == (status, content_type)
    is_page = content_type == HTML
    assert ("Content-Security-Policy" in response.headers) == is_page
    assert path.startswith("/api/") or "Accept" in response.headers["Vary"]
    assert method == "HEAD" or ("<h1>" in response.text) == is_page
    assert status != 405 or response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_the_page_shows_the_error_and_links_to_the_documentation(anonymous: FlaskClient) -> None:
    page = anonymous.get("/nothing", headers={"Accept": BROWSER})

    assert "<h1>Not Found</h1>" in page.text and "There is nothing at this address." in page.text
    assert page.headers["X-Request-Id"] in page.text
    assert 'href="/docs">Go to the documentation' in page.text


def test_a_path_is_shown_as_text(anonymous: FlaskClient) -> None:
    page = anonymous.get("/<script>alert(1)</script>", headers={"Accept": BROWSER})

    assert (page.status_code, "<script>alert" in page.text) == (404, False)

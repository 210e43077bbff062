"""/docs shows the whole OpenAPI description, and its samples run as pasted with a key filled in."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import create_environ
from werkzeug.wrappers import Response

from pages.docs import Operation, read_operation
from tests.conftest import LiveServer, send_request

INTERPRETERS: dict[str, tuple[str, ...]] = {
    "curl": ("sh", "-euc"),
    "Python": (sys.executable, "-c"),
    "JavaScript": ("node", "--input-type=module", "-e"),
}


@pytest.fixture
def operations(app: Flask) -> list[Operation]:
    description = app.extensions["openapi"]
    with app.test_request_context(base_url="http://127.0.0.1:1"):
        return [read_operation(description, *each) for each in description.operations]


@pytest.mark.parametrize(
    "language", ["curl", *(pytest.param(name, marks=pytest.mark.tools) for name in ("Python", "JavaScript"))]
)
def test_every_sample_works_as_pasted_on_demo_data(
    start_server: Callable[..., LiveServer], operations: list[Operation], language: str
) -> None:
    needed = "curl" if language == "curl" else INTERPRETERS[language][0]
    if shutil.which(needed) is None:
        pytest.skip(f"{needed} is not installed.")
    server = start_server("serve", "--demo")
    server.read_first_key()
    # The key of the sample is not in the demo data.
    created = json.loads(send_request(server, "/api/v1/keys", {"name": "to be deleted"})[1])
    hook = {"url": "http://127.0.0.1:1/", "events": ["company.forgotten"]}
    hook = json.loads(send_request(server, "/api/v1/webhooks", hook)[1])
    # The request of the sample is not there to be reverted.
    send_request(server, "/api/v1/contacts", {"name": "to be reverted"})
    [change] = json.loads(send_request(server, "/api/v1/changes?since=408")[1])
    [reverted] = [each.sample.body["requestId"] for each in operations if each.path.endswith("/revert")]
    assert len(operations) > 20

    # Deletions and erasures come last, because the other samples need the rows.
    for operation in sorted(operations, key=lambda each: (each.path.endswith("/forget"), each.method == "DELETE")):
        text = operation.sample.languages[language].replace("YOUR_API_KEY", server.key)
        text = text.replace("http://127.0.0.1:1/", f"http://127.0.0.1:{server.port}/")
        text = re.sub('/keys/(?!me["])[^"\'/]+', f"/keys/{created['id']}", text).replace(reverted, change["requestId"])
        text = re.sub("/webhooks/[^\"'/]+", f"/webhooks/{hook['id']}", text)
        completed = subprocess.run(
            [*INTERPRETERS[language], text], cwd=server.folder, capture_output=True, text=True, check=True, timeout=30
        )
        assert bool(completed.stdout) == (language != "curl" or bool(operation.response)), operation.path

    assert server.stop(signal.SIGTERM) == 0
    statuses = re.findall("/api/v1/[^ ]+ ([0-9]{3}) ", server.log)
    assert len(statuses) == len(operations) + 4
    assert set(statuses) == {"200", "201", "204"}, server.log


def test_the_page_shows_every_operation_field_and_status(anonymous: FlaskClient, operations: list[Operation]) -> None:
    page = anonymous.get("/docs").text

    for operation in operations:
        name = operation.about["operationId"]
        section = page.partition(f'<article class="operation" id="{name}"')[2].partition("</article>")[0]
        assert f"<code>{operation.path}</code>" in section
        fields = [*operation.filters, *operation.request_fields, *operation.response_fields]
        for row in [*fields, *(row for group in operation.parameters.values() for row in group)]:
            assert f"<code>{row.name}</code>" in section, (name, row.name)
        assert all(f"<dt>{status}</dt>" in section for status in operation.about["responses"])


def test_docs_is_404_without_a_description_and_the_settings_work(app: Flask, anonymous: FlaskClient) -> None:
    app.extensions.pop("openapi", None)
    page = anonymous.get("/docs")

    assert (page.status_code, page.content_type) == (404, "application/problem+json")
    assert "no OpenAPI description" in page.json["detail"]
    assert anonymous.get("/settings/developer/sign-in").status_code == 200


def test_the_start_page_redirects_to_docs_and_samples_use_the_requested_host(anonymous: FlaskClient) -> None:
    assert anonymous.get("/").headers["Location"] == "/docs"

    page = anonymous.get("/docs", headers={"Host": "crm.example:9000"})
    assert "http://crm.example:9000/api/v1/companies" in page.text
    assert "127.0.0.1" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert not re.search(r'(src|href)="(https?:)?//', page.text)


@pytest.mark.parametrize("host", ["my_host:8000", "xn--a", "[:::::::::]"])
def test_samples_use_a_host_that_werkzeug_rejects(app: Flask, host: str) -> None:
    # The test client rejects such a host, so the app is called directly.
    response = Response.from_app(app, create_environ("/docs") | {"HTTP_HOST": host})

    assert response.status_code == 200
    page = response.get_data(as_text=True)
    assert f"curl -X GET &#34;http://{host}/api/v1/companies&#34;" in page
    assert f"sent only to {host}." in page


def test_browsers_cache_the_page_with_an_etag(anonymous: FlaskClient) -> None:
    page = anonymous.get("/docs")
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    assert page.headers["Cache-Control"] == "no-cache"

    kept = {"If-None-Match": page.headers["ETag"]}
    again = anonymous.get("/docs", headers=kept)
    assert (again.status_code, again.data) == (304, b"")
    assert anonymous.get("/docs", headers=kept | {"Host": "crm.example"}).status_code == 200

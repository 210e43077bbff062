"""/docs: guides and reference show the whole description, and their samples run as pasted with a key filled in."""

import html
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from urllib.request import Request, urlopen

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import create_environ
from werkzeug.wrappers import Response

from pages.docs import Guide, read_guides, read_tags
from pages.highlight import highlight
from pages.reference import Operation, Resource, read_resource
from pages.samples import Example
from tests.conftest import LiveServer, Query, send_request
from tests.pages.conftest import SAME_ORIGIN

# Commands that run each of their arguments as a program, and print END after each.
END = "\x1e"
RUN_ALL: dict[str, tuple[str, ...]] = {
    "curl": ("sh", "-euc", "for each; do sh -euc \"$each\"; printf '\\036'; done", "sh"),
    "Python": (
        sys.executable,
        "-c",
        "import sys\nfor each in sys.argv[1:]:\n    exec(each, {})\n    print(end='\x1e')",
    ),
    "JavaScript": (
        *("node", "--input-type=module", "-e"),
        "for (const each of process.argv.slice(1)) {"
        " await import(`data:text/javascript,${encodeURIComponent(each)}`); process.stdout.write('\x1e'); }",
        "--",
    ),
}
IN_EACH_LANGUAGE = pytest.mark.parametrize(
    "language", ["curl", *(pytest.param(name, marks=pytest.mark.tools) for name in ("Python", "JavaScript"))]
)
# The number of the last change of the demo data in the guides.
VERSION = 408
QUICKSTART = "/settings/developer/quickstart"


@pytest.fixture
def resources(app: Flask) -> dict[str, Resource]:
    """Return the resources, with the address of a request to port 1."""
    with app.test_request_context(base_url="http://127.0.0.1:1"):
        return {tag: read_resource(app.extensions["openapi"], tag) for tag in read_tags()}


@pytest.fixture
def operations(resources: dict[str, Resource]) -> list[Operation]:
    return [operation for resource in resources.values() for operation in resource.operations]


@pytest.fixture
def guides(app: Flask) -> dict[str, Guide]:
    """Return the guides, with the address of a request to port 1."""
    with app.test_request_context(base_url="http://127.0.0.1:1"):
        return read_guides()


def examples_of(guide: Guide) -> list[Example]:
    return [part for section in guide.sections for part in section.parts if isinstance(part, Example)]


def run_samples(server: LiveServer, language: str, texts: list[str]) -> list[str]:
    """Run samples as pasted, with the server's key and address; return what each prints."""
    needed = "curl" if language == "curl" else RUN_ALL[language][0]
    if shutil.which(needed) is None:
        pytest.skip(f"{needed} is not installed.")
    address = f"http://127.0.0.1:{server.port}/"
    texts = [text.replace("YOUR_API_KEY", server.key).replace("http://127.0.0.1:1/", address) for text in texts]
    command = [*RUN_ALL[language], *texts]
    completed = subprocess.run(command, cwd=server.folder, capture_output=True, text=True, check=False, timeout=100)
    *printed, last = completed.stdout.split(END)
    assert completed.returncode == 0, f"{texts[len(printed)]}\n{last}\n{completed.stderr}"
    return printed


@IN_EACH_LANGUAGE
def test_every_sample_works_as_pasted_on_demo_data(
    start_server: Callable[..., LiveServer], operations: list[Operation], language: str
) -> None:
    server = start_server("serve", "--demo")
    server.read_first_key()
    # The key of the sample is not in the demo data.
    created = json.loads(send_request(server, "/api/v1/keys", {"name": "to be deleted"})[1])
    hook = {"url": "http://127.0.0.1:1/", "events": ["company.forgotten"]}
    hook = json.loads(send_request(server, "/api/v1/webhooks", hook)[1])
    # The request of the sample is not there to be reverted.
    contact = json.loads(send_request(server, "/api/v1/contacts", {"name": "to be reverted"})[1])
    [change] = json.loads(send_request(server, f"/api/v1/changes?id={contact['id']}")[1])
    [reverted] = [json.loads(each.request_body)["requestId"] for each in operations if each.path.endswith("/revert")]
    assert len(operations) > 20

    # Deletions and erasures come last, because the other samples need the rows.
    operations.sort(key=lambda each: (each.path.endswith("/forget"), each.method == "DELETE"))
    texts = [each.example.languages[language].replace(reverted, change["requestId"]) for each in operations]
    texts = [re.sub('/keys/(?!me["])[^"\'/]+', f"/keys/{created['id']}", text) for text in texts]
    texts = [re.sub("/webhooks/[^\"'/]+", f"/webhooks/{hook['id']}", text) for text in texts]
    for operation, printed in zip(operations, run_samples(server, language, texts), strict=True):
        assert bool(printed) == (language != "curl" or bool(operation.example.response)), operation.path

    assert server.stop(signal.SIGTERM) == 0
    statuses = re.findall("/api/v1/[^ ]+ ([0-9]{3}) ", server.log)
    assert len(statuses) == len(operations) + 4
    assert set(statuses) == {"200", "201", "204"}, server.log


def mask(text: str) -> str:
    """Replace values that differ in every run: new ids and times, keys, secrets, and the last use of a key."""
    text = re.sub("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "NEW-ID", text)
    text = re.sub('(?!"2024-01)"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"', '"NOW"', text)
    text = re.sub("whsec_[A-Za-z0-9+/]{43}=|cfk_[A-Za-z0-9]{4}", "SECRET", text)
    text = re.sub("http://127.0.0.1:[0-9]+", "ADDRESS", text)
    return re.sub('"lastUsedAt": (null|"NOW")', '"lastUsedAt": "NOW"', text)


def add_to_versions(number: int, text: str) -> str:
    """Return a text in which the numbers of changes after the demo data are greater."""
    return re.sub(r"\b4(0[89]|1[01])\b", lambda found: str(int(found[0]) + number), text)


def check_printed(example: Example, printed: str) -> None:
    """Assert that curl has printed the response of an example: the headers that it shows, and the JSON."""
    if example.headers:
        head, printed = printed.replace("\r\n", "\n").split("\n\n", 1)
        for line in example.headers.splitlines():
            pattern = ".*".join(map(re.escape, mask(line).split("…")))
            assert any(re.fullmatch(pattern, mask(each), re.I) for each in head.splitlines()), (line, head)
    assert json.loads(mask(printed) or "0") == json.loads(mask(example.response) or "0")


def read_version(server: LiveServer) -> int:
    """Return the number of the last change."""
    url = f"http://127.0.0.1:{server.port}/api/v1/keys/me"
    with urlopen(Request(url, headers={"Authorization": f"Bearer {server.key}"})) as response:
        return int(response.headers["Dataset-Version"])


def test_every_example_of_the_guides_prints_the_response_beside_it(
    start_server: Callable[..., LiveServer], guides: dict[str, Guide]
) -> None:
    server, expected = start_server("serve", "--demo"), []
    server.read_first_key()
    for guide in guides.values():
        # Each guide starts with the demo data again, but the numbers of changes don't.
        start, examples = read_version(server), [each for each in examples_of(guide) if each.status]
        texts = [add_to_versions(start - VERSION, each.languages["curl"]) for each in examples]
        for example, printed in zip(examples, run_samples(server, "curl", texts), strict=True):
            shown = (add_to_versions(start - VERSION, text) for text in (example.headers, example.response))
            check_printed(Example({}, "", *shown), printed)
        send_request(server, "/api/v1/changes/revert", {"to": start})
        expected += ["200", *(each.status[:3] for each in examples), "200"]

    assert len(expected) > 40
    assert server.stop(signal.SIGTERM) == 0
    assert re.findall("/api/v1/[^ ]+ ([0-9]{3}) ", server.log) == expected


@pytest.mark.tools
@pytest.mark.parametrize("language", ["Python", "JavaScript"])
def test_the_examples_of_the_guides_work_as_pasted_in_other_languages(
    start_server: Callable[..., LiveServer], guides: dict[str, Guide], language: str
) -> None:
    server = start_server("serve", "--demo")
    server.read_first_key()
    examples = [each for guide in guides.values() for each in examples_of(guide) if language in each.languages]

    texts = [each.languages[language] for each in examples]
    for example, printed in zip(examples, run_samples(server, language, texts), strict=True):
        assert printed or not example.status


def test_a_page_shows_every_operation_field_and_status_of_its_resource(
    anonymous: FlaskClient, resources: dict[str, Resource]
) -> None:
    for tag, resource in resources.items():
        page = anonymous.get(f"/docs/api/{tag}").text
        sections = dict(re.findall('<section class="operation" id="(.*?)"(.*?)</section>', page, re.S))
        assert sections.keys() - {"object"} == {each.name for each in resource.operations}
        for operation in resource.operations:
            section = sections[operation.name]
            assert f"<code>{operation.path}</code>" in section
            rows = [*operation.filters, *operation.request_fields, *chain(*operation.parameters.values())]
            assert [row["name"] for row in rows if f"<code>{row['name']}</code>" not in section] == []
            # A type is no Markdown: the event company.* stays.
            assert [row["type"] for row in rows if row["type"] not in html.unescape(section)] == []
            rows, shown = operation.response_fields, section + sections.get("object", "")
            assert [row["name"] for row in rows if f"<code>{row['name']}</code>" not in shown] == []
            assert [
                each for each in operation.about["responses"] if f'<th scope="row">{each}</th>' not in section
            ] == []


def every_page(client: FlaskClient, url: str = "http://localhost") -> dict[str, str]:
    """Return the pages that the contents list, by their paths."""
    contents = client.get("/docs", url).text.partition('aria-label="Contents"')[2].partition("</nav>")[0]
    paths = [path for path in re.findall('href="([^"]+)"', contents) if not path.startswith("#")]
    pages = {path: client.get(path, url) for path in paths}
    assert len(pages) > 15
    assert {page.status_code for page in pages.values()} == {200}
    return {path: page.text for path, page in pages.items()}


def test_every_link_leads_to_a_page_and_every_anchor_to_a_section(anonymous: FlaskClient) -> None:
    pages = every_page(anonymous)
    entries = json.loads(anonymous.get("/docs/search.json").data)
    found = {(path, url) for path, text in pages.items() for url in re.findall(' (?:href|src)="([^"]+)"', text)}
    found |= {("search", url) for url, *_texts in entries}

    for path, text in pages.items():
        names = re.findall(' id="([^"]+)"', text)
        assert len(names) == len(set(names)), path
    for path, url in found:
        page, _, anchor = url.partition("#")
        assert not anchor or f' id="{anchor}"' in pages[page or path], (path, url)
    others = {url.partition("#")[0] for _path, url in found} - pages.keys() - {"", "https://www.standardwebhooks.com"}
    for url in others:
        with anonymous.get(url) as response:
            assert response.status_code in {200, 303}, url


def test_the_search_finds_every_guide_and_operation_in_a_small_index(
    anonymous: FlaskClient, guides: dict[str, Guide], operations: list[Operation]
) -> None:
    response = anonymous.get("/docs/search.json")
    titles = {title for _url, title, *_texts in response.json}

    assert len(response.data) < 100_000
    assert {each.title for each in guides.values()} <= titles
    assert {each.about["summary"] for each in operations} <= titles


def test_the_pages_load_nothing_from_elsewhere_and_have_the_address_of_the_request(anonymous: FlaskClient) -> None:
    pages = every_page(anonymous, "http://crm.example:9000")

    for path, text in pages.items():
        assert "127.0.0.1" not in text, path
        assert not re.search(r'(src|<link [^>]*href)="(https?:)?//', text), path
    assert 'curl "http://crm.example:9000/api/v1/companies?' in html.unescape(
        re.sub("</?span[^>]*>", "", pages["/docs"])
    )
    assert "default-src 'none'" in anonymous.get("/docs/api/keys").headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("code", "spans"),
    [
        ('{"id": "a", "n": [1, -2.5]}', ['name:"id"', 'string:"a"', 'name:"n"', "number:1", "number:-2.5"]),
        ("x = 'it' # no", ["string:'it'", "comment:# no"]),
        ("see http://a/b // yes", ["comment:// yes"]),
        ("import x\nnotimport", ["word:import"]),
        ("2024-01-01 v2 id-7", []),
        ("http://127.0.0.1:8000/mcp", []),
        ('"<b>&quot;"', ['string:"<b>&quot;"']),
        (r'"a\"b"', [r'string:"a\"b"']),
        ("-d '{\n  \"a\": 1\n}'", ['name:"a"', "number:1"]),
    ],
)
def test_tokens_are_marked(code: str, spans: list[str]) -> None:
    found = re.findall('<span class="([a-z]+)">(.*?)</span>', highlight(code))

    assert [f"{name}:{html.unescape(text)}" for name, text in found] == spans


def test_marking_tokens_changes_no_code(operations: list[Operation], guides: dict[str, Guide]) -> None:
    examples = [each.example for each in operations]
    examples += [example for guide in guides.values() for example in examples_of(guide)]
    for text in (text for each in examples for text in [*each.languages.values(), each.response, "<script>'&amp;"]):
        assert html.unescape(re.sub("</?span[^>]*>", "", highlight(text))) == text


def test_a_guide_of_a_room_goes_with_the_room(app: Flask, anonymous: FlaskClient) -> None:
    app.extensions["guides"].clear()

    assert not {"/docs/webhooks", "/docs/agents"} & every_page(anonymous).keys()
    assert anonymous.get("/docs/webhooks").status_code == 404


def test_docs_is_404_without_a_description_and_the_settings_work(app: Flask, anonymous: FlaskClient) -> None:
    app.extensions.pop("openapi", None)
    for path in "/docs", "/docs/errors", "/docs/api/companies", "/docs/search.json":
        page = anonymous.get(path)
        assert (page.status_code, page.content_type) == (404, "application/problem+json")
        assert "no OpenAPI description" in page.json["detail"]
    assert anonymous.get("/settings/developer/sign-in").status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "location"), [("/", 302, "/docs"), ("/docs/quickstart", 308, "http://localhost/docs")]
)
def test_an_address_of_the_first_page_redirects_to_it(
    anonymous: FlaskClient, path: str, status: int, location: str
) -> None:
    page = anonymous.get(path)
    assert (page.status_code, page.headers["Location"]) == (status, location)


@pytest.mark.parametrize("path", ["/docs", "/docs/errors", "/docs/api/companies"])
def test_a_slash_at_the_end_of_the_address_changes_nothing(anonymous: FlaskClient, path: str) -> None:
    assert anonymous.get(f"{path}/").data == anonymous.get(path).data


@pytest.mark.parametrize("host", ["my_host:8000", "xn--a", "[:::::::::]"])
def test_samples_use_a_host_that_werkzeug_rejects(app: Flask, host: str) -> None:
    # The test client rejects such a host, so the app is called directly.
    response = Response.from_app(app, create_environ("/docs/api/companies") | {"HTTP_HOST": host})

    assert response.status_code == 200
    page = response.get_data(as_text=True)
    assert f'"http://{host}/api/v1/companies"' in page
    assert f"sent only to {host}." in page


@pytest.mark.parametrize("path", ["/docs", "/docs/api/companies", "/docs/search.json"])
def test_browsers_cache_a_page_with_an_etag(anonymous: FlaskClient, path: str) -> None:
    page = anonymous.get(path)
    assert page.status_code == 200
    assert page.headers["Cache-Control"] == "no-cache"

    kept = {"If-None-Match": page.headers["ETag"]}
    again = anonymous.get(path, headers=kept)
    assert (again.status_code, again.data) == (304, b"")
    assert anonymous.get(path, headers=kept | {"Host": "crm.example"}).status_code == 200


def test_a_session_gets_the_quickstart_with_a_new_write_key(app: Flask, signed_in_client: FlaskClient) -> None:
    page = signed_in_client.post(QUICKSTART, headers=SAME_ORIGIN)

    assert (page.status_code, page.headers["Cache-Control"]) == (201, "no-store")
    [key] = set(re.findall("cfk_[0-9A-Za-z]{36}", page.text))
    assert page.text.count(key) > 6 and "Sign out" in page.text
    record = app.test_client().get("/api/v1/keys/me", headers={"Authorization": f"Bearer {key}"}).json
    assert (record["name"], record["scope"], record["expiresAt"] is None) == ("Quickstart", "write", False)
    assert key not in signed_in_client.get("/docs").text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (SAME_ORIGIN, 303),
        ({"Origin": "http://localhost"}, 303),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({}, 403),
    ],
)
def test_nobody_else_gets_a_key(anonymous: FlaskClient, query: Query, headers: dict[str, str], status: int) -> None:
    refused = anonymous.post(QUICKSTART, headers=headers)

    assert (refused.status_code, "cfk_" in refused.text) == (status, False)
    assert status != 303 or refused.headers["Location"] == "/settings/developer/sign-in?next=/docs"
    assert query("SELECT id FROM api_keys") == []


def test_a_form_from_another_site_creates_no_quickstart_key(signed_in_client: FlaskClient, query: Query) -> None:
    for headers in {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {}:
        assert signed_in_client.post(QUICKSTART, headers=headers).status_code == 403
    assert len(query("SELECT id FROM api_keys")) == 1

"""Request bodies: content types, JSON that is refused, and the list of errors."""

import time
from bisect import bisect_left

import pytest
from flask.testing import FlaskClient

from formats.errors import MAX_ERRORS
from formats.json_text import ParsedObject
from schemas import RESOURCES
from tests.conftest import CreateRow, Query
from tests.core.conftest import last_change

pytestmark = pytest.mark.databases("sqlite", "postgresql")

CONTACTS = "/api/v1/contacts"
COMPANIES = "/api/v1/companies"


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b'{"name": "a", "name": "b"}', 422, "/name"),
        (b'[{"name": "a"}, {"name": "a", "name": "b"}]', 422, "/1/name"),
        (b'{"name": "\\ud800"}', 422, "/name"),
        (b'{"name": "a\\u0000"}', 422, "/name"),
        (b'{"name": NaN}', 422, "/name"),
        (b'{"name": 1e999999}', 422, "/name"),
        (b'{"\\ud800": 1, "name": "a"}', 422, "\ud800"),
        (b'{"name": "\xff"}', 400, "not UTF-8"),
        (b'{"name": "a"} x', 400, "extra data"),
        (b'{"a":' * 100_000, 400, "nested too deeply"),
        (b"", 400, "There is no JSON"),
        ("\ufeff\n".encode(), 400, "There is no JSON"),
        (b'\xef\xbb\xbf{"name": "\xff"}', 400, "not UTF-8 at byte 13"),
    ],
)
def test_an_invalid_body_is_refused(writer: FlaskClient, query: Query, body: bytes, status: int, expected: str) -> None:
    response = writer.post(CONTACTS, data=body, content_type="application/json")

    assert response.status_code == status
    assert expected in str(response.json["errors"][0]["pointer"] if status == 422 else response.json["detail"])
    assert last_change(query) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/merge-patch+json"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_a_body_of_another_content_type_is_415(writer: FlaskClient, headers: dict[str, str]) -> None:
    assert writer.post(CONTACTS, data=b'{"name": "a"}', headers=headers).status_code == 415


@pytest.mark.parametrize("charset", ["utf-8", "utf8", "UTF8", '"UTF-8"', '"utf8"', "us-ascii", "US-ASCII"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_body_in_utf8_is_accepted_by_each_of_its_names(
    writer: FlaskClient, create_row: CreateRow, method: str, charset: str
) -> None:
    create_row("contacts", id="x")
    mimetype = "application/merge-patch+json" if method == "PATCH" else "application/json"
    path = CONTACTS if method == "POST" else f"{CONTACTS}/x"
    response = writer.open(path, method=method, data='{"name": "Zoë"}', content_type=f"{mimetype}; charset={charset}")

    assert (response.status_code, response.json["name"]) == (201 if method == "POST" else 200, "Zoë")


@pytest.mark.parametrize("charset", ["latin-1", "iso-8859-1", "utf-16", "utf-8-sig", "utf7"])
@pytest.mark.parametrize("path", [CONTACTS, "/api/v1/keys"])
def test_a_body_in_another_charset_is_415_and_named(admin: FlaskClient, path: str, charset: str) -> None:
    response = admin.post(path, data=b'{"name": "a"}', content_type=f"application/json; charset={charset}")

    assert response.status_code == 415
    assert response.json["detail"].startswith(f"Content-Type says charset={charset}: send UTF-8")


@pytest.mark.parametrize("path", [CONTACTS, f"{CONTACTS}?matchOn=email", "/api/v1/keys"])
def test_a_byte_order_mark_before_a_body_is_ignored(admin: FlaskClient, path: str) -> None:
    body = '\ufeff{"name": "Zoë", "email": "a@b.example"}' if "contacts" in path else '\ufeff{"name": "Zoë"}'
    response = admin.post(path, data=body, content_type="application/json")

    assert (response.status_code, response.json["name"]) == (201, "Zoë")
    assert admin.post(path, data="\ufeff\ufeff{}", content_type="application/json").status_code == 400


def test_a_nested_body_of_any_depth_is_refused(writer: FlaskClient) -> None:
    def post(depth: int) -> int:
        tag = "[" * depth + "]" * depth
        body = f'{{"tags": [{tag}, {tag}]}}'
        return writer.post("/api/v1/conversations", data=body, content_type="application/json").status_code

    # The deepest JSON that Python parses depends on its version: 1,000 levels in 3.11, several thousand in 3.13.
    first_refused = bisect_left(range(100_000), True, key=lambda depth: post(depth) == 400)
    assert {post(depth) for depth in range(first_refused - 60, first_refused + 60)} == {400, 422}
    assert {post(depth) for depth in range(900, 1010)} <= {400, 422}


@pytest.mark.parametrize("zero", ["0E-999999", "0e99999999999999", "0.000", "-0"])
def test_every_notation_of_zero_is_stored_as_0(writer: FlaskClient, zero: str) -> None:
    body = f'{{"name": "a", "dealValue": {zero}}}'
    created = writer.post(COMPANIES, data=body, content_type="application/json")
    assert (created.status_code, '"dealValue":0,' in created.text) == (201, True)

    for query in f"dealValue={zero}", f"dealValue[gte]={zero}", "sort=dealValue":
        assert writer.get(f"{COMPANIES}?{query}").json == [created.json]


@pytest.mark.parametrize("batch", [False, True])
def test_only_the_first_100_errors_are_found_and_listed(writer: FlaskClient, batch: bool) -> None:
    record = {f"zzz{number}": 1 for number in range(30_000)}
    started = time.thread_time()
    response = writer.post(CONTACTS, json=[record, *[{"zz": 1}] * 999] if batch else record)
    assert time.thread_time() - started < 1

    assert (response.status_code, len(response.json["errors"])) == (422, 100)
    assert response.json["detail"].endswith("see errors. The first 100 are listed.")
    details = [error["detail"] for error in response.json["errors"]]
    # Only the first 20 unknown fields are compared with the known ones, because that takes long.
    assert ["Known:" in detail for detail in details] == [False] + [True] * 20 + [False] * 79


@pytest.mark.parametrize("name", RESOURCES)
def test_no_more_errors_are_collected_than_are_listed(name: str) -> None:
    """They are collected while other writers wait. The errors of known fields are among them."""
    unknown = {f"zzz{number}": 1 for number in range(30_000)}
    errors = RESOURCES[name].validate({**unknown, "id": "", "createdAt": ""})
    assert errors["id"] and errors["createdAt"]
    assert MAX_ERRORS <= len(errors) <= 3 * MAX_ERRORS

    repeated = RESOURCES[name].validate(ParsedObject([*unknown.items(), *unknown.items()]))
    assert repeated == {name: ["Must not appear twice."] for name in list(unknown)[:MAX_ERRORS]}

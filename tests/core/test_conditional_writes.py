"""Writes with If-Match and If-None-Match."""

import pytest
from flask.testing import FlaskClient

from tests.conftest import CreateRow, Query
from tests.core.conftest import last_change

pytestmark = pytest.mark.databases("sqlite", "postgresql")

CONTACTS = "/api/v1/contacts"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_if_match_refuses_a_write_to_a_row_that_has_changed(
    writer: FlaskClient, create_row: CreateRow, query: Query, method: str
) -> None:
    create_row("contacts", id="x")
    tag = writer.get(f"{CONTACTS}/x").headers["ETag"]
    query("UPDATE contacts SET title = 'CEO'")

    stale = writer.open(f"{CONTACTS}/x", method=method, json={"name": "a"}, headers={"If-Match": tag})
    assert (stale.status_code, last_change(query)) == (412, 2)
    assert writer.open(
        f"{CONTACTS}/none", method=method, json={"name": "a"}, headers={"If-Match": "*"}
    ).status_code in {404, 412}
    tag = writer.get(f"{CONTACTS}/x").headers["ETag"]
    fresh = writer.open(f"{CONTACTS}/x", method=method, json={"name": "a"}, headers={"If-Match": f'"other", {tag}'})
    assert (fresh.status_code, "ETag" in fresh.headers) == ((204, False) if method == "DELETE" else (200, True))
    assert last_change(query) == 3


def test_if_none_match_allows_only_a_new_row(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", name="old")

    malformed = writer.put(f"{CONTACTS}/x", json={"name": "new"}, headers={"If-None-Match": ""})
    assert (malformed.status_code, malformed.json["detail"].split()[0]) == (400, "If-None-Match")
    refused = writer.put(f"{CONTACTS}/x", json={"name": "new"}, headers={"If-None-Match": "*"})
    assert (refused.status_code, writer.get(f"{CONTACTS}/x").json["name"]) == (412, "old")
    assert writer.put(f"{CONTACTS}/y", json={"name": "new"}, headers={"If-None-Match": "*"}).status_code == 201


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("changed", "is_read"),
    [
        ("W/{}", True),
        ('"0", W/{}', True),
        ('{}-gzip"', False),
        ('{}-br"', False),
        ('{}--gzip"', False),
        ('W/{}-gzip"', False),
        ('{};gzip"', False),
    ],
)
def test_the_error_for_an_etag_that_a_proxy_changed_says_so(
    writer: FlaskClient, create_row: CreateRow, query: Query, method: str, changed: str, is_read: bool
) -> None:
    create_row("contacts", id="x")
    sent = writer.get(f"{CONTACTS}/x").headers["ETag"]
    tag = changed.format(sent if changed.endswith("}") else sent.removesuffix('"'))
    refused = writer.open(f"{CONTACTS}/x", method=method, json={"name": "a"}, headers={"If-Match": tag})

    assert (refused.status_code, last_change(query)) == (412, 1)
    assert "a proxy that compresses adds W/ before it or -gzip to it" in refused.json["detail"]
    for path in f"{CONTACTS}/x", CONTACTS, "/api/v1/changes":
        assert writer.get(path, headers={"If-None-Match": tag}).status_code == (304 if is_read else 200)
    both = writer.patch(f"{CONTACTS}/x", json={"name": "a"}, headers={"If-Match": f"{tag}, {sent}"})
    assert both.status_code == 200


@pytest.mark.parametrize("tag", ["", "1", '"1', "1-gzip", 'w/"1"', "*, *"])
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_a_malformed_etag_is_400_on_reads_and_writes_alike(
    writer: FlaskClient, create_row: CreateRow, header: str, tag: str
) -> None:
    create_row("contacts", id="x")
    responses = [writer.put(f"{CONTACTS}/x", json={"name": "a"}, headers={header: tag})]
    if header == "If-None-Match":
        responses += [
            writer.get(path, headers={header: tag}) for path in (CONTACTS, f"{CONTACTS}/x", "/api/v1/changes")
        ]

    for response in responses:
        assert (response.status_code, response.json["detail"].split()[0]) == (400, header)


@pytest.mark.parametrize("tags", ["{},", ',"0" , ,{}', '"0",\t{}'])
def test_empty_elements_and_tabs_in_a_list_of_etags_are_ignored(
    writer: FlaskClient, create_row: CreateRow, tags: str
) -> None:
    create_row("contacts", id="x")
    tags = tags.format(writer.get(f"{CONTACTS}/x").headers["ETag"])

    for path in f"{CONTACTS}/x", CONTACTS:
        assert writer.get(path, headers={"If-None-Match": tags}).status_code == 304
    assert writer.patch(f"{CONTACTS}/x", json={"name": "b"}, headers={"If-Match": tags}).status_code == 200


@pytest.mark.parametrize(("tag", "status"), [("", 400), ("1", 400), ('"1', 400), ('"0", 1', 400), ('W/"1"', 412)])
def test_an_invalid_or_weak_if_match_header_prevents_the_write(
    writer: FlaskClient, create_row: CreateRow, tag: str, status: int
) -> None:
    create_row("contacts", id="x")

    assert writer.patch(f"{CONTACTS}/x", json={"name": "b"}, headers={"If-Match": tag}).status_code == status
    assert writer.get(f"{CONTACTS}/x").json["name"] == "Acme"


def test_an_error_has_no_etag(reader: FlaskClient) -> None:
    assert "ETag" not in reader.get(f"{CONTACTS}/none").headers


def test_if_match_on_a_missing_row_is_412(writer: FlaskClient) -> None:
    response = writer.put(f"{CONTACTS}/new", json={"name": "a"}, headers={"If-Match": "*"})
    assert (response.status_code, response.json["detail"]) == (412, "There is no contact with the id new.")

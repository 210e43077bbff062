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
    assert fresh.status_code in {200, 204}
    assert last_change(query) == 3


def test_if_none_match_allows_only_a_new_row(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", name="old")

    malformed = writer.put(f"{CONTACTS}/x", json={"name": "new"}, headers={"If-None-Match": ""})
    assert (malformed.status_code, malformed.json["detail"].split()[0]) == (400, "If-None-Match")
    refused = writer.put(f"{CONTACTS}/x", json={"name": "new"}, headers={"If-None-Match": "*"})
    assert (refused.status_code, writer.get(f"{CONTACTS}/x").json["name"]) == (412, "old")
    assert writer.put(f"{CONTACTS}/y", json={"name": "new"}, headers={"If-None-Match": "*"}).status_code == 201


@pytest.mark.parametrize(("tag", "status"), [("", 400), ("1", 400), ('"1', 400), ('"0", 1', 400), ('W/"1"', 412)])
def test_an_invalid_or_weak_if_match_header_prevents_the_write(
    writer: FlaskClient, create_row: CreateRow, tag: str, status: int
) -> None:
    create_row("contacts", id="x")

    assert writer.patch(f"{CONTACTS}/x", json={"name": "b"}, headers={"If-Match": tag}).status_code == status
    assert writer.get(f"{CONTACTS}/x").json["name"] == "Acme"


def test_if_match_on_a_missing_row_is_412(writer: FlaskClient) -> None:
    response = writer.put(f"{CONTACTS}/new", json={"name": "a"}, headers={"If-Match": "*"})
    assert (response.status_code, response.json["detail"]) == (412, "There is no contact with the id new.")

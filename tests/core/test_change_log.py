"""Versions, ETags and the feed: all from the one log."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from seed import load_demo
from tests.conftest import CreateRow, ExecutedStatement, Query, run_external_sql

pytestmark = pytest.mark.databases("sqlite", "postgresql")

RESOURCES = ("companies", "contacts", "conversations")


def follow(client: FlaskClient, rows: dict[tuple[str, str], Any], since: int = 0) -> int:
    """Apply every change after a number to the rows; return the number of the last."""
    while True:
        page = client.get(f"/api/v1/changes?since={since}&limit=100").json
        if not page:
            return since
        for change in page:
            assert change["seq"] == since + 1
            since = change["seq"]
            if change["action"] == "deleted":
                assert change["data"] is None
                del rows[change["resource"], change["id"]]
            else:
                rows[change["resource"], change["id"]] = change["data"]


def current(client: FlaskClient) -> dict[tuple[str, str], Any]:
    return {(name, row["id"]): row for name in RESOURCES for row in client.get(f"/api/v1/{name}").json}


def test_a_change_tells_what_happened_when_and_what_was_left(writer: FlaskClient) -> None:
    created = writer.post("/api/v1/contacts", json={"name": "John"}).json
    changed = writer.patch(f"/api/v1/contacts/{created['id']}", json={"title": "CEO"}).json
    writer.delete(f"/api/v1/contacts/{created['id']}")

    feed = writer.get("/api/v1/changes").json
    assert [list(change) for change in feed] == [["seq", "resource", "id", "action", "at", "data"]] * 3
    assert [(change["seq"], change["action"], change["data"]) for change in feed] == [
        (1, "created", created),
        (2, "updated", changed),
        (3, "deleted", None),
    ]
    assert {(change["resource"], change["id"]) for change in feed} == {("contacts", created["id"])}


def test_following_the_feed_from_0_rebuilds_the_data(app: Flask, reader: FlaskClient, query: Query) -> None:
    with app.app_context():
        load_demo(40)
    rows: dict[tuple[str, str], Any] = {}
    last = follow(reader, rows)
    assert rows == current(reader)

    query("DELETE FROM companies WHERE position > 0")
    query("UPDATE contacts SET title = 'CEO' WHERE is_primary")
    follow(reader, rows, last)
    assert rows == current(reader)


def test_a_long_feed_comes_in_pages(app: Flask, reader: FlaskClient, create_row: CreateRow) -> None:
    for _number in range(5):
        create_row("contacts")

    first = reader.get("/api/v1/changes?limit=2")
    assert first.headers["Link"] == '<http://localhost/api/v1/changes?since=2&limit=2>; rel="next"'
    assert [change["seq"] for change in first.json] == [1, 2]
    assert "Link" not in reader.get("/api/v1/changes?since=3&limit=2").headers
    assert reader.get("/api/v1/changes?since=99").json == []


def test_deleting_a_company_logs_what_becomes_of_its_thousand_contacts(writer: FlaskClient) -> None:
    company = writer.post("/api/v1/companies", json={"name": "Acme"}).json["id"]
    writer.post("/api/v1/contacts", json=[{"name": "John", "companyId": company}] * 1000)
    rows: dict[tuple[str, str], Any] = {}
    last = follow(writer, rows)

    deleted = writer.delete(f"/api/v1/companies/{company}")
    assert int(deleted.headers["Dataset-Version"]) == last + 1001
    follow(writer, rows, last)
    assert rows == current(writer)
    assert {row["companyId"] for row in rows.values()} == {None}


@pytest.mark.parametrize(
    "path", ["companies", "companies/x", "contacts?companyId=x", "companies/x?include=contacts", "changes"]
)
def test_what_is_unchanged_is_304_from_one_small_query(
    reader: FlaskClient, create_row: CreateRow, statements: list[ExecutedStatement], path: str
) -> None:
    create_row("companies", id="x")
    create_row("contacts", companyId="x")
    tag = reader.get(f"/api/v1/{path}").headers["ETag"]
    statements.clear()

    response = reader.get(f"/api/v1/{path}", headers={"If-None-Match": f'"other", W/{tag}'})
    assert (response.status_code, response.data, response.headers["ETag"]) == (304, b"", tag)
    _key, version = statements
    assert "FROM changes" in version.sql and "FROM companies" not in version.sql


@pytest.mark.parametrize(
    ("path", "status"), [("companies", 304), ("companies/x", 304), ("companies/neverwas", 404), ("changes", 304)]
)
def test_any_state_is_unchanged_to_who_asks_for_none(
    reader: FlaskClient, create_row: CreateRow, path: str, status: int
) -> None:
    create_row("companies", id="x")

    assert reader.get(f"/api/v1/{path}", headers={"If-None-Match": "*"}).status_code == status


@pytest.mark.parametrize(
    ("path", "sql"),
    [
        ("companies", "UPDATE companies SET name = 'b'"),
        ("companies", "DELETE FROM companies"),
        ("companies/x", "UPDATE companies SET name = 'b'"),
        ("companies/x?include=contacts", "UPDATE contacts SET name = 'b'"),
        ("contacts?include=company", "UPDATE companies SET name = 'b'"),
        ("contacts/y", "DELETE FROM companies"),
        ("changes", "UPDATE contacts SET name = 'b'"),
    ],
)
def test_a_write_by_any_program_changes_the_etag(
    database: str, reader: FlaskClient, create_row: CreateRow, path: str, sql: str
) -> None:
    create_row("companies", id="x")
    create_row("contacts", id="y", companyId="x")
    tag = reader.get(f"/api/v1/{path}").headers["ETag"]
    run_external_sql(database, sql)

    response = reader.get(f"/api/v1/{path}", headers={"If-None-Match": tag})
    assert response.status_code == 200
    assert response.headers["ETag"] != tag


@pytest.mark.parametrize(("path", "tag"), [("neverwas", "0"), ("gone", "2"), ("neverwas?include=contacts", "0")])
def test_what_is_not_there_is_never_unchanged(
    reader: FlaskClient, create_row: CreateRow, query: Query, path: str, tag: str
) -> None:
    create_row("companies", id="gone")
    query("DELETE FROM companies")

    assert reader.get(f"/api/v1/companies/{path}", headers={"If-None-Match": f'"{tag}"'}).status_code == 404


def test_another_rows_change_leaves_the_etag_alone(reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("companies", id="x")
    tag = reader.get("/api/v1/companies/x").headers["ETag"]
    create_row("companies", id="y")
    create_row("contacts", companyId="x")

    assert reader.get("/api/v1/companies/x", headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("companies", 200),
        ("companies/nobody", 404),
        ("companies?nmae=x", 400),
        ("nothing", 404),
        ("changes", 200),
        ("keys", 200),
    ],
)
def test_every_answer_says_which_version_it_reflects(
    admin: FlaskClient, create_row: CreateRow, path: str, status: int
) -> None:
    create_row("contacts")
    create_row("contacts")
    response = admin.get(f"/api/v1/{path}")

    assert (response.status_code, response.headers["Dataset-Version"]) == (status, "2")


def test_an_empty_dataset_has_version_0(reader: FlaskClient) -> None:
    assert reader.get("/api/v1/companies").headers["Dataset-Version"] == "0"

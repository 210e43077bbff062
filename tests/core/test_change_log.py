"""Dataset versions, ETags and the change feed."""

from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from seed import load_demo
from tests.conftest import CreateRow, ExecutedStatement, Query, run_external_sql

pytestmark = pytest.mark.databases("sqlite", "postgresql")

RESOURCES = ("companies", "contacts", "conversations")


def apply_changes(client: FlaskClient, rows: dict[tuple[str, str], Any], since: int = 0) -> int:
    """Apply every change after `since` to the rows; return the number of the last change."""
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


def all_rows(client: FlaskClient) -> dict[tuple[str, str], Any]:
    return {(name, row["id"]): row for name in RESOURCES for row in client.get(f"/api/v1/{name}").json}


def test_a_change_has_its_number_resource_action_time_and_row(writer: FlaskClient) -> None:
    created = writer.post("/api/v1/contacts", json={"name": "John"}).json
    changed = writer.patch(f"/api/v1/contacts/{created['id']}", json={"title": "CEO"}).json
    writer.delete(f"/api/v1/contacts/{created['id']}")

    feed = writer.get("/api/v1/changes").json
    assert [list(change) for change in feed] == [
        ["seq", "resource", "id", "action", "at", "keyId", "requestId", "data"]
    ] * 3
    assert [(change["seq"], change["action"], change["data"]) for change in feed] == [
        (1, "created", created),
        (2, "updated", changed),
        (3, "deleted", None),
    ]
    assert {(change["resource"], change["id"]) for change in feed} == {("contacts", created["id"])}


def test_applying_all_changes_rebuilds_the_data(app: Flask, reader: FlaskClient, query: Query) -> None:
    with app.app_context():
        load_demo(40)
    rows: dict[tuple[str, str], Any] = {}
    last = apply_changes(reader, rows)
    assert rows == all_rows(reader)

    query("DELETE FROM companies WHERE position > 0")
    query("UPDATE contacts SET title = 'CEO' WHERE is_primary")
    apply_changes(reader, rows, last)
    assert rows == all_rows(reader)


def test_the_change_feed_is_paginated(app: Flask, reader: FlaskClient, create_row: CreateRow) -> None:
    for _number in range(5):
        create_row("contacts")

    first = reader.get("/api/v1/changes?limit=2")
    assert first.headers["Link"] == '<http://localhost/api/v1/changes?since=2&limit=2>; rel="next"'
    assert [change["seq"] for change in first.json] == [1, 2]
    assert "Link" not in reader.get("/api/v1/changes?since=3&limit=2").headers
    assert reader.get("/api/v1/changes?since=5").json == []


def test_deleting_a_company_logs_the_update_of_each_of_its_1000_contacts(writer: FlaskClient) -> None:
    company = writer.post("/api/v1/companies", json={"name": "Acme"}).json["id"]
    writer.post("/api/v1/contacts", json=[{"name": "John", "companyId": company}] * 1000)
    rows: dict[tuple[str, str], Any] = {}
    last = apply_changes(writer, rows)

    deleted = writer.delete(f"/api/v1/companies/{company}")
    assert int(deleted.headers["Dataset-Version"]) == last + 1001
    apply_changes(writer, rows, last)
    assert rows == all_rows(writer)
    assert {row["companyId"] for row in rows.values()} == {None}


@pytest.mark.parametrize(
    "path", ["companies", "companies/x", "contacts?companyId=x", "companies/x?include=contacts", "changes"]
)
def test_an_unchanged_response_is_304_after_one_query_of_the_change_log(
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
def test_if_none_match_with_an_asterisk_matches_any_existing_row(
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
def test_a_write_by_another_program_changes_the_etag(
    database: str, reader: FlaskClient, create_row: CreateRow, path: str, sql: str
) -> None:
    create_row("companies", id="x")
    create_row("contacts", id="y", companyId="x")
    tag = reader.get(f"/api/v1/{path}").headers["ETag"]
    run_external_sql(database, sql)

    response = reader.get(f"/api/v1/{path}", headers={"If-None-Match": tag})
    assert response.status_code == 200
    assert response.headers["ETag"] != tag


@pytest.mark.parametrize(("path", "number"), [("neverwas", 0), ("gone", 2), ("neverwas?include=contacts", 0)])
def test_a_missing_row_is_404_even_if_its_etag_matches(
    reader: FlaskClient, create_row: CreateRow, query: Query, path: str, number: int
) -> None:
    create_row("companies", id="gone")
    query("DELETE FROM companies")
    tag = reader.get("/api/v1/companies").headers["ETag"].replace("-2", f"-{number}")

    assert reader.get(f"/api/v1/companies/{path}", headers={"If-None-Match": tag}).status_code == 404


def test_a_change_of_another_row_keeps_the_etag(reader: FlaskClient, create_row: CreateRow) -> None:
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
def test_every_response_has_the_dataset_id_and_version(
    admin: FlaskClient, create_row: CreateRow, query: Query, path: str, status: int
) -> None:
    create_row("contacts")
    create_row("contacts")
    response = admin.get(f"/api/v1/{path}")

    [[dataset]] = query("SELECT id FROM dataset")
    found = response.status_code, response.headers["Dataset-Id"], response.headers["Dataset-Version"]
    assert found == (status, dataset, "2")
    assert response.headers.get("ETag", f'"{dataset[:8]}-').startswith(f'"{dataset[:8]}-')


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}])
@pytest.mark.parametrize(("since", "status"), [(1, 200), (2, 200), (3, 410), (2**63 - 1, 410)])
def test_changes_after_a_number_that_is_yet_to_come_are_410(
    reader: FlaskClient, create_row: CreateRow, since: int, status: int, headers: dict[str, str]
) -> None:
    create_row("contacts")
    create_row("contacts")
    response = reader.get(f"/api/v1/changes?since={since}", headers=headers)
    status = 304 if headers and status == 200 else status

    assert (response.status_code, response.headers["Dataset-Version"]) == (status, "2")
    if status == 410:
        assert response.json["detail"] == (
            f"The last change is 2, so {since} belongs to another history: load all data again."
        )


@pytest.mark.parametrize("path", ["contacts", "contacts/x", "changes"])
def test_no_etag_of_another_history_matches(
    reader: FlaskClient, writer: FlaskClient, create_row: CreateRow, query: Query, path: str
) -> None:
    create_row("contacts", id="x")
    tag = reader.get(f"/api/v1/{path}").headers["ETag"]
    dataset = str(uuid4())
    query("UPDATE dataset SET id = :dataset", dataset=dataset)

    response = reader.get(f"/api/v1/{path}", headers={"If-None-Match": tag})
    assert (response.status_code, response.headers["ETag"]) == (200, f'"{dataset[:8]}-1"')
    assert writer.patch("/api/v1/contacts/x", json={"name": "b"}, headers={"If-Match": tag}).status_code == 412


def test_an_empty_dataset_has_version_0(reader: FlaskClient) -> None:
    assert reader.get("/api/v1/companies").headers["Dataset-Version"] == "0"

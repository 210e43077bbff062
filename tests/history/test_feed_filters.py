"""The feed has the key and request of each change, and filters by range, resource, row, key and request."""

from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient

from seed import load_demo
from tests.conftest import ExecutedStatement, Query, run_external_sql
from tests.core.conftest import pages
from tests.history.conftest import CHANGES, feed, key_id, numbers, table_sizes, version

pytestmark = pytest.mark.databases("sqlite", "postgresql")


@pytest.fixture
def eight_changes(writer: FlaskClient, other: FlaskClient, query: Query) -> None:
    """Log eight changes: 1 to 3, 7 and 8 by a key, 4 and 5 by another, 6 by a shell."""
    first = {"X-Request-Id": "import-1"}
    writer.post(
        "/api/v1/companies?matchOn=id", json=[{"id": "a", "name": "A"}, {"id": "b", "name": "B"}], headers=first
    )
    writer.put("/api/v1/contacts/a", json={"name": "Ann", "companyId": "a"})
    other.put("/api/v1/contacts/x", json={"name": "Xi"})
    other.patch("/api/v1/companies/a", json={"name": "A2"}, headers={"X-Request-Id": "rename"})
    query("UPDATE companies SET name = 'A3' WHERE id = 'a'")
    writer.delete("/api/v1/contacts/x")
    writer.patch("/api/v1/companies/b", json={"name": "B2"}, headers=first)


@pytest.mark.parametrize(
    ("query_string", "expected"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("since=2&until=5", [3, 4, 5]),
        ("until=3", [1, 2, 3]),
        ("since=8&until=8", []),
        ("since=0&until=0", []),
        ("resource=contacts", [3, 4, 7]),
        ("resource=conversations", []),
        ("id=a", [1, 3, 5, 6]),
        ("resource=companies&id=a", [1, 5, 6]),
        ("resource=companies&id=a&since=1&until=5", [5]),
        ("id=nobody", []),
        ("keyId=WRITER", [1, 2, 3, 7, 8]),
        ("keyId=OTHER", [4, 5]),
        ("keyId=WRITER&since=1&until=7", [2, 3, 7]),
        ("keyId=WRITER&resource=contacts", [3, 7]),
        ("keyId=WRITER&id=b", [2, 8]),
        ("keyId=nobody", []),
        ("requestId=import-1", [1, 2, 8]),
        ("requestId=import-1&since=1&until=7", [2]),
        ("requestId=rename", [5]),
        ("requestId=rename&keyId=OTHER", [5]),
        ("requestId=rename&keyId=WRITER", []),
        ("requestId=nothing", []),
    ],
)
def test_filters_select_changes_whatever_the_page(
    eight_changes: None, writer: FlaskClient, other: FlaskClient, query_string: str, expected: list[int]
) -> None:
    text = query_string.replace("WRITER", key_id(writer)).replace("OTHER", key_id(other))

    for limit in "", "&limit=1", "&limit=2":
        assert numbers(writer, f"{text}{limit}") == expected
    # No page is empty, except the only one.
    assert [len(page) for page in pages(writer, f"{CHANGES}?{text}&limit=1")] == ([1] * len(expected) or [0])


def test_only_a_full_page_with_filters_costs_a_second_query(
    eight_changes: None, reader: FlaskClient, statements: list[ExecutedStatement]
) -> None:
    for query_string, count, has_more in [
        ("limit=7", 1, True), ("limit=8", 1, False), ("since=2&until=4&limit=2", 1, False),
        ("id=a&limit=3", 2, True), ("id=a&limit=4", 2, False), ("id=a&limit=5", 1, False),
        ("resource=companies&until=5&limit=3", 1, False),
    ]:  # fmt: skip
        statements.clear()
        response = reader.get(f"{CHANGES}?{query_string}")
        reading = [each for each in statements if "FROM changes" in each.sql]
        assert (len(reading), "Link" in response.headers) == (count, has_more), query_string


def test_each_change_names_the_key_and_the_request_that_made_it(
    eight_changes: None, writer: FlaskClient, other: FlaskClient
) -> None:
    first, second = key_id(writer), key_id(other)
    entries = feed(writer)

    assert list(entries[0]) == ["seq", "resource", "id", "action", "at", "keyId", "requestId", "data"]
    assert [each["keyId"] for each in entries] == [first] * 3 + [second] * 2 + [None, first, first]
    ids = [each["requestId"] for each in entries]
    assert (ids[:2], ids[4:6], ids[7]) == (["import-1"] * 2, ["rename", None], "import-1")
    assert all(len(each or "") == 36 for each in (ids[2], ids[3], ids[6]))


def test_a_transaction_has_one_row_with_its_range_and_time(writer: FlaskClient, query: Query) -> None:
    writer.post("/api/v1/companies?matchOn=id", json=[{"id": str(number), "name": "A"} for number in range(5)])
    writer.post("/api/v1/contacts", json={"name": "Ann", "companyId": "3"})
    writer.delete("/api/v1/companies/3")
    # Nothing changes.
    writer.patch("/api/v1/companies/2", json={"name": "A"})

    assert query("SELECT first_seq, last_seq FROM writes ORDER BY 1") == [(1, 5), (6, 6), (7, 8)]
    [[latest]] = query("SELECT max(at) FROM writes")
    age = datetime.now(UTC) - (datetime.fromisoformat(latest) if isinstance(latest, str) else latest)
    assert 0 <= age.total_seconds() < 60


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "companies?dryRun=true", {"name": "A"}),
        ("POST", "companies", {"name": ""}),
        ("POST", "companies", [{"name": "A"}, {"name": "A", "x": 1}]),
        ("POST", "keys", {"name": "a key"}),
        ("DELETE", "companies/nobody", None),
    ],
)
def test_a_request_that_changes_no_row_logs_no_transaction(
    admin: FlaskClient, query: Query, method: str, path: str, body: object
) -> None:
    admin.open(f"/api/v1/{path}", method=method, json=body)

    assert table_sizes(query) == [(0, 0)]


def test_the_id_of_a_deleted_key_stays_in_the_log(admin: FlaskClient, other: FlaskClient) -> None:
    other.post("/api/v1/contacts", json={"name": "Ann"})
    deleted = key_id(other)
    assert admin.delete(f"/api/v1/keys/{deleted}").status_code == 204

    assert [each["keyId"] for each in feed(admin, f"keyId={deleted}")] == [deleted]


def test_changes_by_a_command_have_a_request_and_no_key(app: Flask, reader: FlaskClient) -> None:
    with app.app_context():
        load_demo(2)
    entries = feed(reader)

    assert {each["keyId"] for each in entries} == {None}
    [request_id] = {each["requestId"] for each in entries}
    assert request_id
    assert numbers(reader, f"requestId={request_id}") == [each["seq"] for each in entries]


@pytest.mark.parametrize(
    "sql",
    ["UPDATE writes SET key_id = 'x'", "DELETE FROM writes", "UPDATE writes SET last_seq = 9", "TRUNCATE writes"],
)
def test_the_transactions_in_the_log_cannot_be_changed(
    writer: FlaskClient, query: Query, database: str, sql: str
) -> None:
    if sql.startswith("TRUNCATE") and database.startswith("sqlite"):
        return
    writer.post("/api/v1/contacts", json={"name": "Ann"})
    before = query("SELECT * FROM writes")

    with pytest.raises(Exception, match="part of the change log, which is only ever added to"):
        query(sql)
    assert query("SELECT * FROM writes") == before


def test_changes_by_another_program_have_no_key_and_no_request(writer: FlaskClient, database: str) -> None:
    writer.put("/api/v1/contacts/a", json={"name": "Ann"})
    run_external_sql(database, "UPDATE contacts SET title = 'CEO'")
    writer.patch("/api/v1/contacts/a", json={"title": "CTO"})
    run_external_sql(database, "DELETE FROM contacts")

    key = key_id(writer)
    assert [each["keyId"] for each in feed(writer)] == [key, None, key, None]
    assert numbers(writer, f"keyId={key}") == [1, 3]


@pytest.mark.parametrize(
    ("query_string", "status", "detail"),
    [
        ("since=3&until=2", 400, "until must not be before since: 2 is before 3."),
        ("until=9", 400, "The last change is 8: until can't be 9 yet."),
        ("until=9223372036854775808", 400, "until must be a whole number"),
        ("until=9223372036854775807", 200, ""),
        ("until=-1", 400, "until must be a whole number"),
        ("until=", 400, "until must be a whole number"),
        ("until=%D9%A3", 400, "until must be a whole number"),
        ("since=9", 410, "The last change is 8"),
        ("since=9&net=true", 410, "The last change is 8"),
        ("net=yes", 400, "net must be true or false, not 'yes'."),
        ("cursor=3", 400, "cursor is for net=true"),
        ("net=true&cursor=x", 400, "cursor must be a whole number"),
        ("resource=company", 400, "Did you mean companies?"),
        ("resource=", 400, "resource can't be ''."),
        ("id=", 400, "id must be 1 to 128 visible ASCII characters."),
        ("id=a%00b", 400, "id must be 1 to 128 visible ASCII characters."),
        ("keyId=%ED%A0%80", 400, "The query string must be in UTF-8."),
        ("requestId=%F0%9F%98%80", 400, "requestId must be 1 to 128 visible ASCII characters."),
        (f"requestId={'x' * 129}", 400, "requestId must be 1 to 128 visible ASCII characters."),
        ("keyId=a&keyId=b", 400, "keyId must be given once"),
        ("keyid=a", 400, "Did you mean keyId?"),
        ("action=created", 400, "There is no parameter action here."),
    ],
)
def test_an_invalid_range_or_filter_is_refused(
    eight_changes: None, reader: FlaskClient, query_string: str, status: int, detail: str
) -> None:
    response = reader.get(f"{CHANGES}?{query_string}")

    assert response.status_code == status, response.text
    assert status == 200 or detail in response.json["detail"]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.tools)])
def test_changes_of_an_old_log_have_no_key_and_no_request(upgraded: FlaskClient) -> None:
    last = version(upgraded)
    upgraded.post("/api/v1/contacts", json={"name": "Ann"})
    entries = feed(upgraded)

    assert [each["seq"] for each in entries] == [*range(1, last + 2)]
    assert {(each["keyId"], each["requestId"]) for each in entries[:-1]} == {(None, None)}
    assert numbers(upgraded, f"keyId={key_id(upgraded)}") == [last + 1]

"""The database refuses invalid rows and changes of the change log, from any program."""

import json

import pytest
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from tests.conftest import Query
from tests.core.conftest import insert

pytestmark = pytest.mark.databases("sqlite", "postgresql")

NOON = "2024-01-01T12:00:00Z"


@pytest.mark.parametrize(
    ("resource", "column", "value"),
    [
        ("companies", "name", ""),
        ("companies", "name", "x" * 256),
        ("companies", "name", "a\0b"),
        ("companies", "name", None),
        ("companies", "id", "a b"),
        ("companies", "id", ""),
        ("companies", "id", "x" * 65),
        ("companies", "website", "ftp://acme.com"),
        ("companies", "logo_url", "http://"),
        ("companies", "notes", "x" * 10_001),
        ("companies", "deal_value", -1),
        ("companies", "deal_value", 1e12),
        ("companies", "deal_value", 0.001),
        ("companies", "deal_value", "much"),
        ("companies", "position", -1),
        ("companies", "position", 2**31),
        ("companies", "is_customer", 2),
        ("companies", "updated_at", "2024-02-30T00:00:00Z"),
        ("companies", "last_contact", 1705314600),
        ("contacts", "company_id", "nobody"),
        ("contacts", "email", "john"),
        ("contacts", "is_primary", None),
        ("conversations", "company_id", "nobody"),
        ("conversations", "status", "opened"),
        ("conversations", "visitor_ip", "localhost"),
        ("conversations", "tags", "urgent"),
        ("conversations", "tags", "{}"),
        ("conversations", "tags", '["a", "a"]'),
        ("conversations", "tags", '[""]'),
        ("conversations", "tags", "[1]"),
        ("conversations", "tags", json.dumps(["x" * 65])),
        ("conversations", "tags", json.dumps([str(number) for number in range(51)])),
    ],
)
def test_the_database_refuses_invalid_values(
    database: str, query: Query, resource: str, column: str, value: object
) -> None:
    # PostgreSQL raises other errors for values that its types refuse.
    refused = IntegrityError if database.startswith("sqlite") else (IntegrityError, DataError, ProgrammingError)
    with pytest.raises(refused):
        insert(query, resource, **{column: value})
    insert(query, resource)
    if column != "id":
        with pytest.raises(refused):
            query(f"UPDATE {resource} SET {column} = :value", value=value)

    assert query("SELECT seq, action FROM changes") == [(1, "created")]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("name", b"bytes"),
        ("position", 0.5),
        ("is_customer", "true"),
        ("created_at", "2024-01-01"),
        ("last_contact", "2024-01-01T00:00:00+01:00"),
    ],
)
def test_sqlite_refuses_values_of_another_type(query: Query, column: str, value: object) -> None:
    with pytest.raises(IntegrityError):
        insert(query, "companies", **{column: value})


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize(
    ("column", "value"),
    [("deal_value", "NaN"), ("last_contact", "infinity"), ("last_contact", "10000-01-01"), ("created_at", "1-1-1 BC")],
)
def test_postgresql_refuses_values_that_the_api_refuses(query: Query, column: str, value: object) -> None:
    with pytest.raises(IntegrityError):
        insert(query, "companies", **{column: value})


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize("table", ["contacts", "changes"])
def test_truncate_is_refused(query: Query, table: str) -> None:
    insert(query, "contacts")

    with pytest.raises(IntegrityError):
        query(f"TRUNCATE {table}")
    assert query("SELECT seq FROM changes") == [(1,)]


@pytest.mark.parametrize(
    "sql", ["DELETE FROM changes", "UPDATE changes SET seq = 9", "UPDATE companies SET id = 'other'"]
)
def test_the_change_log_and_ids_cannot_be_changed(query: Query, sql: str) -> None:
    insert(query, "companies")

    with pytest.raises(IntegrityError):
        query(sql)
    assert query("SELECT seq, row_id FROM changes") == [(1, "a")]


def test_the_change_log_refuses_a_gap_in_its_numbers(query: Query) -> None:
    insert(query, "companies")

    with pytest.raises(IntegrityError):
        query("INSERT INTO changes SELECT seq + 2, resource, row_id, action, at, data FROM changes")
    assert query("SELECT max(seq) FROM changes") == [(1,)]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    "sql",
    [
        "REPLACE INTO changes SELECT seq, resource, 'forged', action, at, data FROM changes",
        "REPLACE INTO contacts (number, id, name, is_primary, created_at, updated_at)"
        " SELECT number, 'other', name, is_primary, created_at, updated_at FROM contacts",
        "REPLACE INTO contacts (id, name, is_primary, created_at, updated_at)"
        " SELECT id, 'other', is_primary, created_at, updated_at FROM contacts",
    ],
    ids=["a-change", "a-number", "an-id"],
)
def test_replace_into_an_existing_row_is_refused(query: Query, sql: str) -> None:
    insert(query, "contacts")

    with pytest.raises(IntegrityError):
        query(sql)
    assert query("SELECT seq, row_id, data ->> 'name' FROM changes") == [(1, "b", "John")]
    assert query("SELECT id, name FROM contacts") == [("b", "John")]

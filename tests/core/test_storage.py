"""What the database holds by itself, whoever writes: its rules, its references, its log of changes."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from database import connection, db, write_transaction
from database.sqlite import bulk_indexing, has_wal_reset_bug
from database.sqlite import driver as sqlite
from models import Contact
from tests.conftest import CreateRow, ExecutedStatement, Query, run_external_sql

pytestmark = pytest.mark.databases("sqlite", "postgresql")

NOON = "2024-01-01T12:00:00Z"
ROWS: dict[str, dict[str, Any]] = {
    "companies": {"id": "a", "name": "Acme", "position": 0, "is_customer": False},
    "contacts": {"id": "b", "name": "John", "is_primary": False},
    "conversations": {"id": "c", "status": "open", "is_read": False, "trust_uploads": False, "tags": "[]"},
}


def insert(query: Query, resource: str, **columns: Any) -> None:
    """Insert a row with SQL, without validation by a schema."""
    row = {**ROWS[resource], "created_at": NOON, "updated_at": NOON, **columns}
    query(f"INSERT INTO {resource} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})", **row)


@pytest.mark.databases("sqlite")
def test_every_connection_has_the_required_pragmas(app: Flask) -> None:
    with app.app_context(), db.engine.connect() as one, db.engine.connect() as two:
        for connection in one, two:
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("busy_timeout", "journal_mode", "synchronous", "foreign_keys", "trusted_schema")
            }
            assert pragmas == {
                "busy_timeout": 5000,
                "journal_mode": "wal",
                "synchronous": 2,
                "foreign_keys": 1,
                "trusted_schema": 0,
            }


@pytest.mark.databases("sqlite")
def test_a_write_transaction_locks_the_database_when_it_begins(app: Flask, database: str) -> None:
    with app.app_context(), write_transaction(), pytest.raises(subprocess.CalledProcessError):
        run_external_sql(database, "BEGIN IMMEDIATE")
    assert run_external_sql(database, "BEGIN IMMEDIATE") == []


@pytest.mark.databases("sqlite")
def test_a_write_succeeds_after_waiting_for_a_bulk_load(app: Flask, writer: FlaskClient) -> None:
    thread = ThreadPoolExecutor(1)
    with app.app_context(), db.engine.connect() as loading:
        loading.exec_driver_sql("BEGIN IMMEDIATE")
        with bulk_indexing(loading.exec_driver_sql, Contact.__table__):
            waiting = thread.submit(writer.post, "/api/v1/contacts", json={"name": "late"})
            time.sleep(0.3)
            assert not waiting.done()
        loading.commit()

    assert waiting.result().status_code == 201


@pytest.mark.databases("sqlite")
def test_a_row_with_invalid_utf8_is_listed(database: str, reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", name="John")
    run_external_sql(database, "UPDATE contacts SET name = CAST(x'4aff' AS TEXT)")

    assert [row["name"] for row in reader.get("/api/v1/contacts").json] == ["J\ufffd"]
    assert [change["action"] for change in reader.get("/api/v1/changes").json] == ["created", "updated"]


def test_a_failed_write_transaction_changes_nothing(app: Flask, query: Query) -> None:
    insert(query, "companies")
    with app.app_context(), pytest.raises(RuntimeError), write_transaction():
        connection().execute("DELETE FROM companies")
        raise RuntimeError

    assert query("SELECT id FROM companies") == [("a",)]
    assert query("SELECT count(*) FROM changes") == [(1,)]


def test_the_bundled_sqlite_is_used_if_it_is_installed() -> None:
    assert sqlite.__name__ == ("pysqlite3.dbapi2" if find_spec("pysqlite3") else "sqlite3")


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 4), False),
    ],
)
def test_the_wal_reset_bug_is_detected_by_version(version: tuple[int, ...], has_bug: bool) -> None:
    assert has_wal_reset_bug(version) is has_bug


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


def test_the_change_log_has_each_row_as_the_api_returns_it(
    database: str, reader: FlaskClient, create_row: CreateRow, query: Query
) -> None:
    ids = {"companies": create_row("companies", dealValue=358976077017.13, isCustomer=True, lastContact=NOON)}
    ids["contacts"] = create_row("contacts", companyId=ids["companies"], name='Zoë "Z" \t🦊', isPrimary=True)
    ids["conversations"] = create_row(
        "conversations", companyId=ids["companies"], tags=["ä", '"', "🦊"], visitorIp="::1"
    )

    for seq, (resource, row_id) in enumerate(ids.items(), 1):
        returned = reader.get(f"/api/v1/{resource}/{row_id}").text
        assert query(f"SELECT resource, row_id, action, data FROM changes WHERE seq = {seq}") == [
            (resource, row_id, "created", returned)
        ]

    # Another program writes, with the SQLite of the standard library.
    run_external_sql(database, "UPDATE contacts SET title = 'CEO'")
    returned = reader.get(f"/api/v1/contacts/{ids['contacts']}").text
    assert '"title":"CEO"' in returned
    assert query("SELECT action, data FROM changes WHERE seq = 4") == [("updated", returned)]


def test_deleting_a_company_clears_the_references_to_it_and_logs_every_change(query: Query) -> None:
    insert(query, "companies")
    insert(query, "contacts", company_id="a")
    insert(query, "conversations", company_id="a")
    query("DELETE FROM companies")

    assert query("SELECT company_id FROM contacts UNION ALL SELECT company_id FROM conversations") == [(None,), (None,)]
    logged = query("SELECT seq, resource, row_id, action, data ->> 'companyId' FROM changes WHERE seq > 3 ORDER BY seq")
    # A copy with foreign keys can be updated from the change log only if the company comes last.
    assert logged == [
        (4, "conversations", "c", "updated", None),
        (5, "contacts", "b", "updated", None),
        (6, "companies", "a", "deleted", None),
    ]


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


def test_a_company_deleted_by_another_program_leaves_no_reference(
    database: str, create_row: CreateRow, reader: FlaskClient
) -> None:
    create_row("companies", id="gone")
    create_row("contacts", id="x", companyId="gone")
    run_external_sql(database, "DELETE FROM companies")

    assert reader.get("/api/v1/contacts/x").json["companyId"] is None
    changes = reader.get("/api/v1/changes?since=2").json
    assert [(change["resource"], change["action"]) for change in changes] == [
        ("contacts", "updated"),
        ("companies", "deleted"),
    ]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT * FROM companies ORDER BY created_at, id", "ix_companies_created_at_id"),
        ("SELECT * FROM contacts ORDER BY created_at, id", "ix_contacts_created_at_id"),
        ("SELECT * FROM conversations ORDER BY created_at, id", "ix_conversations_created_at_id"),
        (
            "SELECT * FROM contacts WHERE company_id = 'a' ORDER BY created_at, id",
            "ix_contacts_company_id_created_at_id",
        ),
        (
            "SELECT * FROM conversations WHERE company_id = 'a' ORDER BY created_at, id",
            "ix_conversations_company_id_created_at_id",
        ),
        ("SELECT * FROM contacts WHERE id = 'a'", "sqlite_autoindex_contacts_"),
        ("SELECT id FROM api_keys WHERE sha256 = 'a'", "sqlite_autoindex_api_keys_"),
        ("SELECT max(seq) FROM changes WHERE resource = 'contacts'", "ix_changes_resource_seq"),
    ],
)
def test_every_frequent_query_uses_an_index(query: Query, sql: str, index: str) -> None:
    plan = " ".join(row[-1] for row in query(f"EXPLAIN QUERY PLAN {sql}"))

    assert index in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("resource", ["companies", "contacts", "conversations"])
def test_a_list_of_any_length_takes_two_statements(
    reader: FlaskClient, create_row: CreateRow, statements: list[ExecutedStatement], resource: str
) -> None:
    for _number in range(20):
        create_row(resource)

    for path in f"/api/v1/{resource}", f"/api/v1/{resource}/{create_row(resource)}":
        statements.clear()
        assert reader.get(path).status_code == 200
        # One statement finds the key, one reads the version and the rows.
        assert [each.verb for each in statements] == ["SELECT", "SELECT"]


@pytest.mark.databases("sqlite")
def test_the_database_file_has_the_path_of_the_url(app: Flask, database: str) -> None:
    assert Path(database.removeprefix("sqlite:///")).is_file()

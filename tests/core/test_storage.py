"""The database: connections, transactions, the change log, references and indexes."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database import db
from database.connection import connection, write_transaction
from database.sqlite import bulk_indexing, has_wal_reset_bug
from database.sqlite import driver as sqlite
from models import Contact
from tests.conftest import CreateRow, ExecutedStatement, Query, run_external_sql
from tests.core.conftest import insert

pytestmark = pytest.mark.databases("sqlite", "postgresql")

NOON = "2024-01-01T12:00:00Z"


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
    other = sqlite.connect(database.removeprefix("sqlite:///"), timeout=0)
    with closing(other), app.app_context(), write_transaction(), pytest.raises(sqlite.OperationalError):
        other.execute("BEGIN IMMEDIATE")
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


def test_the_change_log_has_each_row_as_the_api_returns_it(
    database: str, reader: FlaskClient, create_row: CreateRow, query: Query
) -> None:
    ids = {"companies": create_row("companies", dealValue=358976077017.13, isCustomer=True, lastContact=NOON)}
    ids["contacts"] = create_row("contacts", companyId=ids["companies"], name='Zoë "Z" 🦊', notes="\t", isPrimary=True)
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

"""Expired rows are deleted once an hour."""

from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.key_uses import CLEANING_SECONDS
from database.columns import now
from formats.values import format_time
from tests.conftest import Query

pytestmark = pytest.mark.databases("sqlite", "postgresql")

ROWS = {
    "sessions": "(sha256, kind, expires_at) VALUES (:name, 'session', :at)",
    "rolled_keys": "(sha256, api_key_id, expires_at) SELECT :name, id, :at FROM api_keys",
    "replays": "(api_key_id, idempotency_key, fingerprint, status, body, created_at)"
    " SELECT id, :name, '', 201, 'a', :at FROM api_keys",
}
DAY = {"replays": timedelta(days=1)}


def add_rows(query: Query) -> None:
    """Add a row to each table that has just expired, and one that will soon."""
    for table, rest in ROWS.items():
        expires = now() - DAY.get(table, timedelta())
        query(f"INSERT INTO {table} {rest}", name="expired", at=format_time(expires - timedelta(seconds=5)))
        query(f"INSERT INTO {table} {rest}", name="valid", at=format_time(expires + timedelta(seconds=60)))


def names(query: Query) -> set[str]:
    """Return the names of the rows that are left."""
    columns = {table: "idempotency_key" if table == "replays" else "sha256" for table in ROWS}
    return {f"{table} {row[0]}" for table, column in columns.items() for row in query(f"SELECT {column} FROM {table}")}


def test_expired_rows_are_deleted_in_the_hour_after_a_request(
    app: Flask, reader: FlaskClient, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid, expired = ({f"{table} {state}" for table in ROWS} for state in ("valid", "expired"))
    add_rows(query)
    last_use = app.extensions["last_use"]
    reader.get("/api/v1/companies")
    last_use.writer.submit(bool).result()
    assert names(query) == valid

    query("DELETE FROM replays")
    query("DELETE FROM sessions")
    query("DELETE FROM rolled_keys")
    add_rows(query)
    for seconds, left in (CLEANING_SECONDS - 10, valid | expired), (CLEANING_SECONDS, valid):
        time = last_use.next_cleaning - CLEANING_SECONDS + seconds
        monkeypatch.setattr("api.key_uses.time.monotonic", lambda time=time: time)
        last_use.noted.clear()
        reader.get("/api/v1/companies")
        last_use.writer.submit(bool).result()
        assert names(query) == left


def test_a_clock_that_is_ahead_deletes_nothing(
    app: Flask, reader: FlaskClient, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_rows(query)
    earliest = now() - timedelta(minutes=1)
    monkeypatch.setattr("database.columns.clock.read", lambda: (earliest + timedelta(days=9), earliest))
    reader.get("/api/v1/companies")
    app.extensions["last_use"].stop()

    assert len(names(query)) == 6


def test_many_expired_rows_are_deleted_in_several_transactions(
    app: Flask, reader: FlaskClient, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.key_uses.MAX_DELETED", 1)
    for number in range(3):
        query(f"INSERT INTO sessions {ROWS['sessions']}", name=f"{number}", at="2020-01-01T00:00:00Z")
    last_use = app.extensions["last_use"]
    reader.get("/api/v1/companies")
    for _transaction in range(4):
        last_use.writer.submit(bool).result()
    assert names(query) == set()

"""Reads that take long hold some of the threads, for a limited time; short reads and writes need none of that."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from database.connection import (
    ReadTimeout,
    begin_snapshot,
    connection,
    discard_connections,
    execute,
    execute_read,
    write_transaction,
)
from database.slots import Slots
from tests.conftest import CreateRow, ExecutedStatement

N = sa.select(sa.literal(1).label("n")).cte("numbers", recursive=True)
NUMBERS = N.union_all(sa.select(N.c.n + 1).where(N.c.n < sa.bindparam("most", type_=sa.Integer())))
COUNT = sa.select(sa.func.count()).select_from(NUMBERS)
LONG = ("/api/v1/contacts?q=zz&limit=5", "/api/v1/contacts?sort=name", "/api/v1/companies/a?include=contacts")
SHORT = ("/api/v1/companies/a", "/api/v1/changes", "/api/v1/keys/me")


@pytest.fixture
def every_list_is_long(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each statement that can take long count as one that does."""
    monkeypatch.setattr("database.sqlite.PROGRESS_STEPS", 1)
    monkeypatch.setattr("database.connection.SHORT_CALLBACKS", 0)
    with app.app_context():
        app.extensions["connections"].close()


@pytest.fixture
def other_long_reads(app: Flask) -> Iterator[Slots]:
    """Have other requests hold all slots of long reads."""
    slots: Slots = app.extensions["connections"].long_reads
    while slots.acquire():
        pass
    yield slots
    assert slots.taken == slots.count == 8


@pytest.mark.databases("sqlite", "postgresql")
def test_a_read_is_interrupted_after_the_limit_and_its_connection_still_works(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("database.connection.MAX_READ_SECONDS", 0.3)
    with app.test_request_context():
        app.extensions["connections"].close()
        started = time.monotonic()
        with pytest.raises(ReadTimeout):
            execute_read(COUNT, most=10**8)
        assert 0.2 < time.monotonic() - started < 2
        own = connection()
        assert execute_read(COUNT, most=10).fetchone() == (10,)
        assert connection() is own
        begin_snapshot()
        with pytest.raises(ReadTimeout):
            execute_read(COUNT, most=10**8)
        assert execute_read(COUNT, most=10).fetchone() == (10,)


@pytest.mark.databases("sqlite", "postgresql")
def test_a_statement_of_a_writing_transaction_takes_as_long_as_it_needs(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("database.connection.MAX_READ_SECONDS", 0.01)
    with app.test_request_context():
        app.extensions["connections"].close()
        with write_transaction():
            assert execute(COUNT, most=300_000).fetchone() == (300_000,)


@pytest.mark.parametrize("path", LONG)
@pytest.mark.usefixtures("every_list_is_long")
def test_a_request_that_takes_too_long_is_400_with_a_hint(
    reader: FlaskClient, create_row: CreateRow, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    create_row("companies", id="a")
    assert reader.get(path).status_code == 200
    monkeypatch.setattr("database.connection.MAX_READ_SECONDS", 0)

    refused = reader.get(path)
    assert refused.status_code == 400
    assert refused.json["detail"] == (
        "This takes more than 5 seconds: "
        "ask for less by limit, by a filter that has an index, by longer words in q, or without include."
    )
    assert [reader.get(short).status_code for short in SHORT] == [200] * 3


@pytest.mark.usefixtures("every_list_is_long", "other_long_reads")
def test_one_long_read_too_many_is_503_and_short_requests_still_work(
    reader: FlaskClient, writer: FlaskClient, create_row: CreateRow
) -> None:
    create_row("companies", id="a")
    for path in LONG:
        refused = reader.get(path)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5"), path
        assert refused.json["detail"].startswith("Too many requests that take long are running: try again, or ask for")
    assert [reader.get(short).status_code for short in SHORT] == [200] * 3
    assert writer.patch("/api/v1/companies/a", json={"name": "b"}).status_code == 200


@pytest.mark.usefixtures("every_list_is_long")
def test_each_long_read_frees_its_slot(app: Flask, reader: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in 5, 0:
        monkeypatch.setattr("database.connection.MAX_READ_SECONDS", limit)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _time: reader.get("/api/v1/contacts?q=zz").close(), range(20)))
        assert app.extensions["connections"].long_reads.taken == 0


@pytest.mark.usefixtures("every_list_is_long")
def test_a_list_that_has_begun_is_not_interrupted(
    reader: FlaskClient, create_row: CreateRow, monkeypatch: pytest.MonkeyPatch, statements: list[ExecutedStatement]
) -> None:
    monkeypatch.setattr("api.query.MAX_PAGE", 1)
    for name in "abc":
        create_row("contacts", id=name)
    with reader.get("/api/v1/contacts", headers={"Prefer": "count=exact"}, buffered=False) as response:
        monkeypatch.setattr("database.connection.MAX_READ_SECONDS", 0)
        assert [row["id"] for row in json.loads(b"".join(response.response))] == ["a", "b", "c"]
    # The rows of all pages are counted once.
    assert sum("count(*) AS" in each.sql for each in statements) == 1


def test_a_long_read_frees_its_slot_when_its_connection_breaks(app: Flask) -> None:
    with app.test_request_context():
        assert connection().take_slot()
        discard_connections(Exception())
    assert app.extensions["connections"].long_reads.taken == 0


def test_slots_are_refused_once_none_is_freed_and_not_while_others_are() -> None:
    slots = Slots(2, patience=0.2)
    assert slots.acquire() and slots.acquire()
    started = time.monotonic()
    assert not slots.acquire()
    assert time.monotonic() - started > 0.15
    assert not slots.acquire()
    assert time.monotonic() - started < 0.5

    # The last ones wait longer than the patience, but a slot is freed all the time.
    slots = Slots(2, patience=0.7)

    def take(_number: int) -> bool:
        has_slot = slots.acquire()
        time.sleep(0.1)
        if has_slot:
            slots.release()
        return has_slot

    with ThreadPoolExecutor(18) as threads:
        assert all(threads.map(take, range(18)))
    assert slots.taken == 0


def test_a_freed_slot_is_taken_at_once() -> None:
    slots = Slots(1, patience=5)
    slots.acquire()
    threading.Timer(0.1, slots.release).start()
    started = time.monotonic()
    assert slots.acquire() and time.monotonic() - started < 2


def test_a_few_writers_wait_for_a_slow_one_and_the_others_are_refused_at_once(
    app: Flask, writer: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would be one of the writers.
    monkeypatch.setattr(app.extensions["last_use"], "note", lambda _key_id: None)

    def post(_number: int) -> tuple[int, float]:
        started = time.monotonic()
        return writer.post("/api/v1/contacts", json={"name": "a"}).status_code, time.monotonic() - started

    timer = threading.Timer(1.5, app.extensions["connections"].write_lock.lock.release)
    app.extensions["connections"].write_lock.lock.acquire()
    timer.start()
    with ThreadPoolExecutor(12) as threads:
        found = sorted(threads.map(post, range(12)))
    assert [status for status, _seconds in found] == [201] * 4 + [503] * 8
    assert max(seconds for status, seconds in found if status == 503) < 1.2


def test_a_word_is_searched_for_once(reader: FlaskClient, statements: list[ExecutedStatement]) -> None:
    for words in "e", "e" + "+e" * 126, "E+%C3%A9+e":
        assert reader.get(f"/api/v1/contacts?q={words}&limit=5").status_code == 200
    assert len({each.sql for each in statements if "folded" in each.sql or "LIKE" in each.sql}) == 1

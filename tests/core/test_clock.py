"""The time when the system's clock is set: forwards for a moment, or back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database.columns import clock, earliest_now, now
from formats.values import format_time
from service import create_app
from settings import load_settings
from tests.conftest import CreateRow, Query
from tests.core.test_authentication import NewKey

SetClock = Callable[[timedelta], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Return a function that sets the system clock ahead or back, but not the monotonic clock."""

    def set_clock(by: timedelta) -> None:
        class Wrong(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + by

        monkeypatch.setattr("database.columns.datetime", Wrong)

    return set_clock


@pytest.mark.parametrize("hours", [-1, -25, 25])
def test_a_stored_response_outlives_a_clock_that_is_wrong_for_one_request(
    writer: FlaskClient, set_clock: SetClock, hours: int
) -> None:
    def send(key: str) -> bool:
        sent = writer.post("/api/v1/contacts", json={"name": "Ann"}, headers={"Idempotency-Key": key})
        assert sent.status_code == 201
        return "Idempotent-Replayed" in sent.headers

    assert not send("before")
    set_clock(timedelta(hours=hours))
    assert (send("before"), send("meanwhile")) == (True, False)
    set_clock(timedelta())
    assert (send("before"), send("meanwhile")) == (True, True)


def test_an_expired_key_stays_expired_when_the_clock_is_set_back(
    app: Flask, new_key_with_scope: NewKey, set_clock: SetClock
) -> None:
    key = new_key_with_scope("read", now() - timedelta(minutes=1))
    headers = {"Authorization": f"Bearer {key}"}
    for days in 0, -1, -30:
        set_clock(timedelta(days=days))
        assert app.test_client().get("/api/v1/companies", headers=headers).status_code == 401


def test_a_key_is_valid_again_after_a_clock_that_was_ahead(
    app: Flask, new_key_with_scope: NewKey, set_clock: SetClock
) -> None:
    headers = {"Authorization": f"Bearer {new_key_with_scope('read', now() + timedelta(hours=1))}"}
    statuses = []
    for hours in 0, 25, 0:
        set_clock(timedelta(hours=hours))
        statuses.append(app.test_client().get("/api/v1/companies", headers=headers).status_code)

    assert statuses == [200, 401, 200]


def test_times_of_rows_do_not_go_back_with_the_clock(writer: FlaskClient, set_clock: SetClock) -> None:
    first = writer.put("/api/v1/companies/a", json={"name": "Acme"}).json
    set_clock(timedelta(hours=-1))
    second = writer.put("/api/v1/companies/b", json={"name": "Beta"}).json
    changed = writer.patch("/api/v1/companies/a", json={"name": "Acme 2"}).json

    assert first["createdAt"] <= second["createdAt"] <= changed["updatedAt"]


def test_an_update_is_not_before_the_times_of_its_row(writer: FlaskClient, create_row: CreateRow) -> None:
    ahead = "2099-01-01T00:00:00Z"
    create_row("contacts", id="created", createdAt=ahead, updatedAt="2024-01-01T00:00:00Z")
    create_row("contacts", id="updated", createdAt="2024-01-01T00:00:00Z", updatedAt=ahead)

    for row_id in "created", "updated":
        assert writer.patch(f"/api/v1/contacts/{row_id}", json={"name": "Ann"}).json["updatedAt"] == ahead


@pytest.mark.databases("sqlite", "postgresql")
def test_a_start_with_a_clock_behind_the_last_change_goes_on_from_there(
    app: Flask, database: str, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    values = f"(1, 'contacts', 'a', 'deleted', '{format_time(ahead)}')"
    query(f"INSERT INTO changes (seq, resource, row_id, action, at) VALUES {values}")
    restarted = create_app(load_settings({"database_url": database}, {}))
    restarted.extensions["last_use"].stop()

    assert timedelta() <= now() - ahead < timedelta(minutes=1)
    assert earliest_now() < ahead - timedelta(hours=1)
    assert f"is behind the last change, at {format_time(ahead)}" in caplog.text
    clock.start(datetime.now(UTC))


@pytest.mark.databases("sqlite", "postgresql")
def test_times_of_changes_do_not_go_back_with_the_clock(writer: FlaskClient, query: Query) -> None:
    """The database's clock is that of the system: the last change was made when it was ahead."""

    def insert(number: int, at: str) -> None:
        values = f"({number}, 'contacts', 'a', 'deleted', '{at}')"
        query(f"INSERT INTO changes (seq, resource, row_id, action, at) VALUES {values}")

    insert(1, "2024-01-01T00:00:00Z")
    assert writer.post("/api/v1/companies", json={"name": "Acme"}).status_code == 201
    insert(3, "2099-01-01T00:00:00Z")
    for resource in "companies", "contacts", "conversations":
        path, field = f"/api/v1/{resource}", "visitorName" if resource == "conversations" else "name"
        assert writer.put(f"{path}/b", json={field: "Ann"}).status_code == 201
        assert writer.patch(f"{path}/b", json={field: "Bob"}).status_code == 200
        assert writer.delete(f"{path}/b").status_code == 204

    log = writer.get("/api/v1/changes?since=1").json
    assert format_time(now() - timedelta(minutes=1)) < log[0]["at"] <= format_time(now())
    assert [change["at"] for change in log[1:]] == ["2099-01-01T00:00:00Z"] * 10

"""A request with an Idempotency-Key is run once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import idempotency
from database.columns import now
from formats.values import format_time
from tests.conftest import Query
from tests.core.conftest import last_change

pytestmark = pytest.mark.databases("sqlite", "postgresql")

CONTACTS = "/api/v1/contacts"
COMPANIES = "/api/v1/companies"


def test_a_request_sent_twice_is_run_once(writer: FlaskClient, query: Query) -> None:
    send: dict[str, Any] = {"json": {"name": "John"}, "headers": {"Idempotency-Key": "job-7"}}
    first, second = writer.post(CONTACTS, **send), writer.post(CONTACTS, **send)

    assert (first.status_code, "Idempotent-Replayed" in first.headers) == (201, False)
    assert (second.status_code, second.headers["Idempotent-Replayed"]) == (201, "true")
    for name in "Location", "ETag", "Content-Type":
        assert first.headers[name] == second.headers[name]
    assert first.data == second.data
    assert last_change(query) == 1


def test_concurrent_repeats_get_the_first_response(app: Flask, writer: FlaskClient, query: Query) -> None:
    send: dict[str, Any] = {"json": {"name": "John"}, "headers": {"Idempotency-Key": "job-7"}}
    first = writer.post(CONTACTS, **send)
    send["headers"] |= {"Authorization": writer.environ_base["HTTP_AUTHORIZATION"]}
    with ThreadPoolExecutor(4) as threads:
        repeats = list(threads.map(lambda _number: app.test_client().post(CONTACTS, **send), range(16)))

    assert {(response.status_code, response.data) for response in repeats} == {(201, first.data)}
    assert last_change(query) == 1


def test_an_idempotency_key_is_valid_for_one_request_one_api_key_and_one_day(
    writer: FlaskClient, admin: FlaskClient, query: Query
) -> None:
    headers = {"Idempotency-Key": "job-7"}
    assert writer.post(CONTACTS, json={"name": "a"}, headers=headers).status_code == 201
    for path, body in (CONTACTS, {"name": "b"}), (COMPANIES, {"name": "a"}):
        assert writer.post(path, json=body, headers=headers).status_code == 422

    assert "Idempotent-Replayed" not in admin.post(CONTACTS, json={"name": "b"}, headers=headers).headers
    query("UPDATE replays SET created_at = :then", then=format_time(now() - timedelta(hours=25)))
    assert "Idempotent-Replayed" not in writer.post(CONTACTS, json={"name": "c"}, headers=headers).headers
    assert last_change(query) == 3


def test_an_invalid_request_does_not_use_its_idempotency_key(writer: FlaskClient) -> None:
    headers = {"Idempotency-Key": "job-7"}

    assert writer.post(CONTACTS, json={"name": ""}, headers=headers).status_code == 422
    assert writer.post(CONTACTS, json={"name": "a"}, headers=headers).status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
def test_an_idempotency_key_must_be_visible_ascii(writer: FlaskClient, key: str) -> None:
    assert writer.post(CONTACTS, json={"name": "a"}, headers={"Idempotency-Key": key}).status_code == 400


def test_a_repeat_of_a_running_request_is_409(app: Flask, writer: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Idempotency-Key": "job-7"}
    arrived, may_continue = threading.Event(), threading.Event()
    replay_or_run = idempotency.replay_or_run

    def slow(*arguments: Any) -> Any:
        arrived.set()
        assert may_continue.wait(10)
        return replay_or_run(*arguments)

    monkeypatch.setattr("api.write_views.replay_or_run", slow)
    first = threading.Thread(target=lambda: writer.post(CONTACTS, json={"name": "a"}, headers=headers))
    first.start()
    assert arrived.wait(10)
    authorization = writer.environ_base["HTTP_AUTHORIZATION"]
    second = app.test_client().post(CONTACTS, json={"name": "a"}, headers={**headers, "Authorization": authorization})
    may_continue.set()
    first.join()

    assert (second.status_code, second.json["detail"].split(":")[0]) == (
        409,
        "The first request with this Idempotency-Key is still running",
    )

"""Messages: their order and content, and what happens when a receiver fails."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from standardwebhooks import Webhook

from database.columns import clock
from tests.conftest import CreateRow, Query
from tests.webhooks.conftest import URL, Add, Deliver, Receiver, answer
from webhooks.client import parse_retry_after
from webhooks.delivery import DELAYS
from webhooks.outbox import find_due, save
from webhooks.sender import is_time

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def seconds_until_next(admin: FlaskClient, hook: dict[str, Any]) -> float:
    time_of_next = admin.get(f"{URL}/{hook['id']}").json["nextAttemptAt"]
    return (datetime.fromisoformat(time_of_next) - datetime.now(UTC)).total_seconds()


@pytest.fixture
def pass_time(query: Query) -> Callable[[], None]:
    """Return a function that lets the time of the next attempt come."""
    return lambda: query("UPDATE webhooks SET next_attempt_at = '2020-01-01T00:00:00Z'") and None


def test_a_message_is_the_entry_of_the_feed_and_its_signature_is_valid(
    admin: FlaskClient, receiver: Receiver, add: Add, deliver: Deliver
) -> None:
    hook = add(receiver.url)
    admin.post("/api/v1/companies", json={"name": "Zoë & Söhne", "dealValue": 1999.5})
    deliver()

    [message], feed = receiver.received, admin.get("/api/v1/changes")
    at = feed.json[0]["at"]
    assert message.body.decode() == f'{{"type":"company.created","timestamp":"{at}","data":{feed.text[1:-1]}}}'
    assert Webhook(hook["secret"]).verify(message.body.decode(), message.headers)["data"]["seq"] == 1
    assert message.headers["content-type"] == "application/json"
    assert admin.get(f"{URL}/{hook['id']}").json["delivered"] == 1
    [attempt] = admin.get(f"{URL}/{hook['id']}/attempts").json
    assert list(attempt) == ["seq", "at", "status", "ms", "error", "answer"]
    assert (attempt["seq"], attempt["status"], attempt["error"]) == (1, 204, None)


def test_all_changes_after_its_creation_are_sent_in_order_over_one_connection(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver
) -> None:
    create_row("companies")
    hook = add(receiver.url)
    assert admin.post("/api/v1/contacts", json=[{"name": f"{n}"} for n in range(230)]).status_code == 201
    deliver()

    assert receiver.seqs == [*range(2, 232)]
    assert len({each.port for each in receiver.received}) == 1
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 230
    assert all("." not in each.headers["webhook-id"] for each in receiver.received)
    attempts = admin.get(f"{URL}/{hook['id']}/attempts").json
    assert [each["seq"] for each in attempts] == [*range(231, 131, -1)]
    deliver()
    assert len(receiver.received) == 230


def test_the_events_select_changes_and_the_number_moves_past_the_others(
    admin: FlaskClient, add: Add, deliver: Deliver
) -> None:
    table = [
        (["*"], [1, 2, 3, 4, 5, 6]),
        (["company.*"], [1, 3, 4, 5]),
        (["contact.created", "company.deleted"], [2, 4]),
        (["company.forgotten"], [5]),
        (["company.updated", "contact.*", "company.*"], [1, 2, 3, 4, 5, 6]),
        (["conversation.*"], []),
    ]
    receivers = [Receiver() for _row in table]
    hooks = [add(each.url, *events) for each, (events, _expected) in zip(receivers, table, strict=True)]
    admin.put("/api/v1/companies/acme", json={"name": "Acme"})
    admin.put("/api/v1/contacts/ann", json={"name": "Ann"})
    admin.patch("/api/v1/companies/acme", json={"notes": "secret"})
    # Deleting it is a change, too.
    assert admin.post("/api/v1/companies/acme/forget").status_code == 204
    admin.patch("/api/v1/contacts/ann", json={"notes": "new"})
    deliver()

    for hook, receiver, (events, expected) in zip(hooks, receivers, table, strict=True):
        assert receiver.seqs == expected, events
        # A forgotten row's data is not sent.
        assert all(b"secret" not in each.body and b"Acme" not in each.body for each in receiver.received)
        assert admin.get(f"{URL}/{hook['id']}").json["delivered"] == 6
        receiver.close()


@pytest.mark.databases("sqlite")
def test_every_attempt_has_the_same_id_and_body_and_a_new_timestamp_and_signature(
    admin: FlaskClient,
    receiver: Receiver,
    create_row: CreateRow,
    add: Add,
    deliver: Deliver,
    pass_time: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook = add(receiver.url)
    create_row("companies")
    receiver.answer = answer(500)
    deliver()
    now = time.time()
    monkeypatch.setattr("webhooks.delivery.time.time", lambda: now + 3)
    pass_time()
    deliver()

    first, second = receiver.received
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) >= 2
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    for message in receiver.received:
        Webhook(hook["secret"]).verify(message.body.decode(), message.headers)
    receiver.answer = answer(200)
    pass_time()
    deliver()
    assert admin.get(f"{URL}/{hook['id']}").json["failures"] == 0


def test_the_next_attempts_of_several_webhooks_are_spread(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, query: Query
) -> None:
    for _number in range(3):
        add(receiver.url)
    query("UPDATE webhooks SET failures = 8")
    create_row("companies")
    receiver.answer = answer(500)
    deliver()
    assert len({each["nextAttemptAt"] for each in admin.get(URL).json}) > 1


def test_each_attempt_is_stored_once(
    admin: FlaskClient,
    receiver: Receiver,
    create_row: CreateRow,
    add: Add,
    deliver: Deliver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webhooks.delivery.SAVE_SECONDS", 0)
    hook = add(receiver.url)
    for _row in range(3):
        create_row("companies")
    deliver()
    assert [each["seq"] for each in admin.get(f"{URL}/{hook['id']}/attempts").json] == [3, 2, 1]


def test_a_delivery_whose_progress_cannot_be_stored_ends(
    receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.delivery.SAVE_SECONDS", 0)
    monkeypatch.setattr("webhooks.delivery.MAX_UNSAVED_SECONDS", 0.3)
    add(receiver.url)
    for _row in range(9):
        create_row("companies")

    def fail(handler: BaseHTTPRequestHandler) -> None:
        # The lease is stored already.
        monkeypatch.setattr("webhooks.delivery.save", lambda *_rest: 1 / 0)
        time.sleep(0.1)
        answer(204)(handler)

    receiver.answer = fail
    deliver()
    assert 0 < len(receiver.seqs) < 9


def test_a_replay_that_an_admin_asks_for_during_a_delivery_is_sent(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver
) -> None:
    path, asked = f"{URL}/{add(receiver.url)['id']}", []
    for _row in range(2):
        create_row("companies")

    def ask(handler: BaseHTTPRequestHandler) -> None:
        if not asked:
            asked.append(admin.patch(path, json={"since": 0}))
        answer(204)(handler)

    receiver.answer = ask
    deliver()
    deliver()
    # The first delivery may end with the message in which it was asked for.
    assert (receiver.seqs.count(1), receiver.seqs[-2:]) == (2, [1, 2])


def test_a_webhook_is_disabled_after_ten_attempts_and_goes_on_where_it_stopped(
    admin: FlaskClient,
    receiver: Receiver,
    create_row: CreateRow,
    add: Add,
    deliver: Deliver,
    pass_time: Callable[[], None],
) -> None:
    hook = add(receiver.url)
    for _row in range(3):
        create_row("companies")
    receiver.answer = answer(500, b"Out of memory\n\0\x1b[2K")
    for number, delay in enumerate(DELAYS, 1):
        deliver()
        deliver()
        assert receiver.seqs == [1] * number
        assert -1 < seconds_until_next(admin, hook) - delay < delay / 10 + 2
        assert admin.get(f"{URL}/{hook['id']}").json["failures"] == number
        pass_time()
    deliver()

    state = admin.get(f"{URL}/{hook['id']}").json
    assert (state["active"], state["delivered"], len(receiver.seqs)) == (False, 0, 10)
    reason = "Change 1 could not be sent in 10 attempts: The answer was 500 Internal Server Error."
    assert state["reason"] == reason
    attempt = admin.get(f"{URL}/{hook['id']}/attempts").json[0]
    assert (attempt["status"], attempt["answer"]) == (500, "Out of memory\n[2K")
    deliver()
    receiver.answer = answer(200)
    changed = admin.patch(f"{URL}/{hook['id']}", json={"active": True}).json
    assert (changed["reason"], changed["failures"], changed["nextAttemptAt"]) == (None, 0, None)
    deliver()
    assert receiver.seqs == [1] * 10 + [1, 2, 3]


def test_a_patch_that_changes_nothing_neither_brings_the_next_attempt_forward_nor_forgets_failures(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver
) -> None:
    path = f"{URL}/{add(receiver.url, 'company.*', 'contact.created', description='Mail')['id']}"
    create_row("companies")
    receiver.answer = answer(500)
    deliver()
    failed = admin.get(path).json
    wanted = {name: failed[name] for name in ("url", "events", "description", "active")}
    for body in {}, wanted, failed:
        assert admin.patch(path, json=body).json == failed
        deliver()
    assert (failed["failures"], receiver.seqs) == (1, [1])
    for number, body in enumerate(({"description": None}, {"since": 0}), 1):
        assert admin.patch(path, json=wanted | body).json["failures"] == 0
        deliver()
        assert receiver.seqs == [1] * (number + 1)


def test_410_disables_a_webhook_at_once(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver
) -> None:
    hook = add(receiver.url)
    create_row("companies")
    receiver.answer = answer(410)
    deliver()

    state = admin.get(f"{URL}/{hook['id']}").json
    assert (state["active"], state["reason"]) == (False, "The receiver answered 410 Gone to change 1.")


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("120", 120, 120),
        ("0", 0, 0),
        ("-5", 0, 0),
        ("soon", 0, 0),
        ("\u0663", 0, 0),
        ("99999999999999999999", 86_400, 86_400),
        (300, 299, 300),
        (-300, 0, 0),
        (999_999, 86_400, 86_400),
        ("Thu, 99 Foo 2026 99:99:99 GMT", 0, 0),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", 0, 0),
    ],
)
def test_retry_after_is_a_number_or_a_time_of_a_day_at_most(value: str | int, least: int, most: int) -> None:
    if isinstance(value, int):
        value = format_datetime(datetime.now(UTC) + timedelta(seconds=value), usegmt=True)
    assert least <= parse_retry_after(value) <= most


def test_no_retry_is_earlier_than_retry_after_or_than_planned(
    admin: FlaskClient,
    receiver: Receiver,
    create_row: CreateRow,
    add: Add,
    deliver: Deliver,
    pass_time: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook = add(receiver.url)
    create_row("companies")
    now = datetime.now(UTC).replace(microsecond=999_999)
    monkeypatch.setattr(clock, "read", lambda: (now, now))
    for value, least, most in ("120", 120, 122), ("1", 300, 332):
        receiver.answer = answer(503, Retry_After=value)
        deliver()
        time_of_next = datetime.fromisoformat(admin.get(f"{URL}/{hook['id']}").json["nextAttemptAt"])
        assert least <= (time_of_next - now).total_seconds() <= most
        pass_time()


@pytest.mark.databases("sqlite")
def test_an_answer_that_is_no_http_is_a_failure_whose_text_is_not_kept(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver
) -> None:
    table = [
        (b"Zoe's data\r\n\r\n", "BadStatusLine"),
        (b"HTTP/1.1 Zoe's data\r\n\r\n", "ValueError"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"Zoe's data" * 9000 + b"\r\n\r\n", "LineTooLong"),
    ]
    hooks = {add(receiver.url)["id"]: error for _sent, error in table}
    create_row("companies")

    def write(handler: Any) -> None:
        handler.wfile.write(table[len(receiver.received) - 1][0])
        handler.close_connection = True

    receiver.answer = write
    deliver()
    for hook, error in hooks.items():
        state, [attempt] = admin.get(f"{URL}/{hook}").json, admin.get(f"{URL}/{hook}/attempts").json
        said = f"The answer was not HTTP: {error}."
        assert (attempt["error"], attempt["answer"], state["failures"]) == (said, "", 1)


@pytest.mark.databases("sqlite")
def test_after_a_fault_in_a_delivery_the_next_comes_a_second_later(
    app: Flask,
    receiver: Receiver,
    create_row: CreateRow,
    add: Add,
    deliver: Deliver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add(receiver.url)
    create_row("companies")
    monkeypatch.setattr("webhooks.delivery.signed_headers", lambda *_arguments: 1 / 0)
    monkeypatch.setattr("webhooks.sender.POLL_SECONDS", 0.2)
    started = time.monotonic()
    deliver()
    assert time.monotonic() - started >= 0.2
    assert "Webhooks are not sent: ZeroDivisionError" in caplog.text


def test_since_replays_and_after_a_change_of_the_url_the_retry_comes_at_once(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver
) -> None:
    hook = add("http://127.0.0.1:1/")
    for _row in range(3):
        create_row("companies")
    deliver()
    [attempt] = admin.get(f"{URL}/{hook['id']}/attempts").json
    assert (attempt["status"], attempt["error"]) == (None, "The connection failed: Connection refused.")
    assert admin.patch(f"{URL}/{hook['id']}", json={"url": receiver.url}).status_code == 200
    deliver()
    assert admin.patch(f"{URL}/{hook['id']}", json={"since": 1}).json["delivered"] == 1
    deliver()

    assert receiver.seqs == [1, 2, 3, 2, 3]
    # A receiver recognizes what it has received before.
    assert receiver.received[1].headers["webhook-id"] == receiver.received[3].headers["webhook-id"]


def test_a_new_webhook_repeats_no_message_id_of_a_deleted_one(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver
) -> None:
    create_row("companies")
    for _webhook in range(2):
        path = f"{URL}/{add(receiver.url)['id']}"
        admin.patch(path, json={"since": 0})
        deliver()
        admin.delete(path)

    assert receiver.seqs == [1, 1]
    assert receiver.received[0].headers["webhook-id"] != receiver.received[1].headers["webhook-id"]


def test_after_a_rotation_both_secrets_sign_for_a_day(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, query: Query
) -> None:
    hook = add(receiver.url)
    rotated = admin.post(f"{URL}/{hook['id']}/rotate")
    assert rotated.json["secret"] != hook["secret"]
    assert rotated.headers["Cache-Control"] == "no-store"
    again = admin.post(f"{URL}/{hook['id']}/rotate")
    assert again.status_code == 409 and again.json["detail"].startswith("The secret before this one signs until")
    assert admin.post(f"{URL}/{hook['id']}/test").json["status"] == 204
    test = receiver.received.pop()
    Webhook(hook["secret"]).verify(test.body.decode(), test.headers)
    create_row("companies")
    deliver()
    query("UPDATE webhooks SET previous_until = '2020-01-01T00:00:00Z'")
    create_row("companies")
    deliver()

    both, one = receiver.received
    assert re.fullmatch(r"v1,\S{44} v1,\S{44}", both.headers["webhook-signature"])
    for secret in hook["secret"], rotated.json["secret"]:
        Webhook(secret).verify(both.body.decode(), both.headers)
    assert re.fullmatch(r"v1,\S{44}", one.headers["webhook-signature"])
    Webhook(rotated.json["secret"]).verify(one.body.decode(), one.headers)


def test_a_restored_or_copied_database_sends_nothing(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, query: Query
) -> None:
    hook = add(receiver.url)
    create_row("companies")
    # Its next attempt is later than the newest change and the next hour, and another process had its lease.
    query("UPDATE webhooks SET delivered = 99, next_attempt_at = '2999-01-01T00:00:00Z', lease = 'x'")
    query("UPDATE dataset SET id = 'another'")
    deliver()

    state = admin.get(f"{URL}/{hook['id']}").json
    assert (state["active"], receiver.received) == (False, [])
    assert f'cardfile_webhook_lag_changes{{webhook="{hook["id"]}"}} 0.0' in admin.get("/metrics").text
    assert admin.patch(f"{URL}/{hook['id']}", json={"description": "x"}).json["delivered"] == 1
    query("UPDATE webhooks SET delivered = 0")
    assert state["reason"].startswith("The database was restored or copied")
    admin.patch(f"{URL}/{hook['id']}", json={"active": True})
    deliver()
    assert receiver.seqs == [1]
    assert receiver.received[0].headers["webhook-id"].startswith("msg_another_")


def test_only_enabling_a_copied_webhook_lets_the_copy_send(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, query: Query
) -> None:
    path = f"{URL}/{add(receiver.url)['id']}"
    create_row("companies")
    query("UPDATE dataset SET id = id || '2'")
    read = admin.get(path).json
    assert (read["active"], read["reason"][:30]) == (False, "The database was restored or c")
    assert admin.patch(path, json=read | {"description": "y"}).status_code == 200
    assert admin.patch(path, json={"description": "x", "since": 0}).status_code == 200
    deliver()
    assert (receiver.received, admin.get(path).json["active"]) == ([], False)


def test_a_restore_while_messages_are_sent_ends_their_delivery(
    admin: FlaskClient,
    receiver: Receiver,
    create_row: CreateRow,
    add: Add,
    deliver: Deliver,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webhooks.delivery.SAVE_SECONDS", 0)
    hook = add(receiver.url)
    for _row in range(3):
        create_row("companies")

    def restore(handler: Any) -> None:
        query("UPDATE dataset SET id = 'another'")
        answer(204)(handler)

    receiver.answer = restore
    deliver()
    state = admin.get(f"{URL}/{hook['id']}").json
    assert (receiver.seqs, state["delivered"], state["active"]) == ([1], 1, False)
    assert state["reason"].startswith("The database was restored or copied")


def test_a_change_by_an_admin_ends_a_delivery_which_then_stores_nothing_old(
    app: Flask, admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver
) -> None:
    hook = add(receiver.url)
    for _row in range(3):
        create_row("companies")
    write = answer(204)

    def change_meanwhile(handler: Any) -> None:
        if len(receiver.received) == 2:
            assert admin.patch(f"{URL}/{hook['id']}", json={"active": False, "since": 0}).status_code == 200
        write(handler)

    receiver.answer = change_meanwhile
    deliver()
    state = admin.get(f"{URL}/{hook['id']}").json
    assert (state["active"], state["delivered"], state["reason"]) == (False, 0, None)
    admin.patch(f"{URL}/{hook['id']}", json={"active": True})
    deliver()
    assert receiver.seqs[-3:] == [1, 2, 3]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("change", ["disabled", "deleted", "other events", "other url", "rotated"])
def test_changes_after_a_change_by_an_admin_are_sent_by_its_new_state(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, change: str
) -> None:
    path = f"{URL}/{add(receiver.url)['id']}"
    patches = {
        "disabled": {"active": False},
        "other events": {"events": ["contact.*"]},
        "other url": {"url": "https://b.example"},
    }
    create_row("companies")

    def change_meanwhile(handler: Any) -> None:
        if len(receiver.received) == 1:
            if change in patches:
                assert admin.patch(path, json=patches[change]).status_code == 200
            else:
                assert (admin.delete(path) if change == "deleted" else admin.post(f"{path}/rotate")).status_code < 300
            create_row("companies")
        answer(204)(handler)

    receiver.answer = change_meanwhile
    deliver()
    assert receiver.seqs == [1]
    if change == "rotated":
        deliver()
        assert receiver.received[1].headers["webhook-signature"].count("v1,") == 2


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("change", [{"description": "x"}, {"active": False}, {"events": ["*"]}, None])
def test_a_change_by_an_admin_repeats_no_message(
    admin: FlaskClient,
    receiver: Receiver,
    create_row: CreateRow,
    add: Add,
    deliver: Deliver,
    change: dict[str, Any] | None,
) -> None:
    hook = add(receiver.url)
    for _row in range(4):
        create_row("companies")
    write = answer(204)

    def change_meanwhile(handler: Any) -> None:
        if len(receiver.received) == 2:
            path = f"{URL}/{hook['id']}"
            response = admin.patch(path, json=change) if change else admin.post(f"{path}/rotate")
            assert response.status_code == 200
        write(handler)

    receiver.answer = change_meanwhile
    deliver()
    admin.patch(f"{URL}/{hook['id']}", json={"active": True})
    deliver()
    assert receiver.seqs == [1, 2, 3, 4]


def test_a_process_that_lost_its_lease_stores_nothing_and_stops(
    admin: FlaskClient,
    receiver: Receiver,
    create_row: CreateRow,
    add: Add,
    deliver: Deliver,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webhooks.delivery.SAVE_SECONDS", 0)
    hook = add(receiver.url)
    for _row in range(3):
        create_row("companies")
    write = answer(204)

    def take_over(handler: Any) -> None:
        query("UPDATE webhooks SET lease = 'of another process'")
        write(handler)

    receiver.answer = take_over
    deliver()
    assert receiver.seqs == [1]
    assert query("SELECT delivered, lease FROM webhooks") == [(0, "of another process")]
    assert admin.get(f"{URL}/{hook['id']}/attempts").json == []


@pytest.mark.parametrize("status", [204, 500])
def test_a_webhook_that_another_process_has_sent_or_failed_to_send_since_is_not_claimed(
    app: Flask, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, status: int
) -> None:
    add(receiver.url)
    create_row("companies")
    receiver.answer = answer(status)
    with app.app_context():
        [due] = find_due()
    deliver()
    with app.app_context():
        assert not save(due, due._replace(lease="a"))


def test_a_webhook_that_another_process_has_disabled_since_is_not_claimed(
    app: Flask, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, query: Query
) -> None:
    add(receiver.url)
    create_row("companies")
    query("UPDATE webhooks SET secret = 'encrypted by another key'")
    with app.app_context():
        [due] = find_due()
    deliver()
    with app.app_context():
        assert not save(due, due._replace(lease="a"))
    assert query("SELECT active, lease FROM webhooks") == [(False, None)]


def test_deleting_a_webhook_ends_its_delivery(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, query: Query
) -> None:
    hook = add(receiver.url)
    create_row("companies")
    write = answer(204)

    def delete_meanwhile(handler: Any) -> None:
        assert admin.delete(f"{URL}/{hook['id']}").status_code == 204
        write(handler)

    receiver.answer = delete_meanwhile
    deliver()
    assert query("SELECT count(*) FROM webhook_attempts") == [(0,)]
    assert admin.get(f"{URL}/{hook['id']}").status_code == 404


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("hours", [-48, -1, 1, 48])
def test_a_jump_of_the_clock_neither_repeats_nor_delays_an_attempt(
    admin: FlaskClient,
    receiver: Receiver,
    create_row: CreateRow,
    add: Add,
    deliver: Deliver,
    monkeypatch: pytest.MonkeyPatch,
    hours: int,
) -> None:
    hook = add(receiver.url)
    create_row("companies")
    receiver.answer = answer(500)
    deliver()
    jump = timedelta(hours=hours)
    monkeypatch.setattr(clock, "read", lambda: (datetime.now(UTC) + jump, datetime.now(UTC)))
    deliver()
    assert receiver.seqs == [1]
    later = datetime.now(UTC) + timedelta(seconds=10)
    monkeypatch.setattr(clock, "read", lambda: (later + jump, later))
    deliver()
    assert receiver.seqs == [1, 1]
    assert admin.get(f"{URL}/{hook['id']}").json["failures"] == 2


def test_a_time_of_the_next_attempt_that_cannot_be_right_is_ignored() -> None:
    now = datetime.now(UTC)
    times = [
        None,
        now - timedelta(days=999),
        now - timedelta(seconds=1),
        now + timedelta(hours=25),
        now + timedelta(hours=30),
    ]

    assert [is_time(each) for each in times] == [True, True, True, False, True]


def test_an_erasure_erases_the_answers_to_messages_of_the_row(
    admin: FlaskClient, receiver: Receiver, add: Add, deliver: Deliver
) -> None:
    hook = add(receiver.url)
    admin.put("/api/v1/contacts/ann", json={"name": "Ann"})
    admin.put("/api/v1/contacts/bob", json={"name": "Bob"})

    def echo(handler: Any) -> None:
        answer(200, receiver.received[-1].body)(handler)

    receiver.answer = echo
    deliver()
    assert admin.post("/api/v1/contacts/ann/forget").status_code == 204

    second, first = admin.get(f"{URL}/{hook['id']}/attempts").json
    assert (first["answer"], "Bob" in second["answer"]) == ("", True)


@pytest.mark.databases("sqlite")
def test_an_erasure_reaches_messages_that_would_be_sent_next(
    admin: FlaskClient, receiver: Receiver, add: Add, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(receiver.url)
    for name in "ann", "bob":
        admin.put(f"/api/v1/contacts/{name}", json={"name": name.title()})

    def forget_meanwhile(handler: Any) -> None:
        admin.post("/api/v1/contacts/bob/forget")
        answer(204)(handler)

    receiver.answer = forget_meanwhile
    monkeypatch.setattr("webhooks.delivery.SAVE_SECONDS", 0)
    deliver()

    # Its deletion is a change, too.
    assert receiver.seqs == [1, 2, 3, 4]
    assert b"Ann" in receiver.received[0].body
    assert all(b"Bob" not in each.body for each in receiver.received)


@pytest.mark.databases("sqlite")
def test_the_number_moves_past_changes_that_nothing_is_sent_of_and_an_admin_can_change_the_webhook(
    app: Flask,
    admin: FlaskClient,
    receiver: Receiver,
    create_row: CreateRow,
    add: Add,
    deliver: Deliver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, seen = f"{URL}/{add(receiver.url, 'conversation.*')['id']}", []

    def write_more(*_arguments: Any) -> bool:
        seen.append(admin.get(path).json["delivered"])
        create_row("companies")
        if len(seen) == 4:
            assert admin.patch(path, json={"active": False}).status_code == 200
        return len(seen) < 9

    monkeypatch.setattr("webhooks.delivery.SAVE_SECONDS", 0)
    monkeypatch.setattr(app.extensions["webhooks"], "wait", write_more)
    create_row("companies")
    deliver()
    assert seen == [1, 2, 3, 4]


def test_attempts_are_deleted_after_a_week(
    app: Flask, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, query: Query
) -> None:
    add(receiver.url)
    for _row in range(2):
        create_row("companies")
    deliver()
    eight_days_ago = (datetime.now(UTC) - timedelta(days=8)).strftime("%Y-%m-%dT%H:%M:%SZ")
    query(f"UPDATE webhook_attempts SET at = '{eight_days_ago}' WHERE seq = 1")
    app.extensions["last_use"].next_cleaning = 0
    app.extensions["last_use"].start()
    app.extensions["last_use"].stop()

    assert query("SELECT seq FROM webhook_attempts") == [(2,)]

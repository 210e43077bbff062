"""`/api/v1/webhooks`: what is accepted, shown and kept secret."""

import base64
import errno
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from standardwebhooks import Webhook

from database.slots import Slots
from settings import InvalidSetting, load_settings
from tests.conftest import CreateRow, Query
from tests.webhooks.conftest import URL, Add, Deliver, Receiver, answer
from webhooks.records import IN_SANDBOX
from webhooks.signing import UNREADABLE

ACME = "https://acme.example/hook"
FIELDS = ["id", "url", "events", "description", "active", "reason", "delivered", "failures", "nextAttemptAt"]
FIELDS += ["createdAt", "updatedAt"]


@pytest.mark.databases("sqlite", "postgresql")
def test_a_webhook_is_created_listed_changed_and_deleted(admin: FlaskClient, add: Add) -> None:
    created = admin.post(URL, json={"url": ACME, "events": ["contact.created"], "description": "Mail"})
    assert (created.status_code, list(created.json)) == (201, [*FIELDS, "secret"])
    assert created.headers["Cache-Control"] == "no-store"
    hook = {name: created.json[name] for name in FIELDS}
    assert (hook["active"], hook["reason"], hook["delivered"], hook["failures"]) == (True, None, 0, 0)
    assert admin.get(URL).json == [hook]
    assert created.headers["Location"] == f"{URL}/{hook['id']}"
    assert admin.get(created.headers["Location"]).json == hook
    changed = admin.patch(f"{URL}/{hook['id']}", json={"description": None, "events": ["*"], "active": False})
    assert changed.json == hook | {"description": None, "events": ["*"], "active": False} | {
        "updatedAt": changed.json["updatedAt"]
    }
    assert admin.delete(f"{URL}/{hook['id']}").status_code == 204
    assert admin.get(URL).json == []


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"events": ["*"]}, "/url", "Is required."),
    ({"url": "ftp://a.example", "events": ["*"]}, "/url", "Must be an http or https URL."),
    ({"url": "https://me:secret@a.example/", "events": ["*"]}, "/url", "Must not have a user name or password"),
    ({"url": "https://a.example@127.0.0.1/", "events": ["*"]}, "/url", "Must not have a user name or password"),
    ({"url": "https://a.example/#top", "events": ["*"]}, "/url", "Must not have a fragment"),
    ({"url": "https://zoë.example/", "events": ["*"]}, "/url", "Must be ASCII"),
    ({"url": "https://a.example/\n", "events": ["*"]}, "/url", "Must be an http or https URL."),
    ({"url": f"https://a.example/{'x' * 2048}", "events": ["*"]}, "/url", "Must have at most 2048 characters"),
    ({"url": "https://a.example:65536/", "events": ["*"]}, "/url", "Must have a valid host and port."),
    ({"url": "https://a.example:0/", "events": ["*"]}, "/url", "Must have a valid host and port."),
    ({"url": "https://a..example/", "events": ["*"]}, "/url", "Must have a valid host and port."),
    ({"url": f"https://{'x' * 64}.example/", "events": ["*"]}, "/url", "Must have a valid host and port."),
    ({"url": ACME}, "/events", "Is required."),
    ({"url": ACME, "events": []}, "/events", "Must name at least one event"),
    ({"url": ACME, "events": "*"}, "/events", "Must be an array of texts."),
    (
        {"url": ACME, "events": ["*", "contact.create"]},
        "/events",
        "'contact.create' is not an event. Did you mean contact.created?",
    ),
    ({"url": ACME, "events": ["contacts.created"]}, "/events", "Did you mean contact.created?"),
    ({"url": ACME, "events": ["*", "*"]}, "/events/1", "Must not repeat."),
    ({"url": ACME, "events": ["*"], "active": "yes"}, "/active", "Must be true or false."),
    ({"url": ACME, "events": ["*"], "secret": "x"}, "/secret", "Is not a known field."),
    ({"url": ACME, "events": ["*"], "delivered": 3}, "/delivered", "Is read-only: leave it out."),
]


def test_a_wrong_webhook_is_refused(admin: FlaskClient) -> None:
    for body, pointer, detail in WRONG:
        response = admin.post(URL, json=body)
        assert response.status_code == 422
        [error] = response.json["errors"]
        assert error["pointer"] == pointer and detail in error["detail"], error
    assert admin.get(URL).json == []


def test_a_wrong_change_is_refused(admin: FlaskClient, add: Add) -> None:
    hook = add(ACME)
    for body in {"since": 1}, {"since": -1}, {"since": "0"}, {"url": None}:
        response = admin.patch(f"{URL}/{hook['id']}", json=body)
        assert (response.status_code, response.json["errors"][0]["pointer"]) == (422, f"/{next(iter(body))}")


def test_a_webhook_may_be_read_changed_and_sent_back(admin: FlaskClient, add: Add, create_row: CreateRow) -> None:
    path = f"{URL}/{add(ACME)['id']}"
    read = admin.get(path).json
    assert admin.patch(path, json=read | {"description": "Mail"}).json["description"] == "Mail"
    assert admin.patch(path, json={"createdAt": read["createdAt"].replace("Z", "+00:00")}).status_code == 200
    create_row("companies")
    table = {"reason": "x", "delivered": 1, "failures": False, "nextAttemptAt": "soon", "createdAt": None, "id": "x"}
    for name, value in table.items():
        response = admin.patch(path, json={name: value, "description": "News"})
        error = {"pointer": f"/{name}", "detail": "Is read-only: leave it out."}
        assert (response.status_code, response.json["errors"]) == (422, [error])
    assert admin.get(path).json["description"] == "Mail"
    read = admin.get(path).json
    # Deliveries have changed it since.
    moved = {"reason": "x", "delivered": 1, "failures": 3, "nextAttemptAt": "2024-01-15T10:30:00Z"}
    assert admin.patch(path, json=read | moved | {"description": "News"}).json["description"] == "News"
    refused = admin.patch(path, data=f'{{"id": "x", "id": "{read["id"]}"}}', content_type="application/json")
    assert refused.json["errors"] == [{"pointer": "/id", "detail": "Must not appear twice."}]


def test_an_unknown_id_is_404(admin: FlaskClient) -> None:
    paths = [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/test"), ("GET", "/attempts")]
    for method, path in paths:
        response = admin.open(f"{URL}/nothing{path}", method=method, json={})
        assert (response.status_code, response.json["detail"]) == (404, "There is no webhook with the id nothing.")


def test_a_parameter_or_a_body_without_a_meaning_is_400(admin: FlaskClient, add: Add) -> None:
    path = f"{URL}/{add(ACME)['id']}"
    assert admin.get(f"{URL}?limit=1").status_code == 400
    for name in "rotate", "test":
        assert admin.post(f"{path}/{name}", json={"since": 0}).status_code == 400


def test_there_are_a_hundred_webhooks_at_most(admin: FlaskClient, add: Add, query: Query) -> None:
    add(ACME)
    names = "url, events, active, delivered, failures, secret, dataset, revision, replays, created_at, updated_at"
    numbers = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 99)"
    query(f"{numbers} INSERT INTO webhooks (id, {names}) SELECT i, {names} FROM n, webhooks")
    response = admin.post(URL, json={"url": ACME, "events": ["*"]})
    assert (response.status_code, response.json["detail"]) == (409, "There are 100 webhooks already: delete one first.")


def test_secrets_are_encrypted_by_a_key_that_only_the_owner_can_read(
    admin: FlaskClient, database: str, query: Query
) -> None:
    secret = admin.post(URL, json={"url": ACME, "events": ["*"]}).json["secret"]
    file = Path(f"{database.removeprefix('sqlite:///')}.key")

    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    stored = query("SELECT * FROM webhooks")
    assert secret not in str(stored) and secret.removeprefix("whsec_") not in str(stored)
    assert secret not in admin.get(URL).text
    # Backups of the database have secrets that it encrypted.
    key = file.read_text()
    admin.delete(f"{URL}/{admin.get(URL).json[0]['id']}")
    admin.post(URL, json={"url": ACME, "events": ["*"]})
    assert file.read_text() == key


def test_secret_keys_may_have_blanks_around_them() -> None:
    old, new = "o" * 32, "n" * 32
    assert load_settings({}, {"SECRET_KEY": f" {new},\n{old} "}).secret_key == (new, old)


@pytest.mark.parametrize(
    ("number", "status"), [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EROFS, 503), (errno.EACCES, 503)]
)
def test_a_key_file_that_can_not_be_written_refuses_the_first_webhook(
    admin: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def write_text(*_arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    app.extensions["webhooks"].vault.keys = ()
    monkeypatch.setattr(Path, "write_text", write_text)
    response = admin.post(URL, json={"url": ACME, "events": ["*"]})
    assert (response.status_code, "Retry-After" in response.headers) == (status, status == 503)
    assert admin.get(URL).json == []
    monkeypatch.undo()
    assert admin.post(URL, json={"url": ACME, "events": ["*"]}).status_code == 201


def test_a_new_secret_key_still_reads_what_an_older_one_encrypted(app: Flask) -> None:
    vault = app.extensions["webhooks"].vault
    old, new = "o" * 32, "n" * 32
    vault.keys = (old,)
    token = vault.encrypt("whsec_x", is_first=True)
    vault.keys = (new, old)
    assert vault.decrypt(token) == "whsec_x"
    newer = vault.encrypt("whsec_y", is_first=False)
    vault.keys = (new,)
    assert vault.decrypt(newer) == "whsec_y"


@pytest.mark.parametrize("damaged", [b"", b"\xff" * 64, b"0" * 63, None])
def test_without_the_whole_key_file_nothing_is_encrypted_or_sent(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, app: Flask, damaged: Any
) -> None:
    vault = app.extensions["webhooks"].vault
    vault.keys = ()
    hook = add(receiver.url)
    key = vault.path.read_bytes()
    vault.path.unlink()
    if damaged is not None:
        vault.path.write_bytes(damaged)
    sentence = f"{vault.path.name}, the key file of webhooks, "
    for path, body in ("", {"url": ACME, "events": ["*"]}), (f"/{hook['id']}/rotate", {}), (f"/{hook['id']}/test", {}):
        response = admin.post(f"{URL}{path}", json=body)
        assert response.status_code == 409 and response.json["detail"].startswith(sentence), response.text
    create_row("companies")
    deliver()
    assert admin.get(f"{URL}/{hook['id']}").json["reason"].startswith(sentence)
    assert vault.path.exists() == (damaged is not None)
    vault.path.write_bytes(key + b"\n")
    admin.patch(f"{URL}/{hook['id']}", json={"active": True})
    deliver()
    assert receiver.seqs == [1]


def test_a_sandbox_sends_nothing_and_shows_webhooks_as_disabled(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver, query: Query
) -> None:
    copied = add(receiver.url)
    query("UPDATE dataset SET id = 'x-sandbox'")
    new = add(receiver.url)
    create_row("companies")
    deliver()
    for hook in new, admin.get(f"{URL}/{copied['id']}").json:
        assert (hook["active"], hook["reason"]) == (False, IN_SANDBOX)
        changed = admin.patch(f"{URL}/{hook['id']}", json={"active": True, "since": 0}).json
        assert (changed["active"], changed["reason"]) == (False, IN_SANDBOX)
        test = admin.post(f"{URL}/{hook['id']}/test")
        assert (test.status_code, test.json["detail"]) == (409, IN_SANDBOX)
    deliver()
    assert receiver.received == []


def test_a_sandbox_without_the_key_file_has_its_own(app: Flask, admin: FlaskClient, add: Add, query: Query) -> None:
    vault, hook = app.extensions["webhooks"].vault, add(ACME)
    vault.keys = ()
    query("UPDATE dataset SET id = 'x-sandbox'")
    assert admin.post(f"{URL}/{hook['id']}/rotate").status_code == 200
    vault.path.unlink()
    add(ACME)
    assert vault.path.exists()


def test_a_webhook_whose_secret_cannot_be_decrypted_is_disabled(
    app: Flask, admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver
) -> None:
    hook = add(receiver.url)
    create_row("companies")
    app.extensions["webhooks"].vault.keys = ("another key, with 32 characters or more",)
    deliver()

    state = admin.get(f"{URL}/{hook['id']}").json
    assert (state["active"], state["reason"], receiver.received) == (False, UNREADABLE, [])
    test = admin.post(f"{URL}/{hook['id']}/test")
    assert (test.status_code, test.json["detail"]) == (409, UNREADABLE)
    rotated = admin.post(f"{URL}/{hook['id']}/rotate").json
    admin.patch(f"{URL}/{hook['id']}", json={"active": True})
    deliver()
    [message] = receiver.received
    Webhook(rotated["secret"]).verify(message.body.decode(), message.headers)


@pytest.mark.databases("sqlite", "postgresql")
def test_after_the_loss_of_the_key_secrets_are_rotated_at_once_even_soon_after_a_rotation(
    app: Flask, admin: FlaskClient, receiver: Receiver, add: Add
) -> None:
    path = f"{URL}/{add(receiver.url)['id']}"
    old, new = ("a key that is lost a minute later..",), ("another key, with 32 characters or more",)
    # First the current secret can't be decrypted, then the previous one.
    for keys, statuses in (old, [200, 200, 409]), (new, [200, 200, 409]):
        app.extensions["webhooks"].vault.keys = keys
        answers = [admin.post(f"{path}/rotate") for _status in statuses]
        assert [each.status_code for each in answers] == statuses
        admin.post(f"{path}/test")
        message = receiver.received.pop()
        for each in answers[:2]:
            Webhook(each.json["secret"]).verify(message.body.decode(), message.headers)


@pytest.mark.databases("postgresql")
def test_on_postgresql_webhooks_need_a_secret_key(admin: FlaskClient) -> None:
    response = admin.post(URL, json={"url": ACME, "events": ["*"]})
    assert response.status_code == 409
    assert response.json["detail"].startswith("Webhooks need the setting SECRET_KEY")
    assert admin.get(URL).json == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", f"{'x' * 32},y"),
        ("WEBHOOK_NETWORKS", "all"),
        ("WEBHOOK_PROXY", "https://proxy.example:3128"),
        ("WEBHOOK_PROXY", "proxy.example"),
    ],
)
def test_a_wrong_setting_is_refused_and_a_secret_not_shown(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=name) as caught:
        load_settings({}, {name: value})
    assert name != "SECRET_KEY" or value not in str(caught.value)


def test_a_test_message_is_signed_and_the_answer_shown(
    admin: FlaskClient, receiver: Receiver, add: Add, deliver: Deliver
) -> None:
    hook = add(receiver.url, "contact.created")
    receiver.answer = answer(503, b"Closed")
    response = admin.post(f"{URL}/{hook['id']}/test")

    assert response.status_code == 200
    expected = {"status": 503, "error": "The answer was 503 Service Unavailable.", "answer": "Closed"}
    assert {**response.json, "ms": 0} == {**expected, "ms": 0} and list(response.json)[1] == "ms"
    [message] = receiver.received
    sent = Webhook(hook["secret"]).verify(message.body.decode(), message.headers)
    assert (sent["type"], sent["data"]) == ("webhook.test", {"webhookId": hook["id"]})
    assert admin.get(f"{URL}/{hook['id']}/attempts").json == []
    assert admin.get(f"{URL}/{hook['id']}").json["failures"] == 0
    for timer in [each for each in threading.enumerate() if isinstance(each, threading.Timer)]:
        timer.join(2)
        assert not timer.is_alive()


def test_more_tests_than_two_at_once_are_429(
    admin: FlaskClient, receiver: Receiver, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = add(receiver.url)
    monkeypatch.setattr("webhooks.records.TEST_SLOTS", Slots(1, patience=0))
    receiver.answer = lambda handler: answers.append(admin.post(f"{URL}/{hook['id']}/test")) or answer(204)(handler)
    answers: list[Any] = []
    assert admin.post(f"{URL}/{hook['id']}/test").json["status"] == 204
    [refused] = answers
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert admin.get(f"{URL}/{hook['id']}").status_code == 200


def test_the_metrics_have_the_lag_and_the_failures_of_each_webhook(
    admin: FlaskClient, receiver: Receiver, create_row: CreateRow, add: Add, deliver: Deliver
) -> None:
    dead, live = add("http://127.0.0.1:1/"), add(receiver.url)
    for _row in range(3):
        create_row("companies")
    deliver()
    text = admin.get("/metrics").text

    for hook, lag, failures in (dead, 3, 1), (live, 0, 0):
        assert f'cardfile_webhook_lag_changes{{webhook="{hook["id"]}"}} {lag}.0\n' in text
        assert f'cardfile_webhook_failures{{webhook="{hook["id"]}"}} {failures}.0\n' in text


def test_only_a_server_starts_to_send(app: Flask, admin: FlaskClient, create_row: CreateRow, add: Add) -> None:
    sender = app.extensions["webhooks"]
    admin.post("/api/v1/companies", json={"name": "Acme"})
    assert sender.thread is None
    try:
        admin.get("/healthz", environ_base={"SERVER_SOFTWARE": "gunicorn/24.0"})
        assert sender.thread.is_alive()
    finally:
        sender.stop()
    assert not sender.thread.is_alive()


def test_the_description_has_a_message_and_its_headers(anonymous: FlaskClient) -> None:
    document = anonymous.get("/openapi.json").json
    message = document["webhooks"]["change"]["post"]

    names = [each["name"] for each in message["parameters"]]
    assert names == ["webhook-id", "webhook-timestamp", "webhook-signature"]
    assert message["requestBody"]["content"]["application/json"]["example"]["type"] == "company.created"
    assert json.dumps(anonymous.get("/openapi-3.0.json").json).count('"webhooks": {') == 0

"""Webhooks as admins see and change them, by the API and the pages. For an unknown id, the functions respond 404."""

import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from flask import abort, current_app
from marshmallow import ValidationError

from api.changes import version_query
from api.json_sql import json_object, json_value, number, schema_fields
from api.problems import Conflict
from api.rate_limits import TooManyRequests
from database.columns import from_driver, now
from database.connection import execute, release_connection, write_transaction
from database.slots import Slots
from database.statement import insert_statement
from formats.ids import new_id
from formats.json_text import encode_json, parse_json
from formats.values import format_time
from models import Webhook, WebhookAttempt
from webhooks.client import ANSWER_SECONDS, Client
from webhooks.delivery import KEPT_ATTEMPTS
from webhooks.outbox import IS_OWN, IS_SANDBOX, LAGS, OF_WEBHOOK
from webhooks.schema import patch_schema, schema
from webhooks.signing import new_secret, signed_headers

# Each has its own thread, and lines in /metrics.
MAX_WEBHOOKS = 100
ROTATION = timedelta(hours=24)
COPIED = "The database was restored or copied: check what the receiver has, then enable the webhook."
IN_SANDBOX = "A sandbox sends no messages: test and enable webhooks in the original."
# Test messages that are sent at the same time; more are 429.
TEST_SLOTS = Slots(2, patience=1)

FIND_SECRETS = sa.select(Webhook.secret, Webhook.previous_secret, Webhook.previous_until).where(OF_WEBHOOK)
FIND_SANDBOX = sa.select(IS_SANDBOX)
DELETE = sa.delete(Webhook).where(OF_WEBHOOK)


def all_webhooks() -> list[dict[str, Any]]:
    """Return all webhooks in the public JSON, oldest first."""
    return [parse_json(row.encode()) for [row] in execute(webhooks_query)]


def find_lags() -> dict[str, int]:
    """Return how many of the changes were not yet delivered to each webhook."""
    return {webhook_id: lag for webhook_id, lag, _failures in execute(LAGS)}


def find_webhook(webhook_id: str) -> dict[str, Any]:
    """Return a webhook in the public JSON."""
    return next((each for each in all_webhooks() if each["id"] == webhook_id), None) or not_found(webhook_id)


def find_attempts(webhook_id: str) -> list[dict[str, Any]]:
    """Return the last attempts of a webhook, newest first."""
    find_webhook(webhook_id)
    return [parse_json(row.encode()) for [row] in execute(attempts_query, webhook_id=webhook_id)]


def add_webhook(values: dict[str, Any]) -> dict[str, Any]:
    """Store a webhook, which gets the changes from now on; return it with its secret. Raises Conflict."""
    secret, webhook_id = new_secret(), new_id()
    with write_transaction():
        if (count := len(all_webhooks())) >= MAX_WEBHOOKS:
            raise Conflict(f"There are {MAX_WEBHOOKS} webhooks already: delete one first.")
        dataset, newest = execute(version_query).fetchone()
        encrypted = encrypt(secret, is_first=count == 0)
        state = {"id": webhook_id, "secret": encrypted, "delivered": newest, "dataset": dataset, "failures": 0}
        state |= {"revision": 0, "replays": 0, "created_at": now(), "updated_at": now()}
        execute(insert_statement, Webhook, **dict.fromkeys(Webhook.__table__.columns.keys()) | values | state)
        return find_webhook(webhook_id) | {"secret": secret}


def change_webhook(webhook_id: str, body: Any) -> dict[str, Any]:
    """Update the sent fields, and `since`; after a change, the next attempt is at once. Raises ValidationError."""
    with write_transaction():
        dataset, newest = execute(version_query).fetchone()
        stored = find_webhook(webhook_id)
        values = patch_schema.load_patch(body, stored)
        if values.items() <= stored.items():
            return stored
        is_replay = "since" in values
        if (since := values.pop("since", min(stored["delivered"], newest))) > newest:
            raise ValidationError({"since": [f"Must be at most {newest}, the last change."]})
        if values.get("active"):
            values |= {"dataset": dataset, "reason": None}
        store(webhook_id, values | {"delivered": since, "failures": 0}, is_replay)
        return find_webhook(webhook_id)


def rotate_secret(webhook_id: str) -> dict[str, Any]:
    """Store a new secret beside the old one; return the webhook with it. Raises Conflict."""
    secret, signing = new_secret(), []
    with write_transaction():
        current, _previous, previous_until = secrets = find_secrets(webhook_id)
        # One that can't be decrypted doesn't sign.
        with suppress(Conflict):
            signing = current_app.extensions["webhooks"].vault.decrypt_all(*secrets)
        if len(signing) == 2 and (until := from_driver(previous_until)):
            raise Conflict(f"The secret before this one signs until {format_time(until)}: rotate after that.")
        store(webhook_id, {"secret": encrypt(secret), "previous_secret": current, "previous_until": now() + ROTATION})
        return find_webhook(webhook_id) | {"secret": secret}


def encrypt(secret: str, is_first: bool = False) -> str:
    """Return a secret as it is stored. Raises Conflict if its key is missing."""
    # A sandbox is a copy without the key file.
    is_first = is_first or bool(execute(FIND_SANDBOX).fetchone()[0])
    return str(current_app.extensions["webhooks"].vault.encrypt(secret, is_first))


def find_secrets(webhook_id: str) -> Any:
    """Return the encrypted secrets of a webhook, the current and the previous one, and when the latter expires."""
    return execute(FIND_SECRETS, webhook_id=webhook_id).fetchone() or not_found(webhook_id)


def store(webhook_id: str, values: dict[str, Any], is_replay: bool = False) -> None:
    """Store columns of a webhook; its delivery, if there is one, ends."""
    values |= {"updated_at": now(), "next_attempt_at": None}
    execute(update_statement, *values, webhook_id=webhook_id, more_replays=int(is_replay), **values)


def remove_webhook(webhook_id: str) -> None:
    """Delete a webhook and its attempts."""
    with write_transaction():
        if not execute(DELETE, webhook_id=webhook_id).rowcount:
            not_found(webhook_id)


def send_test(webhook_id: str) -> dict[str, Any]:
    """Send a test message at once; return the answer. Raises Conflict, and TooManyRequests."""
    sender, secrets = current_app.extensions["webhooks"], find_secrets(webhook_id)
    if (webhook := find_webhook(webhook_id))["reason"] == IN_SANDBOX:
        raise Conflict(IN_SANDBOX)
    release_connection()
    message = {"type": "webhook.test", "timestamp": format_time(now()), "data": {"webhookId": webhook_id}}
    body = encode_json(message).encode()
    headers = signed_headers(f"msg_test_{new_id()}", int(time.time()), body, sender.vault.decrypt_all(*secrets))
    if not TEST_SLOTS.acquire():
        raise TooManyRequests("tests of webhooks at once", 5)
    client = Client(webhook["url"], sender.settings)
    timer = threading.Timer(ANSWER_SECONDS, client.abort)
    try:
        timer.start()
        status, ms, error, text, _retry_after = client.post(body, headers)
    finally:
        timer.cancel()
        client.close()
        TEST_SLOTS.release()
    return {"status": status, "ms": ms, "error": error, "answer": text}


def not_found(webhook_id: str) -> Any:
    """Respond 404."""
    abort(404, f"There is no webhook with the id {webhook_id}.")


def webhooks_query() -> sa.Select[Any]:
    """Return the query for all webhooks as JSON. Copied ones, and those in a sandbox, are disabled."""
    reason = sa.case((IS_OWN, Webhook.reason), (IS_SANDBOX, sa.literal(IN_SANDBOX)), else_=sa.literal(COPIED))
    state = {"active": json_value(sa.and_(Webhook.active, IS_OWN)), "reason": json_value(reason)}
    return sa.select(json_object(schema_fields(schema, Webhook.__table__) | state)).order_by(Webhook.number)


def attempts_query() -> sa.Select[Any]:
    """Return the query for the last attempts of a webhook as JSON."""
    names = ("seq", "at", "status", "ms", "error", "answer")
    fields = {name: json_value(getattr(WebhookAttempt, name)) for name in names}
    query = sa.select(json_object(fields)).where(WebhookAttempt.webhook_id == sa.bindparam("webhook_id"))
    return query.order_by(WebhookAttempt.number.desc()).limit(number(KEPT_ATTEMPTS)).offset(number(0))


def update_statement(*names: str) -> sa.Update:
    """Return the statement that sets columns of a webhook."""
    columns: dict[str, Any] = {name: sa.bindparam(name) for name in names}
    if "dataset" in columns:
        # A lease of another history would delay the first message.
        columns["lease"] = sa.case((Webhook.dataset == columns["dataset"], Webhook.lease))
    columns |= {"revision": Webhook.revision + 1, "replays": Webhook.replays + sa.bindparam("more_replays")}
    return sa.update(Webhook).where(OF_WEBHOOK).values(columns)

"""Messages: their order, their content, and what happens when a receiver fails."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from standardwebhooks import Webhook

from tests.conftest import CreateRow
from tests.webhooks.conftest import URL, Receiver

Add = Callable[..., dict[str, Any]]
Deliver = Callable[[], None]

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def test_a_message_is_the_entry_of_the_feed_and_its_signature_is_valid(
    admin: FlaskClient, create_row: CreateRow, receiver: Receiver, add: Add, deliver: Deliver
) -> None:
    hook = add(receiver.url, "*")
    admin.post("/api/v1/companies", json={"name": "Zoë & Söhne", "dealValue": 1999.5})
    deliver()

    [message] = receiver.received
    feed = admin.get("/api/v1/changes").text[1:-1]
    time = admin.get("/api/v1/changes").json[0]["at"]
    assert message.body.decode() == f'{{"type":"company.created","timestamp":"{time}","data":{feed}}}'
    assert Webhook(hook["secret"]).verify(message.body.decode(), message.headers)["data"]["seq"] == 1
    assert admin.get(f"{URL}/{hook['id']}").json["delivered"] == 1

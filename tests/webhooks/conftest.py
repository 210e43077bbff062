"""Real receivers, and an app that sends to them when a test says so."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient

from webhooks.delivery import Delivery

URL = "/api/v1/webhooks"
Add = Callable[..., dict[str, Any]]
Deliver = Callable[[], None]


class Received(NamedTuple):
    """A message as a receiver got it."""

    headers: dict[str, str]
    body: bytes
    port: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def seq(self) -> int:
        return int(self.json["data"]["seq"])


class Receiver(ThreadingHTTPServer):
    """An HTTP server that notes each message; `answer` writes the response."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook?a=1"
        self.received: list[Received] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = answer(204)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def seqs(self) -> list[int]:
        return [each.seq for each in self.received]

    def wait_for(self, count: int, seconds: float = 20) -> None:
        """Wait until so many messages are here."""
        deadline = time.monotonic() + seconds
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} of {count}"
            time.sleep(0.01)

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Receiver

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        if len(body := self.rfile.read(length)) < length:
            # The sender was killed after it had sent the headers.
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append(Received(headers, body, self.client_address[1]))
        self.server.answer(self)

    def log_message(self, *_arguments: Any) -> None:
        """Log nothing."""


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return a function that answers so."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return write


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def deliver(app: Flask) -> Callable[[], None]:
    """Return a function that sends what is due."""
    sender = app.extensions["webhooks"]
    object.__setattr__(sender.settings, "webhook_networks", "private")
    sender.vault.keys = ("a key of the tests, long enough for all",)
    sender.linger_seconds = 0

    def deliver_due() -> None:
        for due in sender.find_due():
            Delivery(sender, due).run()

    return deliver_due


@pytest.fixture
def add(admin: FlaskClient, deliver: Callable[[], None]) -> Callable[..., dict[str, Any]]:
    """Return a function that creates a webhook."""

    def create(url: str, *events: str, **fields: Any) -> dict[str, Any]:
        response = admin.post(URL, json={"url": url, "events": events or ["*"], **fields})
        assert response.status_code == 201, response.text
        return dict(response.json)

    return create

"""The sender while a server runs: several receivers, several processes, stops and kills."""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database.identity import LostFile
from tests.conftest import ROOT, LiveServer, Query, send_request
from tests.soak.conftest import times
from tests.webhooks.conftest import URL, Add, Deliver, Receiver, answer
from webhooks.outbox import find_due, save
from webhooks.records import IN_SANDBOX, MAX_WEBHOOKS
from webhooks.sender import Sender

StartServer = Callable[..., LiveServer]
SECRET = {"WEBHOOK_NETWORKS": "private", "SECRET_KEY": "a key of the tests that is long enough"}


def delayed(seconds: float) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return a function that answers after so many seconds."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        answer(204)(handler)

    return write


@pytest.fixture
def sending(app: Flask, deliver: Deliver) -> Iterator[Sender]:
    """Return the sender of the app, running."""
    sender: Sender = app.extensions["webhooks"]
    sender.linger_seconds = 0.1
    sender.start()
    yield sender
    sender.stop()


def write(client: FlaskClient, count: int) -> None:
    assert client.post("/api/v1/companies", json=[{"name": f"{n}"} for n in range(count)]).status_code == 201


def test_dead_and_slow_receivers_hold_up_no_other(
    admin: FlaskClient, receiver: Receiver, add: Add, sending: Sender
) -> None:
    slow, blocked = Receiver(), threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        blocked.wait(10)
        answer(204)(handler)

    slow.answer = wait
    hooks = [add(url) for url in ("http://127.0.0.1:1/", slow.url, receiver.url)]
    write(admin, 50)
    receiver.wait_for(50)
    assert receiver.seqs == [*range(1, 51)]
    assert slow.seqs == [1]
    blocked.set()
    slow.wait_for(50)
    assert slow.seqs == [*range(1, 51)]
    dead = admin.get(f"{URL}/{hooks[0]['id']}").json
    assert (dead["failures"], dead["delivered"]) == (1, 0)
    slow.close()


def test_all_other_receivers_may_hang(admin: FlaskClient, receiver: Receiver, add: Add, sending: Sender) -> None:
    hanging, blocked = Receiver(), threading.Event()
    hanging.answer = lambda _handler: blocked.wait(20) and None
    for _number in range(MAX_WEBHOOKS - 1):
        add(hanging.url)
    add(receiver.url)
    write(admin, 1)
    receiver.wait_for(1, seconds=5)
    hanging.wait_for(MAX_WEBHOOKS - 1)
    write(admin, 1)
    receiver.wait_for(2, seconds=5)
    assert receiver.seqs == [1, 2] and set(hanging.seqs) == {1}
    blocked.set()
    sending.stop()
    hanging.close()


def test_deliveries_that_hang_end_together_at_a_stop(
    admin: FlaskClient, receiver: Receiver, add: Add, sending: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.sender.STOP_SECONDS", 0.2)
    monkeypatch.setattr("webhooks.sender.ABORT_SECONDS", 0.3)
    blocked = threading.Event()
    receiver.answer = lambda _handler: blocked.wait(20) and None
    for _number in range(5):
        add(receiver.url)
    write(admin, 1)
    receiver.wait_for(5)
    # Their progress can't be stored.
    with sending.writing:
        started = time.monotonic()
        sending.stop()
        assert time.monotonic() - started < 1
    blocked.set()


def test_an_attempt_that_a_stop_aborts_is_no_failure_of_the_receiver(
    admin: FlaskClient, receiver: Receiver, add: Add, sending: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.sender.STOP_SECONDS", 0.1)
    blocked = threading.Event()
    receiver.answer = lambda _handler: blocked.wait(20) and None
    hook = add(receiver.url)
    write(admin, 1)
    receiver.wait_for(1)
    sending.stop()
    blocked.set()
    assert admin.get(f"{URL}/{hook['id']}").json["failures"] == 0


def test_a_webhook_whose_thread_cannot_be_started_is_sent_to_later(
    app: Flask, admin: FlaskClient, receiver: Receiver, add: Add, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(receiver.url)
    write(admin, 1)
    sender: Sender = app.extensions["webhooks"]
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _thread: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sender.poll()
    sender.poll()
    receiver.wait_for(1)
    sender.stop()


def test_an_answer_that_does_not_end_is_aborted_and_sent_again(
    admin: FlaskClient, receiver: Receiver, add: Add, sending: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.client.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("webhooks.sender.POLL_SECONDS", 0.1)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            handler.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                handler.connection.sendall(b"x")
                time.sleep(0.02)
        handler.close_connection = True

    receiver.answer = drip
    hook = add(receiver.url)
    write(admin, 1)
    deadline = time.monotonic() + 10
    while not (state := admin.get(f"{URL}/{hook['id']}").json)["failures"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (state["active"], state["delivered"], receiver.seqs) == (True, 0, [1])
    assert admin.get(f"{URL}/{hook['id']}/attempts").json[0]["error"] == "There was no whole answer within 15 seconds."


def test_another_process_takes_over_only_when_a_lease_no_longer_changes(
    app: Flask, admin: FlaskClient, receiver: Receiver, add: Add, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(receiver.url)
    write(admin, 1)
    sender: Sender = app.extensions["webhooks"]
    with app.app_context():
        [due] = find_due()
        assert save(due, due._replace(lease="a"))
        assert not save(due, due._replace(lease="b"))
    clock = time.monotonic()
    monkeypatch.setattr("webhooks.sender.time.monotonic", lambda: clock)
    deliver()
    clock += 39
    deliver()
    assert receiver.seqs == []
    clock += 2
    deliver()
    assert receiver.seqs == [1]
    assert sender.find_due() == []


def test_the_lease_of_a_killed_process_with_nothing_left_to_send_delays_no_message_after_40_seconds(
    admin: FlaskClient, receiver: Receiver, add: Add, deliver: Deliver, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(receiver.url)
    query("UPDATE webhooks SET lease = 'of the killed process'")
    clock = time.monotonic()
    monkeypatch.setattr("webhooks.sender.time.monotonic", lambda: clock)
    deliver()
    clock += 41
    write(admin, 1)
    deliver()
    assert receiver.seqs == [1]


@pytest.mark.parametrize("fault", [OSError, LostFile])
def test_a_fault_of_the_database_is_logged_once_and_sending_goes_on(
    admin: FlaskClient,
    receiver: Receiver,
    add: Add,
    sending: Sender,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: type[Exception],
) -> None:
    add(receiver.url)
    find_due, failed = sending.find_due, threading.Semaphore(0)

    def fail() -> Any:
        failed.release()
        raise fault("the disk is gone")

    monkeypatch.setattr("webhooks.sender.POLL_SECONDS", 0.02)
    monkeypatch.setattr(sending, "find_due", fail)
    for _time in range(4):
        assert failed.acquire(timeout=5)
    assert caplog.text.count(f"Webhooks are not sent: {fault.__name__}") == 1
    # What happened to the file is in the log already.
    assert ("Traceback" in caplog.text) == (fault is OSError)
    monkeypatch.setattr(sending, "find_due", find_due)
    write(admin, 3)
    receiver.wait_for(3)
    wait_until = time.monotonic() + 5
    while sending.fault and time.monotonic() < wait_until:
        time.sleep(0.01)
    assert sending.fault == ""


@pytest.mark.parametrize("writes", [0, 1])
def test_while_requests_write_fewer_messages_are_sent(
    app: Flask,
    admin: FlaskClient,
    receiver: Receiver,
    add: Add,
    deliver: Deliver,
    monkeypatch: pytest.MonkeyPatch,
    writes: int,
) -> None:
    monkeypatch.setattr("webhooks.sender.AFTER_WRITE_SECONDS", 0.1)
    add(receiver.url)
    write(admin, 11)
    sender: Sender = app.extensions["webhooks"]

    def write_meanwhile(handler: BaseHTTPRequestHandler) -> None:
        sender.writes += writes
        answer(204)(handler)

    receiver.answer = write_meanwhile
    started = time.monotonic()
    deliver()
    assert (time.monotonic() - started >= 0.7) == bool(writes)
    assert len(receiver.received) == 11


def create_webhook(server: LiveServer, receiver: Receiver) -> str:
    status, body = send_request(server, URL, {"url": receiver.url, "events": ["*"]})
    assert status == 201, body
    return str(json.loads(body)["id"])


def create_rows(server: LiveServer, count: int) -> None:
    assert send_request(server, "/api/v1/companies", [{"name": f"{n}"} for n in range(count)])[0] == 201


@pytest.mark.tools
@pytest.mark.parametrize("options", [(), ("--server", "granian", "--workers", "2")], ids=["waitress", "granian"])
def test_a_stopped_server_has_sent_each_message_once_and_the_next_goes_on(
    start_server: StartServer, receiver: Receiver, options: tuple[str, ...]
) -> None:
    server = start_server("serve", *options, **SECRET)
    server.read_first_key()
    receiver.answer = delayed(0.005)
    create_webhook(server, receiver)
    for start in range(0, 400, 200):
        create_rows(server, 200)
        receiver.wait_for(start + 100)
        started = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0
        assert time.monotonic() - started < 8
        key, server = server.key, start_server("serve", *options, **SECRET)
        server.key = key
    receiver.wait_for(400)
    assert receiver.seqs == [*range(1, 401)]
    assert "Traceback" not in server.log


@pytest.mark.tools
def test_a_server_stops_while_a_receiver_does_not_answer(start_server: StartServer, receiver: Receiver) -> None:
    server, blocked = start_server("serve", **SECRET), threading.Event()
    server.read_first_key()
    receiver.answer = lambda _handler: blocked.wait(30) and None
    create_webhook(server, receiver)
    create_rows(server, 1)
    receiver.wait_for(1)
    started = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - started < 10
    blocked.set()
    # That was no failure of the receiver.
    receiver.answer = answer(204)
    key, server = server.key, start_server("serve", **SECRET)
    server.key = key
    receiver.wait_for(2)
    assert receiver.seqs == [1, 1]
    [webhook] = json.loads(send_request(server, URL)[1])
    assert (webhook["failures"], webhook["active"]) == (0, True)


@pytest.mark.tools
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_processes_send_each_message_once(
    request: pytest.FixtureRequest, start_server: StartServer, receiver: Receiver, kind: str
) -> None:
    database = {"DATABASE_URL": request.getfixturevalue("postgresql")} if kind == "postgresql" else {}
    servers = [start_server("serve", **SECRET, **database) for _number in range(2)]
    servers[0].read_first_key()
    servers[1].key = servers[0].key
    for _number in range(3):
        create_webhook(servers[0], receiver)
    for _round in range(10):
        for server in servers:
            create_rows(server, 10)
        time.sleep(random.uniform(0, 0.3))
    receiver.wait_for(600, 40)
    time.sleep(2)
    for server in servers:
        assert server.stop(signal.SIGTERM) == 0
        assert "Traceback" not in server.log, server.log
    by_webhook: dict[str, list[int]] = {}
    for each in receiver.received:
        by_webhook.setdefault(each.headers["webhook-id"].split("_")[2], []).append(each.seq)
    assert [*by_webhook.values()] == [[*range(1, 201)]] * 3


class ShortLeaseServer(LiveServer):
    """A server whose leases are over after a second."""

    program = (
        sys.executable,
        "-c",
        "import webhooks.sender as s; s.LEASE_SECONDS = 1; from service import main; main()",
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "serve", PYTHONPATH=str(ROOT), **SECRET)


def wait_until_delivered(server: LiveServer, webhook: str, count: int) -> None:
    deadline = time.monotonic() + 60
    status, body = send_request(server, f"{URL}/{webhook}")
    while status != 200 or json.loads(body)["delivered"] < count:
        assert time.monotonic() < deadline, (status, body)
        time.sleep(0.1)
        status, body = send_request(server, f"{URL}/{webhook}")


ROUNDS = [pytest.param(3, marks=pytest.mark.tools), pytest.param(times(30), marks=pytest.mark.soak)]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_kill_9_loses_no_message_and_no_order(tmp_path: Path, receiver: Receiver, rounds: int) -> None:
    key, moment, webhook = "", random.Random(1), ""
    receiver.answer = delayed(0.002)
    for number in range(rounds + 1):
        server = ShortLeaseServer(tmp_path)
        try:
            server.key = key or (server.read_first_key() and server.key)
            key, webhook = server.key, webhook or create_webhook(server, receiver)
            if number < rounds:
                create_rows(server, 300)
                receiver.wait_for(len(receiver.received) + 1)
                time.sleep(moment.uniform(0, 1))
                os.killpg(server.process.pid, signal.SIGKILL)
            else:
                wait_until_delivered(server, webhook, 300 * rounds)
        finally:
            server.close()
    newest = 0
    for seq in receiver.seqs:
        # The next one or, after a kill, one that came before.
        assert seq <= newest + 1
        newest = max(newest, seq)
    assert newest == 300 * rounds
    assert sum(later <= earlier for earlier, later in pairwise(receiver.seqs)) <= rounds


@pytest.mark.tools
def test_a_command_and_a_sandbox_send_nothing(start_server: StartServer, receiver: Receiver, tmp_path: Path) -> None:
    server = start_server("serve", **SECRET)
    server.read_first_key()
    create_webhook(server, receiver)
    assert server.stop(signal.SIGTERM) == 0
    sandbox: Any = start_server("serve", "--sandbox", **SECRET)
    sandbox.key = server.key
    create_rows(sandbox, 3)
    time.sleep(2)
    webhooks = json.loads(send_request(sandbox, URL)[1])
    assert (webhooks[0]["active"], webhooks[0]["reason"]) == (False, IN_SANDBOX)
    assert receiver.received == []

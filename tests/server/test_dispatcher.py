"""Who answers: short reads and writes wait for no thread that is busy, and what takes long never holds them up."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel

import seed
from database import TakesLong, haste
from server.dispatcher import Dispatcher
from tests.conftest import LiveServer, ask

Start = Callable[..., LiveServer]
LONG = "/api/v1/contacts?name=nobody"


@pytest.fixture
def busy(run: Callable[..., Result], start: Start) -> LiveServer:
    """Return a server with one thread and lists far larger than what it sends before they are taken."""
    assert run("seed", "--companies", "4000").exit_code == 0
    server = start("serve", "--threads", "1")
    server.read_first_key()
    return server


def connect(server: LiveServer, paths: list[str]) -> socket.socket:
    """Return a connection on which all of this was asked for at once, and nothing of it taken yet."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    last = ["Connection: close\r\n" if place == len(paths) else "" for place in range(1, len(paths) + 1)]
    for path, close in zip(paths, last, strict=True):
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.key}\r\n{close}\r\n"
        connection.sendall(request.encode())
    return connection


def take(connection: socket.socket) -> bytes:
    """Return all that is answered until the server closes the connection."""
    parts = []
    while part := connection.recv(1 << 20):
        parts.append(part)
    connection.close()
    return b"".join(parts)


def test_neither_a_short_read_nor_a_write_waits_for_a_list_that_nobody_takes(busy: LiveServer) -> None:
    """Its only thread waits for a client, but who asks for one row, or sends one, is answered all the same."""
    [contact] = json.loads(ask(busy, "/api/v1/contacts?limit=1")[1])
    connection = connect(busy, ["/api/v1/contacts"])
    assert connection.recv(1000).startswith(b"HTTP/1.1 200")

    assert [ask(busy, f"/api/v1/contacts/{contact['id']}")[0] for _time in range(3)] == [200] * 3
    assert ask(busy, "/api/v1/contacts", {"name": "New"})[0] == 201
    assert take(connection).endswith(b"1\r\n]\r\n0\r\n\r\n")


def test_short_reads_in_turn_know_nothing_of_one_another(busy: LiveServer) -> None:
    """Neither whose key it was, nor which version of the data was read."""
    path = "/api/v1/contacts?limit=1"
    [before] = re.findall(rb"Dataset-Version: (\d+)", take(connect(busy, [path])))
    assert ask(busy, "/api/v1/contacts", {"name": "New"})[0] == 201
    [after] = re.findall(rb"Dataset-Version: (\d+)", take(connect(busy, [path])))
    busy.key = f"{busy.key[:-1]}{'a' if busy.key[-1] != 'a' else 'b'}"
    refused = take(connect(busy, [path]))

    assert int(after) == int(before) + 1
    assert refused.startswith(b"HTTP/1.1 401") and b"Dataset-Version" not in refused


def test_requests_sent_at_once_are_answered_in_order_whoever_answers(busy: LiveServer) -> None:
    """More than can be sent before it is taken; short ones and long ones, one of which can't be begun anew."""
    for _time in range(3):
        ask(busy, "/api/v1/contacts", [{"name": "New", "notes": "n" * 10_000} for _row in range(100)])
    short = [f"/api/v1/contacts?limit={number}&sort=-createdAt" for number in range(300, 290, -1)]
    connection = connect(busy, [*short, LONG, "/api/v1/companies", *short])
    # Meanwhile nobody else waits, not even when nothing more can be sent.
    assert [ask(busy, "/api/v1/contacts?limit=1")[0] for _time in range(300)] == [200] * 300

    answers = take(connection).split(b"HTTP/1.1 200 OK\r\n")[1:]
    counts = [*range(300, 290, -1)]
    assert [answer.count(b'"userId"') for answer in answers] == [*counts, 0, 0, *counts]
    assert answers[11].count(b'"website"') == 4000


def test_a_write_whose_answer_nobody_takes_holds_up_no_other(busy: LiveServer) -> None:
    """It came together with the next request, so whoever answers waits for its client."""
    rows = [{"name": "New", "email": f"{number}@example.com", "notes": "n" * 10_000} for number in range(1000)]
    for first in range(0, 1000, 100):
        assert ask(busy, "/api/v1/contacts", rows[first : first + 100])[0] == 201
    body = json.dumps([{"email": row["email"]} for row in rows])
    heads = [
        f"{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {busy.key}\r\n"
        for line in ("POST /api/v1/contacts?matchOn=email", "GET /api/v1/contacts?limit=1")
    ]
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    connection = socket.create_connection(("127.0.0.1", busy.port), timeout=20)
    connection.sendall(f"{heads[0]}{content}{heads[1]}Connection: close\r\n\r\n".encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    statuses = [ask(busy, "/api/v1/contacts", {"name": "New"})[0] for _time in range(5)]
    seconds = time.monotonic() - began

    assert take(connection).count(b"HTTP/1.1 200") == 1
    assert statuses == [201] * 5
    # Each would be helped out after a second if it stood behind the one that waits.
    assert seconds < 4


def test_a_read_that_is_begun_anew_is_logged_once(busy: LiveServer) -> None:
    assert ask(busy, LONG) == (200, b"[]")

    assert busy.stop(signal.SIGTERM) == 0
    lines = [line for line in busy.log.splitlines() if "GET /api/v1/contacts 200" in line]
    assert len(lines) == 1


@pytest.mark.parametrize(
    "path",
    [LONG, "/api/v1/contacts?sort=name&limit=1", "/api/v1/contacts?q=nobody", "/api/v1/contacts", "/api/v1/companies"],
)
def test_in_haste_a_long_read_is_broken_off_and_leaves_nothing_behind(
    app: Flask, reader: FlaskClient, path: str
) -> None:
    with app.app_context():
        seed.load_demo(2000)
    haste.is_on = True
    try:
        with pytest.raises(TakesLong):
            reader.get(path)
        assert reader.get("/api/v1/contacts?limit=5").status_code == 200
    finally:
        haste.is_on = False

    # The same connection, which breaks off nothing any more.
    assert len(app.extensions["reading"].idle) == 1
    assert reader.get(path).status_code == 200


def test_in_haste_a_short_read_is_never_broken_off_however_often_it_is_made(app: Flask, reader: FlaskClient) -> None:
    with app.app_context():
        seed.load_demo(50)
    haste.is_on = True
    try:
        assert {reader.get("/api/v1/contacts?limit=100").status_code for _time in range(100)} == {200}
    finally:
        haste.is_on = False


def test_writes_that_wait_for_another_program_wait_side_by_side(start: Start) -> None:
    """Each is told after the few seconds that one waits, not after those of all before it."""
    server = start("serve")
    server.read_first_key()
    hold = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "connection.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(server.folder / "cardfile.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        began = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda number: ask(server, body={"name": f"number {number}"}), range(4)))
        seconds = time.monotonic() - began
        assert ask(server) == (200, b"[]")
        holder.communicate()

    assert [status for status, _body in answers] == [503] * 4
    assert seconds < 9


def test_a_fault_in_one_connection_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(HTTPChannel):  # type: ignore[misc]
        def service(self) -> None:
            raise RuntimeError("broken")

    dispatcher = Dispatcher(1, True)
    with socket.socket() as unconnected:
        channel = Broken(SimpleNamespace(active_channels={}), unconnected, None, Adjustments(), {})
        channel.requests = [SimpleNamespace(error=None, command="GET", path="/api/v1/contacts")]
        dispatcher.add_task(channel)
        dispatcher.work()
    dispatcher.shutdown()

    assert "Exception when servicing" in caplog.text and not haste.is_on

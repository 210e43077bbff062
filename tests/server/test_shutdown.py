"""The end of a server: signals, running requests, and rows after a kill."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from tests.conftest import LiveServer, send_request

StartServer = Callable[..., LiveServer]


@pytest.mark.parametrize("name", ["waitress", pytest.param("granian", marks=pytest.mark.tools)])
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(each, marks=pytest.mark.tools) for each in (signal.SIGINT, signal.SIGHUP))],
)
def test_a_signal_stops_the_server_after_the_running_request(start_server: StartServer, name: str, number: int) -> None:
    server = start_server("serve", "--demo", "--server", name)
    server.read_first_key()
    body = json.dumps({"name": "in flight"}).encode()
    head = (
        f"POST /api/v1/keys HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with (
        socket.create_connection(("127.0.0.1", server.port)) as idle,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as busy,
    ):
        busy.sendall(head.encode() + body[:5])
        time.sleep(0.3)
        server.process.send_signal(number)
        time.sleep(0.7)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        assert idle.recv(1) == b""
        busy.sendall(body[5:])
        response = busy.recv(65536)
        assert response.startswith(b"HTTP/1.1 201 ")
        assert b"\r\nconnection: close\r\n" in response.lower()

    assert server.process.wait(timeout=4) == 0


@pytest.mark.tools
@pytest.mark.parametrize("name", ["waitress", "granian"])
def test_a_server_that_nohup_started_outlives_its_terminal(start_server: StartServer, name: str) -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server = start_server("serve", "--server", name)
    finally:
        signal.signal(signal.SIGHUP, ignored)
    server.read_first_key()
    server.process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert send_request(server)[0] == 200
    assert server.stop(signal.SIGTERM) == 0


def test_a_second_ctrl_c_stops_the_server_at_once(start_server: StartServer) -> None:
    server = start_server()
    server.read_first_key()
    with socket.create_connection(("127.0.0.1", server.port)) as busy:
        head = (
            f"POST /api/v1/keys HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.key}\r\nContent-Length: 9\r\n\r\n"
        )
        busy.sendall(head.encode() + b"{")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert server.process.poll() is None
        started_at = time.monotonic()
        assert server.stop(signal.SIGINT) == 1

    assert time.monotonic() - started_at < 4


def test_a_long_response_is_completed_before_the_server_stops(start_server: StartServer) -> None:
    server = start_server("serve", "--demo")
    server.read_first_key()
    _status, whole = send_request(server, "/api/v1/conversations")
    with socket.socket() as slow:
        # With a small receive buffer, most of the response is still in the server when the signal arrives.
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(20)
        slow.connect(("127.0.0.1", server.port))
        slow.sendall(
            f"GET /api/v1/conversations HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.key}\r\n\r\n".encode()
        )
        received = slow.recv(1024)
        server.process.send_signal(signal.SIGTERM)
        while part := slow.recv(4096):
            received += part

    assert received.partition(b"\r\n\r\n")[2] == whole
    assert server.process.wait(timeout=20) == 0


def test_an_unfinished_request_does_not_delay_the_stop(start_server: StartServer) -> None:
    server = start_server()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHos")
        time.sleep(0.3)
        started_at = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - started_at < 4


def test_a_killed_server_keeps_every_row_that_it_confirmed(start_server: StartServer) -> None:
    server = start_server()
    server.read_first_key()
    confirmed: list[str] = []

    def create_contacts(_number: int) -> None:
        with suppress(OSError, http.client.HTTPException):
            while True:
                status, body = send_request(server, "/api/v1/contacts", {"name": "John"})
                assert status == 201
                confirmed.append(json.loads(body)["id"])

    with ThreadPoolExecutor(4) as writers:
        tasks = writers.map(create_contacts, range(4))
        while len(confirmed) < 100:
            time.sleep(0.01)
        server.stop(signal.SIGKILL)
        list(tasks)

    second = start_server()
    second.key = server.key
    kept = {row["id"] for row in json.loads(send_request(second, "/api/v1/contacts")[1])}
    changes = [each["seq"] for each in json.loads(send_request(second, "/api/v1/changes")[1])]
    assert set(confirmed) <= kept
    assert changes == list(range(1, len(kept) + 1))


@pytest.mark.tools
def test_responses_to_busy_clients_say_that_the_connection_closes(start_server: StartServer) -> None:
    server = start_server()
    server.read_first_key()

    def send_until_told(number: int) -> str | None:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
            while True:
                connection.request("GET", "/api/v1/contacts", headers={"Authorization": f"Bearer {server.key}"})
                response = connection.getresponse()
                assert (response.status, response.read()) == (200, b"[]")
                if response.headers["Connection"]:
                    return response.headers["Connection"]
                time.sleep(0.002 * (number % 8))

    with ThreadPoolExecutor(32) as clients:
        told = clients.map(send_until_told, range(32))
        time.sleep(1)
        assert server.stop(signal.SIGTERM) == 0
        assert list(told) == ["close"] * 32

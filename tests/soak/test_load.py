"""Many requests, valid and mutated: no error of the server, no hang, and no memory that only grows."""

import http.client
import json
import random
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.conftest import LiveServer, send_request
from tests.server.test_slow_clients import memory
from tests.soak.conftest import times

TARGETS = [
    ("GET", "companies?limit=5&sort=-dealValue&include=contacts"),
    ("GET", "contacts?q=anna&fields=id,name"),
    ("GET", "conversations?status=open&status=null&createdAt[gte]=2024-01-01T00:00:00Z"),
    ("GET", "changes?since=3&limit=7"),
    ("GET", "keys/me"),
    ("POST", "companies?matchOn=name"),
    ("POST", "contacts?dryRun=true"),
    ("PUT", "companies/fuzzed"),
    ("PATCH", "companies/fuzzed"),
    ("DELETE", "companies/fuzzed"),
]
BODIES: list[object] = [
    {"name": "Acme", "dealValue": 1.5, "lastContact": "2024-01-15T10:30:00+02:00", "website": "https://acme.example"},
    [{"name": "Ann"}, {"name": "Bob", "email": "bob@acme.example"}],
    {"name": "x" * 200, "notes": "é\u0300\U0001f600", "companyId": None},
]
PIECES = [
    *(bytes([each]) for each in (0, 9, 10, 13, 32, 34, 37, 38, 43, 44, 58, 59, 91, 92, 93, 123, 125, 127, 128, 255)),
    b"\r\n\r\n",
    b"%00",
    b"%ff",
    b"\\ud800",
    b"1e999999999",
    b"null",
    b"[[[[[[[[",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 0\r\n",
    b"9" * 25,
    b"A" * 9000,
]


def requests(key: str, rng: random.Random) -> Iterator[bytes]:
    """Yield requests, some of them mutated: pieces inserted, removed, doubled, or the rest cut off."""
    while True:
        method, path = rng.choice(TARGETS)
        body = json.dumps(rng.choice(BODIES)).encode() if method in {"POST", "PUT", "PATCH"} else b""
        lines = [
            f"{method} /api/v1/{path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {key}",
            *(["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []),
            *rng.sample(["If-None-Match: *", 'If-Match: "a-1"', "Prefer: count=exact", "Idempotency-Key: 7"], 1),
            "Connection: close",
        ]
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        for _mutation in range(rng.choice((0, 1, 1, 2, 4))):
            place, length = rng.randrange(len(request)), rng.randrange(12)
            piece = rng.choice([*PIECES, request[place : place + length], b""])
            removed = rng.choice((0, 0, 1, length))
            request = request[:place] + piece + request[place + removed :]
        yield request[: rng.randrange(len(request))] if rng.random() < 0.02 else request


def status_of(server: LiveServer, request: bytes) -> int:
    """Send bytes and return the status of the first response, 0 if the connection was closed without one.

    Raises TimeoutError when the server does neither.
    """
    received = b""
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        connection.settimeout(0.2)
        try:
            received = connection.recv(65536)
        except TimeoutError:
            # An incomplete request: say that no more follows.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            received = connection.recv(65536)
    words = received.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and received.startswith(b"HTTP/") else 0


def test_no_mutated_request_is_a_server_error_or_hangs(tmp_path: Path, server_options: tuple[str, ...]) -> None:
    server = LiveServer(tmp_path, "serve", "--demo", *server_options)
    try:
        server.read_first_key()
        mutated = requests(server.key, random.Random(1))
        statuses: dict[int, int] = {}
        for request, _number in zip(mutated, range(times(20_000)), strict=False):
            status = status_of(server, request)
            statuses[status] = statuses.get(status, 0) + 1
            assert status < 500, request
        assert statuses.keys() > {200, 400, 422}
        assert send_request(server)[0] == 200
        assert server.stop(signal.SIGTERM) == 0
        assert "Traceback" not in server.log, server.log[server.log.index("Traceback") - 300 :]
        assert server.key not in server.log
    finally:
        server.close()


def test_memory_does_not_grow_with_the_number_of_requests(tmp_path: Path, server_options: tuple[str, ...]) -> None:
    server = LiveServer(tmp_path, "serve", "--demo", *server_options)
    try:
        server.read_first_key()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        rng, sizes = random.Random(1), []
        for number in range(times(200_000)):
            method, path = rng.choice(TARGETS)
            body = json.dumps(rng.choice(BODIES)) if method in {"POST", "PUT", "PATCH"} else None
            connection.request(method, f"/api/v1/{path}", body, headers)
            response = connection.getresponse()
            response.read()
            assert response.status < 500
            if number + 1 in {times(20_000), times(200_000)}:
                sizes.append(memory(server))
        connection.close()
        assert sizes[1] < 1.1 * sizes[0]
    finally:
        server.close()

"""A live server: connections, concurrent requests, large requests and memory."""

import http.client
import json
import re
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from click.testing import Result

from tests.conftest import LiveServer, run_external_sql, send_request
from tests.server.conftest import send_bytes

RunCommand = Callable[..., Result]


StartServer = Callable[..., LiveServer]


def test_a_connection_stays_open_after_a_response_without_content_length(start_server: StartServer) -> None:
    server = start_server("serve")
    server.read_first_key()
    send_request(server, "/api/v1/contacts", [{"name": f"number {number}"} for number in range(1000)])
    send_request(server, "/api/v1/contacts", {"name": "one more than a page"})
    _status, whole = send_request(server, "/api/v1/contacts")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Authorization": f"Bearer {server.key}"}
    connection.connect()
    # A new connection would have another socket.
    first_socket = connection.sock
    for method, more, status, expected in (
        ("GET", {"If-None-Match": "*"}, 304, b""),
        ("OPTIONS", {}, 204, b""),
        ("GET", {}, 200, whole),
    ) * 2:
        connection.request(method, "/api/v1/contacts", headers=headers | more)
        response = connection.getresponse()
        assert (response.status, response.read()) == (status, expected)
        assert (response.headers["Transfer-Encoding"] == "chunked") is (status == 200)
        assert connection.sock is first_socket is not None
    for method, more in ("HEAD", {}), ("GET", {"Connection": "close"}):
        connection.request(method, "/api/v1/contacts", headers=headers | more)
        last = connection.getresponse()
        last.read()
        assert method == "HEAD" or last.headers["Connection"] == "close"
    connection.close()


@pytest.mark.tools
def test_a_long_list_needs_little_memory(start_server: StartServer) -> None:
    server = start_server()
    server.read_first_key()
    run_external_sql(
        f"sqlite:///{server.folder}/cardfile.db",
        """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
        INSERT INTO conversations (id, user_agent, status, is_read, trust_uploads, tags, created_at, updated_at)
        SELECT i, printf('%.2000c', 'x'), 'open', 0, 0, '[]', '2024-01-01T00:00:00Z', '2024-01-01T00:00:00Z' FROM n""",
    )
    send_request(server, "/api/v1/conversations?limit=1000")
    before = peak_memory(server)
    for media_type in "application/json", "application/x-ndjson", "text/csv":
        _status, body = send_request(server, "/api/v1/conversations", accept=media_type)
        assert len(body) > 120_000_000
        assert peak_memory(server) - before < 40_000, media_type


def peak_memory(server: LiveServer) -> int:
    """Return the peak memory of a server so far, in KB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        pytest.param("GET /api/v1/companies HTTP/1.1\r\n", 400, id="no-host"),
        pytest.param("GET /api/v1/companies HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400, id="two-hosts"),
        pytest.param("GET /api/v1/companies HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400, id="host-twice"),
        pytest.param("GARBAGE\r\n", 400, id="garbage"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n", 400, id="folded-header"),
        pytest.param("GET / HTTP/1.1\r\nHost: a\r\nX: ".ljust(65_534, "x"), 431, id="long-header"),
        pytest.param("POST /api/v1/keys HTTP/1.1\r\nHost: a\r\nContent-Length: 8388609\r\n", 413, id="long-body"),
        pytest.param("POST /api/v1/keys HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n", 400, id="negative-length"),
        pytest.param("POST /api/v1/keys HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n", 501, id="transfer-encoding"),
    ],
)
def test_a_request_refused_by_the_server_gets_a_problem_document(
    shared_server: LiveServer, request_text: str, status: int
) -> None:
    head, _, body = send_bytes(shared_server, f"{request_text}\r\n".encode()).decode().partition("\r\n\r\n")

    assert int(head.split()[1]) == status
    assert "Content-Type: application/problem+json" in head
    assert "X-Request-Id: " in head
    assert "Server:" not in head
    assert json.loads(body)["status"] == status


@pytest.mark.parametrize("server", ["waitress", "granian"])
def test_http_1_0_requires_no_host(start_server: StartServer, server: str) -> None:
    live = start_server("serve", "--server", server)
    live.read_first_key()
    send_request(live, body=[{"name": "A"}, {"name": "B"}])
    key = f"Authorization: Bearer {live.key}\r\n"

    # Rows: the request, its headers, the expected status, and what the response contains.
    for request, headers, status, content in (
        ("OPTIONS /", "", 204, ""),
        ("GET /", "", 302, "/docs"),
        ("HEAD /docs", "", 200, ""),
        ("GET /docs", "Host:\r\n", 200, f"http://127.0.0.1:{live.port}/api/v1/companies"),
        ("GET /docs", "Host: crm.example\r\n", 200, "http://crm.example/api/v1/companies"),
        ("GET /llms.txt", "", 200, f"http://127.0.0.1:{live.port}/api/v1/companies"),
        ("GET /openapi.json", "", 200, f'"servers": [{{"url": "http://127.0.0.1:{live.port}"}}]'),
        ("GET /settings/developer/sign-in", "", 200, "Admin key"),
        ("GET /static/style.css", "", 200, ""),
        ("GET /nothing", "", 404, "problem+json"),
        ("GET /api/v1/companies", "", 401, "problem+json"),
        ("GET /api/v1/companies?limit=1", key, 200, f"<http://127.0.0.1:{live.port}/api/v1/companies?limit=1&cursor="),
        ("GET /docs", "Host: a\r\nHost: b\r\n", 400, "exactly one Host"),
        ("GET /docs", "Host: a b\r\n", 400, "exactly one Host"),
    ):
        response = send_bytes(live, f"{request} HTTP/1.0\r\n{headers}\r\n".encode(), half_close=False).decode()
        assert (int(response.split()[1]), content in response) == (status, True), (request, headers, response)
    for headers in "", "Host:\r\n", "Host: a\r\nHost: b\r\n":
        refused = send_bytes(live, f"GET /docs HTTP/1.1\r\nConnection: close\r\n{headers}\r\n".encode(), False)
        assert refused.startswith(b"HTTP/1.1 400 "), (headers, refused)


@pytest.mark.parametrize("path", ["/api/v1/companies", "/static/style.css"])
@pytest.mark.parametrize("connection_header", ["keep-alive", "close"])
def test_a_response_has_the_date_and_connection_headers(
    shared_server: LiveServer, path: str, connection_header: str
) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", shared_server.port, timeout=20)) as connection:
        connection.request(
            "GET", path, headers={"Authorization": f"Bearer {shared_server.key}", "Connection": connection_header}
        )
        with connection.getresponse() as response:
            [date] = response.headers.get_all("Date", [])
            assert response.status == 200
            assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 5
            assert response.headers.get("Connection") == ("close" if connection_header == "close" else None)


def test_a_key_deleted_by_the_command_is_refused_by_the_running_server(
    start_server: StartServer, run_command: RunCommand
) -> None:
    server = start_server()
    server.read_first_key()
    assert send_request(server)[0] == 200
    key_id = run_command("keys", "list").stdout.splitlines()[1].split()[0]

    refused = run_command("keys", "delete", key_id)
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: No other admin key lasts as long as this one: create one first.\n",
    )
    run_command("keys", "create", "another", "--scope", "admin")
    assert run_command("keys", "delete", key_id).exit_code == 0
    assert send_request(server)[0] == 401


def test_1200_idle_connections_do_not_block_a_new_connection(tmp_path: Path, file_limit: int) -> None:
    class ServerWithFileLimit(LiveServer):
        program = ("sh", "-c", 'ulimit -S -n 1024; exec "$0" "$@"', *LiveServer.program)

    # With a hard limit of 1,024 open files, the test opens nearly as many connections as the limit allows.
    count = min(1200, file_limit - 100)
    with closing(ServerWithFileLimit(tmp_path)) as server, ExitStack() as idle:
        server.read_first_key()
        for _number in range(count):
            idle.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert send_request(server)[0] == 200


def test_the_requests_of_eight_concurrent_writers_all_succeed(start_server: StartServer) -> None:
    server = start_server()
    server.read_first_key()
    with ThreadPoolExecutor(8) as writers:
        responses = writers.map(
            lambda number: send_request(server, "/api/v1/keys", {"name": f"key {number}"}), range(80)
        )

    assert [status for status, _body in responses] == [201] * 80


@pytest.mark.tools
@pytest.mark.parametrize("name", ["waitress", "granian"])
def test_a_list_that_a_damaged_page_breaks_off_does_not_look_whole(start_server: StartServer, name: str) -> None:
    first = start_server()
    first.read_first_key()
    run_external_sql(
        f"sqlite:///{first.folder}/cardfile.db",
        """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
        INSERT INTO companies (id, name, notes, position, is_customer, created_at, updated_at)
        SELECT i, 'S', printf('%.2000c', 'x'), 0, 0, '2024-01-01T00:00:00Z', '2024-01-01T00:00:00Z' FROM n""",
    )
    assert first.stop(signal.SIGTERM) == 0
    path = first.folder / "cardfile.db"
    size = path.stat().st_size // 4096
    with path.open("r+b") as file:
        file.seek(size * 6 // 10 * 4096)
        file.write(b"\xff" * 4096 * (size // 20))
    server = start_server("serve", "--server", name)
    server.key = first.key

    try:
        status, body = send_request(server)
        assert (status, json.loads(body)["detail"]) == (503, "The database's file is damaged: restore a backup.")
    except http.client.IncompleteRead:
        assert name == "waitress"
    server.stop(signal.SIGTERM)
    [request_id] = re.findall(r"The response to request (\S+) was interrupted", server.log)
    assert server.log.count(request_id) == 2
    assert "database disk image is malformed" in server.log


@pytest.mark.parametrize("arguments", [("serve",), ("serve", "--server", "granian")], ids=["waitress", "granian"])
def test_a_client_that_sends_a_too_large_body_receives_413(
    start_server: StartServer, arguments: tuple[str, ...]
) -> None:
    server = start_server(*arguments)
    server.read_first_key()
    for megabytes in (2, 7) * 10:
        assert send_request(server, "/api/v1/contacts", {"notes": "y" * megabytes * 1024 * 1024})[0] == 413


def test_a_next_link_with_a_very_long_cursor_works(start_server: Callable[..., LiveServer]) -> None:
    server = start_server("serve")
    server.read_first_key()
    send_request(server, "/api/v1/companies", [{"name": name, "notes": "ж" * 10_000} for name in ("a", "b")])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Authorization": f"Bearer {server.key}"}
    connection.request("GET", "/api/v1/companies?sort=notes&limit=1&fields=name", headers=headers)
    first = connection.getresponse()
    body = first.read()
    connection.request("GET", first.headers["Link"].split(">")[0].partition(f":{server.port}")[2], headers=headers)
    second = connection.getresponse()
    assert (second.status, {body, second.read()}) == (200, {b'[{"name":"a"}]', b'[{"name":"b"}]'})
    connection.close()

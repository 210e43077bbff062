"""The service as a process of its own, spoken to over a socket."""

import http.client
import json
import resource
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from click.testing import Result

from tests.conftest import ROOT, LiveServer, run_external_sql, send_request, wait_until_ready

RunCommand = Callable[..., Result]
StartServer = Callable[..., LiveServer]


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return one server for all tests of a file that do not change it."""
    server = LiveServer(tmp_path_factory.mktemp("running"))
    server.read_first_key()
    yield server
    server.stop(signal.SIGKILL)
    server.close()


def send_bytes(server: LiveServer, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        response = b""
        while chunk := connection.recv(65536):
            response += chunk
    return response


def test_the_first_start_prints_a_curl_command_that_works(start_server: StartServer) -> None:
    server = start_server("serve", "--demo")
    line = server.read_first_key()

    pasted = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=20)
    assert len(json.loads(pasted.stdout)) == 50


def test_the_second_start_keeps_the_rows_and_prints_no_key(start_server: StartServer) -> None:
    first = start_server("serve", "--demo")
    first.read_first_key()
    assert first.stop(signal.SIGINT) == 0
    second = start_server("serve", "--demo")
    second.key = first.key

    assert len(json.loads(send_request(second)[1])) == 50
    assert second.stop(signal.SIGTERM) == 0
    assert second.process.stdout and "cfk_" not in second.first_line + second.process.stdout.read()


@pytest.mark.parametrize(
    ("host", "is_shown"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("localhost", True), ("0.0.0.0", False)],  # noqa: S104
)
def test_a_sign_in_link_is_printed_only_if_the_host_is_local(
    start_server: StartServer, host: str, is_shown: bool
) -> None:
    server = start_server("serve", "--host", host)
    server.read_first_key()
    assert server.stop(signal.SIGTERM) == 0

    assert server.process.stdout
    line = f"Developer settings (one-time link, valid for 15 minutes): http://{host}:{server.port}/settings/developer/link?token="
    assert server.process.stdout.read().startswith(f"\n{line}" if is_shown else "\n") is True
    assert (
        run_external_sql(f"sqlite:///{server.folder}/cardfile.db", "SELECT kind FROM sessions") == [("link",)]
    ) is is_shown


@pytest.mark.parametrize("kind", ["304", "204", "chunked list"])
def test_a_connection_stays_open_after_a_response_without_content_length(start_server: StartServer, kind: str) -> None:
    server = start_server("serve")
    server.read_first_key()
    send_request(server, "/api/v1/contacts", [{"name": f"number {number}"} for number in range(1000)])
    send_request(server, "/api/v1/contacts", {"name": "one more than a page"})
    _status, whole = send_request(server, "/api/v1/contacts")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Authorization": f"Bearer {server.key}"}
    tag = {"If-None-Match": '"1001"'} if kind == "304" else {}
    for _time in range(3):
        connection.request("OPTIONS" if kind == "204" else "GET", "/api/v1/contacts", headers=headers | tag)
        # A new connection would have another socket.
        socket_before = connection.sock
        response = connection.getresponse()
        body = response.read()
        assert connection.sock is socket_before is not None
        if kind == "chunked list":
            assert (response.status, response.headers["Transfer-Encoding"], body) == (200, "chunked", whole)
        else:
            assert (response.status, body) == (int(kind), b"")
    for method, more in ("HEAD", {}), ("GET", {"Connection": "close"}):
        connection.request(method, "/api/v1/contacts", headers=headers | tag | more)
        last = connection.getresponse()
        last.read()
        assert method == "HEAD" or last.headers["Connection"] == "close"
    connection.close()


def test_serve_is_the_default_command(start_server: StartServer) -> None:
    server = start_server("--threads", "2")
    server.read_first_key()

    assert send_request(server) == (200, b"[]")


def test_the_first_line_names_sqlite_and_the_file(start_server: StartServer, tmp_path: Path) -> None:
    assert f"from {tmp_path}/cardfile.db (SQLite 3." in start_server().first_line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_after_the_running_request(start_server: StartServer, number: int) -> None:
    server = start_server("serve", "--demo")
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
        assert busy.recv(65536).startswith(b"HTTP/1.1 201 ")

    assert server.process.wait(timeout=20) == 0


def test_a_second_ctrl_c_stops_the_server_at_once(start_server: StartServer) -> None:
    server = start_server()
    with socket.create_connection(("127.0.0.1", server.port)) as busy:
        busy.sendall(b"POST /api/v1/keys HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert server.process.poll() is None
        began = time.monotonic()
        assert server.stop(signal.SIGINT) == 1

    assert time.monotonic() - began < 4


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


def test_a_long_list_needs_little_memory(start_server: StartServer) -> None:
    server = start_server()
    server.read_first_key()
    run_external_sql(
        f"sqlite:///{server.folder}/cardfile.db",
        """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
        INSERT INTO conversations (id, user_agent, status, is_read, trust_uploads, tags, created_at, updated_at)
        SELECT i, printf('%.2000c', 'x'), 'open', 0, 0, '[]', '2024-01-01T00:00:00Z', '2024-01-01T00:00:00Z' FROM n""",
    )
    send_request(server, "/api/v1/conversations?limit=1000")
    before = peak_memory(server)
    _status, body = send_request(server, "/api/v1/conversations")

    assert len(body) > 60_000_000
    assert peak_memory(server) - before < 20_000


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


def test_log_format_json_logs_json(start_server: StartServer) -> None:
    server = start_server("serve", LOG_FORMAT="json")
    server.read_first_key()
    send_request(server, "/api/v1/contacts")
    server.stop(signal.SIGTERM)

    [line] = [json.loads(line) for line in server.log.splitlines()]
    assert (line["log"], line["method"], line["path"], line["status"]) == (
        "cardfile.access",
        "GET",
        "/api/v1/contacts",
        200,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [("serve",), ("serve", "--server", "granian")], ids=["waitress", "granian"])
@pytest.mark.parametrize("to", ["2>&-", "2>/dev/full"], ids=["closed", "full"])
def test_the_server_works_if_the_log_cannot_be_written(
    tmp_path: Path, to: str, arguments: tuple[str, ...], unbuffered: str
) -> None:
    class ServerWithoutLog(LiveServer):
        program = ("sh", "-c", f'exec "$0" "$@" {to}', *LiveServer.program)

    with closing(ServerWithoutLog(tmp_path, *arguments, PYTHONUNBUFFERED=unbuffered)) as server:
        server.read_first_key()
        wait_until_ready(server)
        assert [send_request(server)[0] for _time in range(200)] == [200] * 200
        assert server.stop(signal.SIGTERM) == 0


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


def test_a_port_in_use_is_an_error_of_one_line(shared_server: LiveServer, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "service.py", "serve", "--port", str(shared_server.port)]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"Error: Can't listen on 127.0.0.1 port {shared_server.port}: Address already in use.\n"


def test_a_key_deleted_by_the_command_is_refused_by_the_running_server(
    start_server: StartServer, run_command: RunCommand
) -> None:
    server = start_server()
    server.read_first_key()
    assert send_request(server)[0] == 200
    key_id = run_command("keys", "list").stdout.splitlines()[1].split()[0]

    run_command("keys", "delete", key_id)
    assert send_request(server)[0] == 401


@pytest.fixture
def file_limit() -> Iterator[int]:
    """Raise this process's limit on open files for 1,200 connections; return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 2000 if hard == resource.RLIM_INFINITY else min(2000, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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


def test_the_server_works_with_the_sqlite_of_the_standard_library(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "pysqlite3.py").write_text("raise ImportError", encoding="utf-8")
    server = start_server("serve", "--demo", PYTHONPATH=str(tmp_path))
    server.read_first_key()

    assert f"(SQLite {sqlite3.sqlite_version}" in server.first_line
    assert len(json.loads(send_request(server)[1])) == 50
    assert send_request(server, "/api/v1/contacts?q=ceo&include=company&limit=2")[0] == 200
    status, created = send_request(server, "/api/v1/companies", {"name": "Acme", "dealValue": 358976077017.13})
    assert (status, json.loads(created)["dealValue"]) == (201, 358976077017.13)
    assert server.stop(signal.SIGTERM) == 0
    assert ("can corrupt a file" in server.first_line) is (sqlite3.sqlite_version_info < (3, 44, 6))


def test_several_servers_can_start_with_demo_data_at_once(start_server: StartServer) -> None:
    servers = [start_server("serve", "--demo") for _number in range(3)]

    assert all("/api/v1" in server.first_line for server in servers)
    for server in servers:
        server.process.send_signal(signal.SIGTERM)
    assert sum(bool(server.read_first_key()) for server in servers) == 1


@pytest.mark.parametrize("host", ["nosuch.invalid", "256.1.1.1", "a" * 300])
def test_an_invalid_host_is_an_error_of_one_line(tmp_path: Path, host: str) -> None:
    command = [sys.executable, ROOT / "service.py", "serve", "--port", "0", "--host", host]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith(f"Error: Can't listen on {host} port 0: ")


def test_a_too_large_request_is_logged_with_its_request_id(start_server: StartServer) -> None:
    server = start_server()
    head = b"HEAD /api/v1/keys HTTP/1.1\r\nHost: a\r\nX-Request-Id: job-7\r\nContent-Length: 8388609\r\n\r\n"
    response, _, body = send_bytes(server, head).decode().partition("\r\n\r\n")
    server.stop(signal.SIGTERM)

    assert (response.split()[1], "X-Request-Id: job-7" in response, body) == ("413", True, "")
    assert "413 Request Entity Too Large job-7" in server.log


@pytest.mark.parametrize("arguments", [("serve",), ("serve", "--server", "granian")], ids=["waitress", "granian"])
def test_a_client_that_sends_a_too_large_body_receives_413(
    start_server: StartServer, arguments: tuple[str, ...]
) -> None:
    server = start_server(*arguments)
    server.read_first_key()
    wait_until_ready(server)
    for megabytes in (2, 7) * 10:
        assert send_request(server, "/api/v1/contacts", {"notes": "y" * megabytes * 1024 * 1024})[0] == 413


def test_an_unfinished_request_does_not_delay_the_stop(start_server: StartServer) -> None:
    server = start_server()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHos")
        time.sleep(0.3)
        began = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 4


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

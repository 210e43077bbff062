"""The access log has one line for every request and contains no secrets."""

import json
import logging
import os
import re
import select
import signal
import socket
import struct
import time
import tty
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from auth import new_key
from server.log import LogStream
from tests.conftest import LiveServer, send_request
from tests.server.conftest import send_bytes

StartServer = Callable[..., LiveServer]


def test_the_access_log_has_a_line_for_every_response(reader: FlaskClient, capfd: pytest.CaptureFixture[str]) -> None:
    reader.get("/api/v1/companies", headers={"X-Request-Id": "job-7"})
    reader.get("/api/v1/a%0Ab?secret=1", headers={"X-Request-Id": "job-8"})

    at = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"
    first, second = capfd.readouterr().err.splitlines()
    assert re.fullmatch(rf"{at} 127\.0\.0\.1 GET /api/v1/companies 200 [0-9.]+ 2 [0-9a-f-]{{36}} job-7", first)
    assert re.fullmatch(rf"{at} 127\.0\.0\.1 GET /api/v1/a%0Ab 404 [0-9.]+ [0-9]{{3}} [0-9a-f-]{{36}} job-8", second)


def test_control_characters_in_a_method_are_escaped_in_the_log(
    reader: FlaskClient, capfd: pytest.CaptureFixture[str]
) -> None:
    assert reader.open("/api/v1/companies", method="\x1b[2KGET").status_code == 405

    [line] = capfd.readouterr().err.splitlines()
    assert " %1B%5B2KGET /api/v1/companies 405 " in line


def test_errors_and_the_log_do_not_contain_keys(
    reader: FlaskClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    key = new_key()
    for path in f"/api/v1/companies?{key}=1", f"/api/v1/contacts?companyId=!{key}", f"/api/v1/companies/{key}":
        response = reader.get(path)
        assert response.status_code in {400, 404}
        assert key not in response.text
    for password in "", key:
        response = reader.get("/api/v1/companies", auth=(key, password))
        assert (response.status_code, key in response.text) == (401, False)
    logged = caplog.text + capfd.readouterr().err
    assert "cfk_[redacted]" in logged
    assert key not in logged


def test_a_client_that_leaves_before_its_400_leaves_no_traceback(start_server: StartServer) -> None:
    server = start_server()
    for number in range(200):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            # The connection is reset when it is closed.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"GET /\r\nbad\r\n\r\n")
            time.sleep(number % 20 / 10_000)
    assert server.stop(signal.SIGTERM) == 0
    assert "rejected before the app: 400" in server.log
    assert "Traceback" not in server.log


def test_log_format_json_logs_json(start_server: StartServer) -> None:
    server = start_server("serve", LOG_FORMAT="json")
    server.read_first_key()
    send_request(server, "/api/v1/contacts")
    server.stop(signal.SIGTERM)

    [line] = [json.loads(line) for line in server.log.splitlines()]
    assert list(line)[3:] == ["client", "method", "path", "status", "ms", "bytes", "key", "requestId"]
    assert (line["log"], line["client"], line["method"], line["path"], line["status"], line["bytes"]) == (
        "cardfile.access",
        "127.0.0.1",
        "GET",
        "/api/v1/contacts",
        200,
        2,
    )


@pytest.mark.parametrize(
    "unbuffered", [pytest.param("", id="buffered", marks=pytest.mark.tools), pytest.param("1", id="unbuffered")]
)
@pytest.mark.parametrize(
    ("redirection", "name"),
    [
        ("2>&-", "waitress"),
        ("2>/dev/full", "granian"),
        pytest.param("2>&-", "granian", marks=pytest.mark.tools),
        pytest.param("2>/dev/full", "waitress", marks=pytest.mark.tools),
    ],
)
def test_the_server_works_if_the_log_cannot_be_written(
    tmp_path: Path, redirection: str, name: str, unbuffered: str
) -> None:
    class ServerWithoutLog(LiveServer):
        program = ("sh", "-c", f'exec "$0" "$@" {redirection}', *LiveServer.program)

    with closing(ServerWithoutLog(tmp_path, "serve", "--server", name, PYTHONUNBUFFERED=unbuffered)) as server:
        server.read_first_key()
        assert [send_request(server)[0] for _time in range(200)] == [200] * 200
        assert server.stop(signal.SIGTERM) == 0


def test_a_too_large_request_is_logged_with_its_request_id(start_server: StartServer) -> None:
    server = start_server()
    head = b"HEAD /api/v1/keys HTTP/1.1\r\nHost: a\r\nX-Request-Id: job-7\r\nContent-Length: 8388609\r\n\r\n"
    response, _, body = send_bytes(server, head).decode().partition("\r\n\r\n")
    server.stop(signal.SIGTERM)

    assert (response.split()[1], "X-Request-Id: job-7" in response, body) == ("413", True, "")
    assert "413 Request Entity Too Large job-7" in server.log


@pytest.mark.parametrize("kind", ["pipe", "another user's pipe", "socket", "terminal"])
def test_log_lines_that_nothing_reads_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError

    def read_all() -> bytes:
        received = b""
        while select.select([reading], [], [], 0.2)[0]:
            received += os.read(reading, 1024 * 1024)
        return received

    if kind == "socket":
        reading, writing = (each.detach() for each in socket.socketpair())
    elif kind == "terminal":
        reading, writing = os.openpty()
        tty.setraw(writing)
    else:
        reading, writing = os.pipe()
    log = LogStream()
    with open(writing, "w", encoding="utf-8") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        with monkeypatch.context() as patch:
            patch.setattr("os.open", refuse if kind.startswith("another") else os.open)
            log.open()
        for number in range(2000):
            log.write(f"{number}".ljust(99) + "\n")
        log.write("a traceback\n" * 20_000)
        written = read_all()
        dropped = log.dropped
        log.write("read again\n")

        assert written.startswith(b"0 ") and dropped
        # A terminal that nothing reads loses more lines by itself.
        assert kind == "terminal" or dropped == 2001 - written.count(b" \n")
        assert read_all() == b"read again\n"
        os.close(reading)
        if log.descriptor:
            os.close(log.descriptor)
    assert bool(log.descriptor) == (kind in {"pipe", "terminal"})
    assert f"Nothing read the log: {dropped} messages before this one were dropped." in caplog.text


@pytest.mark.tools
@pytest.mark.parametrize("server", ["waitress", "granian"])
def test_requests_and_a_signal_do_not_wait_for_a_reader_of_the_log(tmp_path: Path, server: str) -> None:
    class ServerWithUnreadLog(LiveServer):
        def read_log(self) -> None:
            """Read nothing."""

    with closing(ServerWithUnreadLog(tmp_path, "serve", "--server", server)) as live:
        assert {send_request(live)[0] for _time in range(900)} == {401}
        started = time.monotonic()
        live.process.send_signal(signal.SIGTERM)
        assert live.process.wait(timeout=20) == 0
        assert time.monotonic() - started < 5

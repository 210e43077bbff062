"""Granian with two processes: rows, sessions, errors and signals."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from click.testing import Result

from tests.conftest import ROOT, LiveServer, run_external_sql, send_request

StartServer = Callable[..., LiveServer]
TWO_WORKERS = ("serve", "--server", "granian", "--workers", "2")


@pytest.fixture
def workers(start_server: StartServer) -> LiveServer:
    server = start_server(*TWO_WORKERS, "--demo")
    server.read_first_key()
    return server


def test_a_row_written_by_one_process_is_read_by_all(workers: LiveServer) -> None:
    def write_and_read(number: int) -> bool:
        _status, body = send_request(workers, "/api/v1/contacts", {"name": f"number {number}"})
        path = f"/api/v1/contacts/{json.loads(body)['id']}"
        return all(send_request(workers, path) == (200, body) for _time in range(4))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(write_and_read, range(80)))
    assert len(json.loads(send_request(workers, "/api/v1/contacts")[1])) > 300


def test_a_session_starts_and_ends_in_all_processes(workers: LiveServer) -> None:
    def request_settings(method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", workers.port, timeout=20)
        with closing(connection):
            form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
            connection.request(method, f"/settings/developer{path}", body, form | headers)
            response = connection.getresponse()
            response.read()
            return response

    sign_in = request_settings("POST", "/sign-in", f"key={workers.key}")
    cookie = str(sign_in.headers["Set-Cookie"]).split(";")[0]
    assert {request_settings("GET", "", Cookie=cookie).status for _time in range(20)} == {200}

    run_external_sql(f"sqlite:///{workers.folder}/cardfile.db", "DELETE FROM api_keys")
    assert {request_settings("GET", "", Cookie=cookie).status for _time in range(20)} == {303}


def test_errors_of_all_processes_are_problem_documents_and_are_logged(workers: LiveServer) -> None:
    for path, status in ("/nowhere", 404), ("/api/v1/companies?limt=1", 400):
        received, body = send_request(workers, path)
        assert (received, json.loads(body)["status"]) == (status, status)
    assert send_request(workers, "/api/v1/contacts", {"name": "x", "notes": "y" * 1024 * 1024})[0] == 413
    assert workers.stop(signal.SIGTERM) == 0
    assert " 413 " in workers.log and "Traceback" not in workers.log


@pytest.mark.tools
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_processes(workers: LiveServer, number: int) -> None:
    assert workers.stop(number) == 0
    with pytest.raises(ConnectionRefusedError):
        send_request(workers)


def refuse(folder: Path, *arguments: str, **environment: str) -> str:
    """Return the error of a start that is refused."""
    refused = subprocess.run(
        [*LiveServer.program, *arguments],
        cwd=folder,
        env={**LiveServer.environment, **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert refused.returncode == 1
    return refused.stderr


def test_the_error_for_a_port_in_use_names_the_port(workers: LiveServer, tmp_path: Path) -> None:
    error = refuse(tmp_path, *TWO_WORKERS, "--port", str(workers.port))
    assert f"Can't listen on 127.0.0.1 port {workers.port}: Address already in use." in error


def test_waitress_refuses_several_workers(tmp_path: Path) -> None:
    error = "Error: --workers needs a server with several processes: add --server granian.\n"
    assert refuse(tmp_path, "serve", "--workers", "2") == error


def test_the_error_for_workers_from_the_environment_names_the_variables(tmp_path: Path) -> None:
    error = "Error: WORKERS needs a server with several processes: add SERVER=granian.\n"
    assert refuse(tmp_path, "serve", WORKERS="4") == error


@pytest.mark.tools
def test_a_killed_process_is_replaced_and_logged(workers: LiveServer) -> None:
    assert send_request(workers)[0] == 200
    os.kill(workers.children()[0], signal.SIGKILL)
    time.sleep(0.5)

    assert {send_request(workers)[0] for _time in range(20)} == {200}
    assert len(workers.children()) == 2
    assert workers.stop(signal.SIGTERM) == 0
    assert workers.log.count("Unexpected exit from worker-1") == 1 and "Traceback" not in workers.log


class ImpatientServer(LiveServer):
    """A server that replaces its hung workers after two seconds."""

    program = (
        sys.executable,
        "-c",
        "from server import heartbeats; heartbeats.HUNG_SECONDS = 2; from service import main; main()",
    )
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.tools
def test_a_process_that_hangs_is_killed_replaced_and_logged(tmp_path: Path) -> None:
    with closing(ImpatientServer(tmp_path, *TWO_WORKERS)) as server:
        server.read_first_key()
        assert send_request(server)[0] == 200
        time.sleep(4)
        hung, other = server.children()
        os.kill(hung, signal.SIGSTOP)
        time.sleep(4)

        assert {send_request(server, "/api/v1/contacts", {"name": "Ann"})[0] for _time in range(20)} == {201}
        left = server.children()
        assert len(left) == 2 and other in left and hung not in left
        assert server.stop(signal.SIGTERM) == 0
        assert server.log.count(" hangs: it is killed and replaced.") == 1 and "Traceback" not in server.log


@pytest.mark.tools
def test_a_killed_main_process_leaves_no_other_on_the_port(workers: LiveServer) -> None:
    assert send_request(workers)[0] == 200
    workers.process.kill()
    workers.process.wait()

    deadline = time.monotonic() + 5
    with pytest.raises(ConnectionRefusedError):
        while time.monotonic() < deadline:
            # It is closing.
            with suppress(TimeoutError, ConnectionResetError):
                socket.create_connection(("127.0.0.1", workers.port), timeout=1).close()


@pytest.mark.tools
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0, 1])
def test_a_signal_to_all_processes_as_by_ctrl_c_ends_them_soon(
    workers: LiveServer, number: int, seconds: float
) -> None:
    time.sleep(seconds)
    started = time.monotonic()
    os.killpg(workers.process.pid, number)

    assert workers.process.wait(timeout=20) == 0
    assert time.monotonic() - started < 5


def test_the_error_for_a_missing_granian_has_the_install_command(
    run_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "granian.constants", None)
    # Another test may have imported it.
    monkeypatch.delitem(sys.modules, "server.granian_server", raising=False)

    refused = run_command("serve", "--server", "granian")
    assert refused.exit_code == 1
    assert "pip install -r requirements-granian.txt" in refused.stderr

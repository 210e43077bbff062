"""The start of a server: its output, errors and imported modules."""

import json
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from auth import new_key
from database.sqlite import WAL_RESET_BUG, has_wal_reset_bug
from server import NO_TLS
from tests.conftest import ROOT, LiveServer, run_external_sql, send_request
from tests.core.test_migrations import OPEN_DATABASE

StartServer = Callable[..., LiveServer]


def test_a_start_without_an_upgrade_imports_only_needed_modules(app: Flask, database: str) -> None:
    unneeded = {"alembic", "mimesis", "mistune", "psycopg", "granian", "urllib3", "cryptography"}
    script = (
        f"{OPEN_DATABASE}; import commands, server, server.waitress_server; print(*({unneeded} & set(sys.modules)))"
    )

    completed = subprocess.run(
        [sys.executable, "-c", script, database], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert completed.stdout == "\n"


def test_the_first_start_prints_a_curl_command_that_works(start_server: StartServer) -> None:
    server = start_server("serve", "--demo")
    line = server.read_first_key()

    pasted = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=20)
    assert len(json.loads(pasted.stdout)) == 50


def test_a_later_start_keeps_the_rows_and_prints_a_key_only_where_none_is_left(start_server: StartServer) -> None:
    first = start_server("serve", "--demo")
    first.read_first_key()
    assert first.stop(signal.SIGINT) == 0
    second = start_server("serve", "--demo")
    second.key = first.key

    assert len(json.loads(send_request(second)[1])) == 50
    assert second.stop(signal.SIGTERM) == 0
    assert second.process.stdout and "cfk_" not in second.first_line + second.process.stdout.read()

    run_external_sql(f"sqlite:///{second.folder}/cardfile.db", "DELETE FROM api_keys")
    third = start_server("serve")
    third.read_first_key()
    assert third.key != first.key
    assert json.loads(send_request(third, "/api/v1/keys/me")[1])["scope"] == "admin"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        pytest.param("127.0.0.2", "127.0.0.2", marks=pytest.mark.tools),
        pytest.param("localhost", "localhost", marks=pytest.mark.tools),
        pytest.param(socket.gethostname(), socket.gethostname(), marks=pytest.mark.tools),
        pytest.param("*", "127.0.0.1", marks=pytest.mark.tools),
        ("0", "127.0.0.1"),
    ],
)
def test_the_greeting_has_an_address_that_works_and_a_link_if_the_host_is_local_or_else_a_warning(
    start_server: StartServer, tmp_path: Path, host: str, address: str
) -> None:
    server = start_server("serve", HOST=host)
    start = f"Cardfile serves http://{address}:{server.port}/api/v1 from {tmp_path}/cardfile.db (SQLite 3."
    assert server.first_line.startswith(start)
    assert server.process.stdout
    assert server.process.stdout.readline() == f"Documentation: http://{address}:{server.port}/docs\n"
    is_local = host in {"127.0.0.1", "127.0.0.2", "localhost"}
    assert (server.process.stdout.readline() == f"{NO_TLS}\n") is not is_local
    server.read_first_key()
    with socket.create_connection((address, server.port), timeout=20):
        pass
    assert server.stop(signal.SIGTERM) == 0

    line = f"Developer settings (one-time link, valid for 15 minutes): http://{host}:{server.port}/settings/developer/link?token="
    assert server.process.stdout.read().startswith(f"\n{line}" if is_local else "\n") is True
    sessions = run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", "SELECT kind FROM sessions")
    assert sessions == [("link",)] * is_local


def test_behind_a_proxy_the_greeting_does_not_warn(start_server: StartServer) -> None:
    server = start_server("serve", HOST="0", PROXIES="1")

    assert server.process.stdout
    assert server.process.stdout.readline().startswith("Documentation: ")
    assert server.process.stdout.readline().startswith("Your admin key")


def test_a_first_key_of_the_environment_is_stored_and_not_printed(start_server: StartServer) -> None:
    key = new_key()
    server = start_server("serve", CARDFILE_ADMIN_KEY=key)
    server.key = key
    assert json.loads(send_request(server, "/api/v1/keys/me")[1])["scope"] == "admin"
    assert server.stop(signal.SIGTERM) == 0

    assert server.process.stdout
    assert "cfk_" not in server.process.stdout.read() + server.log


def test_a_first_key_that_is_not_whole_stops_the_start(run_command: Callable[..., Result]) -> None:
    refused = run_command("serve", "--port", "0", env={"CARDFILE_ADMIN_KEY": new_key()[:-1]})

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "Error: CARDFILE_ADMIN_KEY must be a complete API key, as `keys generate` prints it.\n"


def test_serve_is_the_default_command(start_server: StartServer) -> None:
    server = start_server("--threads", "2")
    server.read_first_key()

    assert send_request(server) == (200, b"[]")


@pytest.mark.parametrize("name", ["waitress", "granian"])
def test_a_port_in_use_is_an_error_of_one_line_and_no_key_is_created(
    shared_server: LiveServer, tmp_path: Path, name: str
) -> None:
    command = [sys.executable, ROOT / "service.py", "serve", "--server", name, "--port", str(shared_server.port)]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert (refused.returncode, refused.stdout) == (1, "")
    message, hint = refused.stderr.split(". ", 1)
    assert message == f"Error: Can't listen on 127.0.0.1 port {shared_server.port}: Address already in use"
    free = int(hint.removeprefix("Port ").split()[0])
    assert hint == f"Port {free} is free: --port {free}.\n"
    assert shared_server.port < free < shared_server.port + 100
    assert run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", "SELECT * FROM api_keys") == []


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
    assert (WAL_RESET_BUG in server.first_line) is has_wal_reset_bug(sqlite3.sqlite_version_info)


@pytest.mark.tools
def test_several_servers_can_start_with_demo_data_at_once(start_server: StartServer) -> None:
    servers = [start_server("serve", "--demo") for _number in range(3)]

    assert all("/api/v1" in server.first_line for server in servers)
    for server in servers:
        server.process.send_signal(signal.SIGTERM)
    assert sum(bool(server.read_first_key()) for server in servers) == 1


@pytest.mark.tools
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", socket.gethostname()])
def test_a_host_can_be_a_name_on_granian(start_server: StartServer, host: str) -> None:
    server = start_server("serve", "--server", "granian", HOST=host)
    assert f" http://{host}:{server.port}/api/v1 " in server.first_line
    server.read_first_key()

    with socket.create_connection((host, server.port), timeout=20):
        pass
    assert server.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("name", ["waitress", "granian"])
def test_the_error_for_a_host_from_the_environment_names_the_variable(
    run_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOST", "x86_64-conda-linux-gnu.invalid")
    refused = run_command("serve", "--server", name)

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: Can't listen on x86_64-conda-linux-gnu.invalid port 8000: ")
    assert refused.stderr.endswith(". HOST is an environment variable: --host overrides it.\n")


@pytest.mark.parametrize("host", ["nosuch.invalid", "256.1.1.1", "a" * 300])
def test_an_invalid_host_is_an_error_of_one_line(run_command: Callable[..., Result], host: str) -> None:
    refused = run_command("serve", "--port", "0", "--host", host)

    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith(f"Error: Can't listen on {host} port 0: ")

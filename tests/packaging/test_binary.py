"""The binary, run in an empty environment and an empty folder."""

import fcntl
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest
from flask import Flask

from auth import is_well_formed
from database import sqlite
from database.schema import revisions
from tests.conftest import ROOT, LiveServer, run_external_sql, send_request

BINARY = ROOT / "dist" / "cardfile"


class BinaryServer(LiveServer):
    """A server started from the binary."""

    program = (BINARY,)
    environment: ClassVar[dict[str, str]] = {}


pytestmark = pytest.mark.tools

StartServer = Callable[..., BinaryServer]
RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def build_binary() -> None:
    """Build the binary if it is older than its sources; only one test process builds at a time."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "COVERAGE"))}
        subprocess.run(["make", "binary"], cwd=ROOT, env=environment, check=True, timeout=300)  # noqa: S607


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder."""
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """Return the folder in which the binary unpacks itself."""
    (tmp_path / "unpacked").mkdir()
    return tmp_path / "unpacked"


@pytest.fixture
def start_server(folder: Path, unpacked: Path) -> Iterator[StartServer]:
    """Return a function that starts a server; it is killed after the test."""
    servers: list[BinaryServer] = []

    def start_server(*arguments: str, **environment: str) -> BinaryServer:
        servers.append(BinaryServer(folder, *arguments, TMPDIR=str(unpacked), **environment))
        return servers[-1]

    yield start_server
    for server in servers:
        server.close()


@pytest.fixture
def run_command(folder: Path) -> RunCommand:
    """Return a function that runs a command of the binary."""

    def invoke(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BINARY, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    return invoke


def test_the_binary_prints_the_same_versions_as_the_source(run_command: RunCommand) -> None:
    source = subprocess.run(
        [sys.executable, ROOT / "service.py", "--version"], capture_output=True, text=True, check=True, timeout=60
    )

    assert run_command("--version").stdout == source.stdout
    assert f"(SQLite {sqlite.driver.sqlite_version}, Python " in source.stdout


def test_the_binary_is_smaller_than_40_megabytes() -> None:
    assert BINARY.stat().st_size < 40_000_000


def test_the_binary_serves_demo_data_from_an_empty_folder_within_three_seconds(
    start_server: StartServer, folder: Path
) -> None:
    seconds = []
    for _time in range(3):
        for file in folder.iterdir():
            file.unlink()
        started_at = time.monotonic()
        server = start_server("--demo")
        line = server.read_first_key()
        pasted = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=20)
        seconds.append(time.monotonic() - started_at)
        assert len(json.loads(pasted.stdout)) == 50
        assert server.stop(signal.SIGTERM) == 0
        assert sorted(file.name for file in folder.iterdir()) == ["cardfile.db", "cardfile.db.lock"]

    assert min(seconds) < 3


def test_every_path_has_the_same_status_code_as_from_the_source(
    start_server: StartServer, app: Flask, new_key_with_scope
) -> None:
    server = start_server()
    server.read_first_key()
    client, key = app.test_client(), new_key_with_scope("admin")
    paths = {rule.rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or set()) and not rule.arguments}
    paths |= {f"/static/{file.name}" for file in (ROOT / "pages" / "static").iterdir()}
    paths |= {f"/docs{page}" for page in ("", "/errors", "/webhooks", "/agents", "/api/companies")}
    assert {"/api/v1/companies", "/docs/search.json", "/static/style.css"} <= paths

    for path in sorted(paths):
        expected = client.get(path, headers={"Authorization": f"Bearer {key}"})
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {server.key}"})
            response = connection.getresponse()
            body = response.read()
        assert (response.status, response.headers["Content-Type"]) == (expected.status_code, expected.content_type), (
            path
        )
        assert bool(body) == bool(expected.data), path
        expected.close()


def test_every_command_works(run_command: RunCommand, folder: Path) -> None:
    assert is_well_formed(run_command("keys", "create", "Nightly sync", "--scope", "write").stdout.strip())
    assert "Nightly sync" in run_command("keys", "list").stdout
    assert run_command("seed", "--companies", "3").stderr.startswith("Loaded 3 companies, ")
    assert run_command("export", "first").stderr.startswith("Wrote 3 companies, ")
    stored = run_command("import", "first", "--database", "sqlite:///second.db")
    assert (stored.returncode, stored.stderr[:19]) == (0, "Stored 3 companies,")
    assert run_command("export", "second", DATABASE_URL="sqlite:///second.db").returncode == 0
    for file in (folder / "first").iterdir():
        assert (folder / "second" / file.name).read_bytes() == file.read_bytes() != b""
    assert run_command("backup", "copy.db").returncode == 0
    checked = run_command("check", "--database", "sqlite:///copy.db")
    assert (checked.returncode, f"schema: {revisions()[-1]}" in checked.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--prot", "9"], "Error: No such option '--prot'."),
        (["--port", "x"], "Error: --port must be a whole number from 0 to 65535, not 'x'."),
        (["--server", "granian"], "it is not part of the one-file binary: run Cardfile from a checkout."),
        (["--database", "postgresql://a/b"], "it is not part of the one-file binary: run Cardfile from a checkout."),
    ],
    ids=["option", "value", "granian", "postgresql"],
)  # fmt: skip
def test_an_invalid_option_is_an_error_of_one_sentence(
    run_command: RunCommand, arguments: list[str], sentence: str
) -> None:
    refused = run_command(*arguments)

    assert (refused.returncode > 0, refused.stdout) == (True, "")
    assert sentence in refused.stderr.splitlines()[-1]


def test_the_binary_refuses_a_newer_schema_in_one_sentence(run_command: RunCommand, folder: Path) -> None:
    run_command("keys", "create", "a")
    run_external_sql(f"sqlite:///{folder}/cardfile.db", "UPDATE alembic_version SET version_num = '9999'")
    refused = run_command("check")

    assert refused.returncode == 1
    assert "Error: This Cardfile knows schemas up to " in refused.stderr


def test_the_binary_starts_in_a_folder_of_any_name_and_in_any_locale(tmp_path: Path) -> None:
    folder = tmp_path / "Käse 卡"
    folder.mkdir()
    server = BinaryServer(folder, LC_ALL="C")
    line = server.read_first_key()
    server.stop(signal.SIGTERM)
    server.close()

    assert f"from {folder}/cardfile.db (SQLite 3." in server.first_line
    assert "Bearer cfk_" in line


def test_two_servers_can_start_at_once(start_server: StartServer) -> None:
    servers = [start_server("--demo"), start_server("--demo")]

    assert all("/api/v1" in server.first_line for server in servers)
    assert [server.stop(signal.SIGTERM) for server in servers] == [0, 0]
    assert sum(bool(server.read_first_key()) for server in servers) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the process", "to the process group"])
def test_a_signal_stops_the_server_after_the_running_request(
    start_server: StartServer, unpacked: Path, number: int, send: Callable[[int, int], None]
) -> None:
    server = start_server()
    server.read_first_key()
    assert len(list(unpacked.iterdir())) == 1
    body = json.dumps({"name": "in flight"}).encode()
    head = (
        f"POST /api/v1/keys HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as busy:
        busy.sendall(head.encode() + body[:5])
        time.sleep(0.3)
        send(server.process.pid, number)
        time.sleep(0.7)
        busy.sendall(body[5:])
        assert busy.recv(65536).startswith(b"HTTP/1.1 201 ")

    assert server.process.wait(timeout=20) == 0
    assert list(unpacked.iterdir()) == []


def test_the_unpacked_folder_is_locked_while_the_server_runs(start_server: StartServer, unpacked: Path) -> None:
    assert "/api/v1" in start_server().first_line
    [folder] = unpacked.iterdir()

    # systemd-tmpfiles takes this lock before it deletes old files in a folder.
    handle = os.open(folder, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(handle)


def test_the_unpacked_folder_is_removed_after_the_first_process_is_killed(
    start_server: StartServer, unpacked: Path
) -> None:
    server = start_server()
    server.read_first_key()
    assert send_request(server) == (200, b"[]")

    server.process.kill()
    deadline = time.monotonic() + 20
    while list(unpacked.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(unpacked.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        send_request(server)

"""The one binary, as somebody uses it who has no Python: in an empty environment, in an empty folder."""

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
from tests.conftest import ROOT, LiveServer, ask, shell

BINARY = ROOT / "dist" / "cardfile"


class BinaryServer(LiveServer):
    """The one binary, serving."""

    program = (BINARY,)
    environment: ClassVar[dict[str, str]] = {}


pytestmark = pytest.mark.tools

Start = Callable[..., BinaryServer]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def binary() -> None:
    """Build what is older than its sources; while one process of the tests does, the other waits."""
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
    """Return the folder into which the binary unpacks itself."""
    (tmp_path / "unpacked").mkdir()
    return tmp_path / "unpacked"


@pytest.fixture
def start(folder: Path, unpacked: Path) -> Iterator[Start]:
    """Return a function that starts a server; what still runs at the end is killed."""
    servers: list[BinaryServer] = []

    def start_server(*arguments: str, **environment: str) -> BinaryServer:
        servers.append(BinaryServer(folder, *arguments, TMPDIR=str(unpacked), **environment))
        return servers[-1]

    yield start_server
    for server in servers:
        server.close()


@pytest.fixture
def run(folder: Path) -> Run:
    """Return a function that runs a command to its end."""

    def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BINARY, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    return run_command


def test_it_names_the_same_versions_as_the_checkout(run: Run) -> None:
    of_checkout = subprocess.run(
        [sys.executable, ROOT / "service.py", "--version"], capture_output=True, text=True, check=True, timeout=60
    )

    assert run("--version").stdout == of_checkout.stdout
    assert f"(SQLite {sqlite.driver.sqlite_version}, Python " in of_checkout.stdout


def test_it_is_smaller_than_40_megabytes() -> None:
    assert BINARY.stat().st_size < 40_000_000


def test_in_an_empty_folder_it_is_a_working_api_in_under_three_seconds(start: Start, folder: Path) -> None:
    seconds = []
    for _time in range(3):
        for file in folder.iterdir():
            file.unlink()
        began = time.monotonic()
        server = start("--demo")
        line = server.read_first_key()
        pasted = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=20)
        seconds.append(time.monotonic() - began)
        assert len(json.loads(pasted.stdout)) == 50
        assert server.stop(signal.SIGTERM) == 0
        assert [file.name for file in folder.iterdir()] == ["cardfile.db"]

    assert min(seconds) < 3


def test_every_address_answers_as_it_does_in_the_checkout(start: Start, app: Flask, new_key_of) -> None:
    server = start()
    server.read_first_key()
    client, key = app.test_client(), new_key_of("admin")
    paths = {rule.rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or set()) and not rule.arguments}
    paths |= {f"/static/{file.name}" for file in (ROOT / "pages" / "static").iterdir()}
    assert {"/api/v1/companies", "/docs", "/static/style.css"} <= paths

    for path in sorted(paths):
        expected = client.get(path, headers={"Authorization": f"Bearer {key}"})
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {server.key}"})
            answer = connection.getresponse()
            body = answer.read()
        assert (answer.status, answer.headers["Content-Type"]) == (expected.status_code, expected.content_type), path
        assert bool(body) == bool(expected.data), path
        expected.close()


def test_every_command_works_in_it(run: Run, folder: Path) -> None:
    assert is_well_formed(run("keys", "create", "Nightly sync", "--scope", "write").stdout.strip())
    assert "Nightly sync" in run("keys", "list").stdout
    assert run("seed", "--companies", "3").stderr.startswith("Loaded 3 companies, ")
    assert run("export", "first").stderr.startswith("Wrote 3 companies, ")
    stored = run("import", "first", "--database", "sqlite:///second.db")
    assert (stored.returncode, stored.stderr[:19]) == (0, "Stored 3 companies,")
    assert run("export", "second", DATABASE_URL="sqlite:///second.db").returncode == 0
    for file in (folder / "first").iterdir():
        assert (folder / "second" / file.name).read_bytes() == file.read_bytes() != b""
    assert run("backup", "copy.db").returncode == 0
    checked = run("check", "--database", "sqlite:///copy.db")
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
def test_what_it_can_not_do_it_says_in_one_sentence(run: Run, arguments: list[str], sentence: str) -> None:
    refused = run(*arguments)

    assert (refused.returncode > 0, refused.stdout) == (True, "")
    assert sentence in refused.stderr.splitlines()[-1]


def test_it_refuses_an_unreleased_schema_in_one_sentence(run: Run, folder: Path) -> None:
    run("keys", "create", "a")
    shell(f"sqlite:///{folder}/cardfile.db", "UPDATE alembic_version SET version_num = '0003'")
    refused = run("check")

    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "Error: This database is of an older, unreleased Cardfile (schema 0003, known here: "
    )


def test_it_greets_from_a_folder_of_any_name_in_any_locale(tmp_path: Path) -> None:
    place = tmp_path / "Käse 卡"
    place.mkdir()
    server = BinaryServer(place, LC_ALL="C")
    line = server.read_first_key()
    server.stop(signal.SIGTERM)
    server.close()

    assert f"from {place}/cardfile.db (SQLite 3." in server.greeting
    assert "Bearer cfk_" in line


def test_two_may_start_at_once(start: Start) -> None:
    servers = [start("--demo"), start("--demo")]

    assert all("/api/v1" in server.greeting for server in servers)
    assert [server.stop(signal.SIGTERM) for server in servers] == [0, 0]
    assert sum(bool(server.read_first_key()) for server in servers) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to it alone", "as a terminal does"])
def test_a_signal_lets_what_is_in_flight_finish(
    start: Start, unpacked: Path, number: int, send: Callable[[int, int], None]
) -> None:
    server = start()
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


def test_nobody_clears_up_what_it_still_uses(start: Start, unpacked: Path) -> None:
    assert "/api/v1" in start().greeting
    [place] = unpacked.iterdir()

    # As systemd-tmpfiles asks before it clears a folder of old files.
    handle = os.open(place, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(handle)


def test_nothing_stays_behind_when_its_first_process_is_killed(start: Start, unpacked: Path) -> None:
    server = start()
    server.read_first_key()
    assert ask(server) == (200, b"[]")

    server.process.kill()
    deadline = time.monotonic() + 20
    while list(unpacked.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(unpacked.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        ask(server)

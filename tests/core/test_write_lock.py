"""The write lock: writers of one process, or of several, take turns and wait for a limited time."""

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import String, bindparam, select

from database.connection import execute
from database.write_lock import WriteLock, WriteLockTimeout
from tests.conftest import ROOT

RunCommand = Callable[..., Result]

HOLD_FILE = (
    "import sys; from database.write_lock import WriteLock\n"
    "with WriteLock(sys.argv[1]).hold(): print('held', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize("name", [None, "cardfile.db.lock"])
def test_writers_of_one_process_take_turns(tmp_path: Path, name: str | None) -> None:
    lock = WriteLock(name and str(tmp_path / name))
    active: list[int] = []
    most = []

    def write(number: int) -> None:
        with lock.hold():
            active.append(number)
            most.append(len(active))
            time.sleep(0.001)
            active.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(80)))
    assert most == [1] * 80


def test_writers_of_two_processes_take_turns_and_a_killed_one_releases_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("database.write_lock.MAX_WAIT_SECONDS", 0.05)
    path = str(tmp_path / "cardfile.db.lock")
    command = [sys.executable, "-c", HOLD_FILE, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        with pytest.raises(WriteLockTimeout), WriteLock(path).hold():
            pass
        other.kill()
        other.wait()
        with WriteLock(path).hold():
            pass


def test_a_write_that_waits_too_long_is_503_and_a_read_waits_for_no_writer(
    app: Flask, writer: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("database.write_lock.MAX_WAIT_SECONDS", 0.05)
    with app.extensions["connections"].write_lock.hold():
        late = writer.post("/api/v1/contacts", json={"name": "late"})
        assert writer.get("/api/v1/contacts").json == []

    assert (late.status_code, late.headers["Retry-After"]) == (503, "1")
    assert "The database is unavailable: Other requests are writing." in caplog.text
    assert writer.post("/api/v1/contacts", json={"name": "later"}).status_code == 201


def test_a_command_that_waits_too_long_ends_in_one_sentence(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("database.write_lock.MAX_WAIT_SECONDS", 0.05)
    assert run_command("keys", "create", "first").exit_code == 0
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_FILE, str(tmp_path / "cardfile.db.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        refused = run_command("keys", "create", "second")
        other.kill()

    assert (refused.exit_code, refused.stderr) == (1, "Error: Another process is writing.\n")


def test_a_last_use_that_is_not_stored_leaves_no_broken_connection(
    app: Flask, reader: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise app.extensions["connections"].engine.dialect.loaded_dbapi.OperationalError("gone")

    assert reader.get("/api/v1/contacts").status_code == 200
    last_use = app.extensions["last_use"]
    last_use.stop()
    with monkeypatch.context() as broken:
        broken.setattr("database.connection.Connection.begin", fail)
        last_use.write("any", datetime.now(UTC))
    assert list(app.extensions["connections"].idle) == []


def test_a_bound_value_can_have_the_name_of_an_argument(app: Flask) -> None:
    with app.app_context():
        statement = select(bindparam("source", type_=String()))
        assert execute(statement, source="web").fetchone() == ("web",)

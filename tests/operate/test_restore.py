"""`restore`: the database becomes a copy of a backup, and its history another one."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask.testing import FlaskClient

from database.sqlite import driver as sqlite
from tests.conftest import ROOT, LiveServer, run_external_sql
from tests.server.test_storage_faults import SmallDiskServer

RunCommand = Callable[..., Result]


def call(server: LiveServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """Send a request; return the status, the headers and the body."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        connection.request(method, f"/api/v1/{path}", body and json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        return response.status, response.headers, json.loads(text) if text else None


def dataset_of(path: Path) -> str:
    with closing(sqlite.connect(path)) as connection:
        return str(connection.execute("SELECT id FROM dataset").fetchone()[0])


@pytest.mark.parametrize("server_name", ["waitress", "granian"])
def test_a_served_database_is_restored_and_no_etag_of_the_lost_history_matches(
    start_server: Callable[..., LiveServer], run_command: RunCommand, tmp_path: Path, server_name: str
) -> None:
    if server_name == "granian":
        pytest.importorskip("granian")
    server = start_server("serve", "--server", server_name)
    server.read_first_key()
    call(server, "PUT", "contacts/x", {"name": "Ann"})
    assert run_command("backup", "b.db").exit_code == 0
    _status, lost, _body = call(server, "PATCH", "contacts/x", {"name": "Lost"})

    restored = run_command("restore", "b.db")
    assert (restored.exit_code, restored.stdout) == (0, "")
    assert restored.stderr.startswith(f"Restored {tmp_path}/cardfile.db from b.db; the old database is {tmp_path}/")

    assert call(server, "GET", "contacts/x")[2]["name"] == "Ann"
    assert call(server, "GET", "changes?since=2")[0] == 410
    _status, now, _body = call(server, "PATCH", "contacts/x", {"name": "Other"})
    assert now["Dataset-Version"] == lost["Dataset-Version"] == "2"
    assert now["Dataset-Id"] != lost["Dataset-Id"]
    for path in "contacts/x", "contacts", "changes":
        assert call(server, "GET", path, If_None_Match=lost["ETag"])[0] == 200
    assert call(server, "PATCH", "contacts/x", {"name": "Overwritten"}, If_Match=lost["ETag"])[0] == 412
    assert call(server, "GET", "contacts/x")[2]["name"] == "Other"


@pytest.mark.parametrize("file", [(), ("b.db",)])
def test_commands_work_after_a_restore_while_the_database_is_served(
    start_server: Callable[..., LiveServer], run_command: RunCommand, tmp_path: Path, file: tuple[str, ...]
) -> None:
    server = start_server("serve", "--demo")
    server.read_first_key()
    # The key is printed before it is stored.
    assert call(server, "GET", "keys/me")[0] == 200
    run_command("backup", "b.db")
    for _time in range(2):
        assert run_command("restore", *file).exit_code == 0
        assert run_command("keys", "create", "new").exit_code == 0
        checked = run_command("check")
        assert (checked.exit_code, checked.stderr) == (0, "")
    assert call(server, "PUT", "contacts/x", {"name": "Ann"})[0] == 201
    assert run_command("restore", *file).exit_code == 0
    (tmp_path / "contacts.csv").write_text("id,name\ny,Bo\n", encoding="utf-8")
    assert run_command("import", "contacts.csv").exit_code == 0
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()

    again = start_server("serve")
    again.key = server.key
    assert call(again, "GET", "contacts/y")[2]["name"] == "Bo"
    assert call(again, "GET", "contacts/x")[0] == (404 if file else 200)
    assert len([*tmp_path.glob("*.bak*")]) == 3 * len(file)


LOCK = """
import sqlite3, sys
connection = sqlite3.connect("cardfile.db", isolation_level=None)
connection.execute("PRAGMA locking_mode = EXCLUSIVE")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE companies SET position = 7")
print(flush=True)
sys.stdin.read()
connection.execute("COMMIT")
"""
FULL = """
python=$1 service=$2 backup=$3 room=$4
"$python" "$service" seed --companies 60 && "$python" "$service" backup "$backup" && cp cardfile.db before
size=$(stat -c %s cardfile.db) free=$(df --output=avail -B1 . | tail -1)
head -c $((free - size * room / 10)) /dev/zero >other
"$python" "$service" restore "$backup"; echo status $?
rm other
"$python" "$service" check && ls -A && cmp cardfile.db before
"""


@pytest.mark.tools
def test_a_locked_database_is_not_taken_for_a_damaged_one(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("seed", "--companies", "2")
    run_command("backup", "b.db")
    (tmp_path / ".cardfile.db.restore-killed").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCK], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout and holder.stdout.readline() == "\n"

    refused = run_command("restore", "b.db")
    assert (refused.exit_code, "can't be replaced now, and stays as it was: " in refused.stderr) == (1, True)
    holder.communicate()
    positions = run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", "SELECT DISTINCT position FROM companies")
    assert positions == [(7,)]
    assert [*tmp_path.glob("*.bak*"), *tmp_path.glob(".*restore*")] == []


@pytest.mark.tools
@pytest.mark.parametrize("tenths", [0, 12, 30])
def test_a_full_disk_leaves_the_database_as_it_was(tmp_path: Path, tenths: int) -> None:
    if subprocess.run([*SmallDiskServer.mount, "true"], cwd=tmp_path, check=False).returncode:
        pytest.skip("A user namespace can't mount a disk here: allow unprivileged user namespaces.")
    disk, backup = tmp_path / "disk", tmp_path / "b.db"
    disk.mkdir()
    command = [*SmallDiskServer.mount, "sh", "-c", FULL, "sh", sys.executable, ROOT / "service.py", backup, str(tenths)]
    completed = subprocess.run(command, cwd=disk, capture_output=True, text=True, check=False, timeout=60)
    assert "status 1\n" in completed.stdout, completed
    assert "Traceback" not in completed.stderr
    assert completed.returncode == 0 and ".restore" not in completed.stdout, completed


def test_every_copy_has_a_dataset_id_of_its_own(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("seed")
    run_command("backup", "a.db")
    run_command("backup", "b.db")
    run_command("restore", "a.db")

    ids = {dataset_of(path) for path in [*tmp_path.glob("*.db"), *tmp_path.glob("*.bak")]}
    assert len(list(tmp_path.glob("cardfile.db.*.bak"))) == 1
    assert len(ids) == 4


def test_a_second_restore_within_a_second_keeps_a_second_copy(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("seed", "--companies", "1")
    run_command("backup", "b.db")
    assert [run_command("restore", "b.db").exit_code for _time in range(5)] == [0] * 5
    assert len(list(tmp_path.glob("cardfile.db.*.bak"))) == 5


def test_restore_lists_the_keys_that_are_valid_again_and_those_that_are_lost(run_command: RunCommand) -> None:
    run_command("keys", "create", "Old partner", "--scope", "write")
    run_command("keys", "create", "Reporting")
    run_command("backup", "b.db")
    key_id = run_command("keys", "list").stdout.splitlines()[1].split()[0]
    run_command("keys", "delete", key_id)
    run_command("keys", "create", "New partner")
    lost_id = run_command("keys", "list").stdout.splitlines()[2].split()[0]

    lines = run_command("restore", "b.db").stderr.splitlines()
    assert lines[1:] == [
        f"This key is valid again: {key_id} (write) Old partner",
        f"This key is not in the backup: {lost_id} (read) New partner",
    ]


def test_the_old_database_can_be_restored_in_turn(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("seed", "--companies", "1")
    run_command("backup", "b.db")
    run_command("seed", "--companies", "3", "--reset", "--yes")
    run_command("restore", "b.db")
    assert run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", "SELECT count(*) FROM companies") == [(1,)]

    [old] = tmp_path.glob("cardfile.db.*.bak")
    run_command("restore", str(old))
    assert run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", "SELECT count(*) FROM companies") == [(3,)]


@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_a_missing_or_damaged_database_is_restored(run_command: RunCommand, tmp_path: Path, damage: str) -> None:
    run_command("seed")
    run_command("backup", "b.db")
    path = tmp_path / "cardfile.db"
    path.unlink() if damage == "missing" else path.write_bytes(b"x" * 5000 if damage == "garbage" else b"")

    assert run_command("restore", "b.db").exit_code == 0
    assert "integrity: ok" in run_command("check").stdout
    assert [old.read_bytes() for old in tmp_path.glob("*.bak") if damage == "garbage"] in ([], [b"x" * 5000])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"x" * 5000, "b.db is not a usable backup: file is not a database."),
        (b"", "The backup is an empty database."),
        ("CREATE TABLE bookmarks (url)", "This database has tables but is not Cardfile's: name another."),
        ("DROP TRIGGER contacts_log_created", "The backup is damaged: contacts_log_created is missing or changed."),
        ("UPDATE alembic_version SET version_num = '9999'", "This Cardfile knows schemas up to "),
    ],
)
def test_a_file_that_is_no_backup_is_refused_and_nothing_changes(
    run_command: RunCommand, tmp_path: Path, content: bytes | str, sentence: str
) -> None:
    run_command("seed")
    before = dataset_of(tmp_path / "cardfile.db")
    backup = tmp_path / "b.db"
    if isinstance(content, bytes):
        backup.write_bytes(content)
    else:
        if not content.startswith("CREATE"):
            run_command("backup", "b.db")
        with closing(sqlite.connect(backup)) as connection, connection:
            connection.execute(content)

    refused = run_command("restore", "b.db")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith(f"Error: {sentence}")
    assert dataset_of(tmp_path / "cardfile.db") == before
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm"))) == [
        "b.db",
        "cardfile.db",
        "cardfile.db.lock",
    ]


@pytest.mark.databases("sqlite", "postgresql")
def test_restore_without_a_file_begins_a_new_history(
    run_command: RunCommand, reader: FlaskClient, database: str
) -> None:
    before = reader.get("/api/v1/contacts").headers["Dataset-Id"]

    completed = run_command("restore", "--database", database)
    after = reader.get("/api/v1/contacts").headers["Dataset-Id"]
    assert completed.stderr == f"The Dataset-Id is {after} now.\n"
    assert after != before


@pytest.mark.tools
def test_a_restore_without_a_file_that_fails_leaves_the_record_of_the_database(
    run_command: RunCommand, tmp_path: Path
) -> None:
    run_command("keys", "create", "a")
    before = (tmp_path / "cardfile.db.lock").read_bytes()
    with closing(sqlite.connect(tmp_path / "cardfile.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert run_command("restore").exit_code == 1
    assert (tmp_path / "cardfile.db.lock").read_bytes() == before != b""


def test_sessions_of_the_backup_are_not_restored(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("keys", "create", "a")
    database = f"sqlite:///{tmp_path}/cardfile.db"
    run_external_sql(database, "INSERT INTO sessions VALUES ('digest', 'link', NULL, '2999-01-01T00:00:00Z')")
    run_command("backup", "b.db")
    run_command("restore", "b.db")

    assert run_external_sql(database, "SELECT count(*) FROM sessions") == [(0,)]

"""The database's file is moved, deleted, replaced or cut while it is served: no write is acknowledged and then lost."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from database.record import Record
from tests.conftest import LiveServer, run_external_sql, send_request

StartServer = Callable[..., LiveServer]
RunCommand = Callable[..., Result]
SERVERS = [
    pytest.param(("waitress", "1"), id="waitress"),
    pytest.param(("granian", "2"), id="granian"),
]
SLOW_SERVERS = [SERVERS[0], pytest.param(("granian", "2"), id="granian", marks=pytest.mark.tools)]
MOVED = "{} was moved, deleted or replaced: nothing is written until it is back, or the server is restarted."
CUT = "{} was cut short: nothing is written until it is restored."


@pytest.fixture
def server(request: pytest.FixtureRequest, start_server: StartServer) -> LiveServer:
    """Return a server with three contacts, which are in the WAL; it is waitress, unless a test names another."""
    name, workers = getattr(request, "param", ("waitress", "1"))
    if name == "granian":
        pytest.importorskip("granian")
    server = start_server("serve", "--server", name, "--workers", workers)
    server.read_first_key()
    for number in range(3):
        assert write(server, f"kept {number}") == (201, "")
    return server


def write(server: LiveServer, name: str = "x") -> tuple[int, str]:
    """Create a contact; return the status, and the detail of a problem."""
    status, body = send_request(server, "/api/v1/contacts", {"name": name})
    return status, json.loads(body).get("detail", "")


def stored_names(folder: Path) -> list[str]:
    """Return the names of the contacts in the file."""
    return [name for [name] in run_external_sql(f"sqlite:///{folder}/cardfile.db", "SELECT name FROM contacts")]


def wait_for_line(server: LiveServer, text: str) -> None:
    """Wait until the log has a text: a thread reads it from a pipe."""
    deadline = time.monotonic() + 5
    while text not in server.log and time.monotonic() < deadline:
        time.sleep(0.01)


def assert_nothing_is_lost(server: LiveServer, sentence: str) -> None:
    """Assert that writes are refused with the sentence, and that no read shows another file."""
    name = sentence.split(maxsplit=1)[0]
    for _time in range(6):
        assert write(server) == (503, sentence)
        status, body = send_request(server, "/api/v1/contacts")
        assert status == 503 or [row["name"] for row in json.loads(body)] == ["kept 0", "kept 1", "kept 2"]
    status, body = send_request(server, "/readyz")
    assert (status, json.loads(body)["detail"]) == (503, sentence)
    assert send_request(server, "/healthz") == (200, b'{"status":"ok"}')
    wait_for_line(server, name)
    # One for each process.
    assert 1 <= server.log.count(f"{server.folder}: {name}") <= 2
    assert "Traceback" not in server.log


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_moved_file_is_noticed_and_served_again_once_it_is_back(
    server: LiveServer, tmp_path: Path, run_command: RunCommand
) -> None:
    assert send_request(server, "/readyz")[0] == 200
    (tmp_path / "cardfile.db").rename(tmp_path / "away.db")
    assert_nothing_is_lost(server, MOVED.format("cardfile.db"))
    assert not (tmp_path / "cardfile.db").exists()

    (tmp_path / "away.db").rename(tmp_path / "cardfile.db")
    assert {send_request(server, "/readyz")[0] for _time in range(6)} == {200}
    assert {write(server, "back") for _time in range(6)} == {(201, "")}
    assert server.stop(signal.SIGTERM) == 0
    assert "in place and complete again" in server.log
    assert sorted(stored_names(tmp_path)) == ["back"] * 6 + ["kept 0", "kept 1", "kept 2"]
    assert "integrity: ok" in run_command("check").stdout


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_file_that_was_moved_behind_a_link_is_noticed_and_loses_nothing(server: LiveServer, tmp_path: Path) -> None:
    """The next program would look for the WAL beside the moved file."""
    (tmp_path / "away").mkdir()
    (tmp_path / "cardfile.db").rename(tmp_path / "away" / "cardfile.db")
    (tmp_path / "cardfile.db").symlink_to("away/cardfile.db")
    for _time in range(6):
        assert write(server) == (503, MOVED.format("cardfile.db-wal"))
    assert send_request(server, "/readyz")[0] == 503

    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    assert stored_names(tmp_path) == ["kept 0", "kept 1", "kept 2"]


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_file_that_replaces_the_served_one_is_not_touched(
    server: LiveServer, tmp_path: Path, run_command: RunCommand
) -> None:
    path = tmp_path / "cardfile.db"
    run_command("backup", "b.db")
    before = (tmp_path / "b.db").read_bytes()
    (tmp_path / "b.db").rename(path)
    assert_nothing_is_lost(server, MOVED.format("cardfile.db"))

    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    for command in ["serve", "--port", "0"], ["check"], ["keys", "list"]:
        refused = run_command(*command)
        sentence = (
            f"{path}-wal belongs to another database than {path}:"
            " delete it, or put the database back that it belongs to."
        )
        assert (refused.exit_code, refused.stderr) == (1, f"Error: {sentence}\n")
    assert path.read_bytes() == before
    (tmp_path / "cardfile.db-wal").unlink()
    assert "integrity: ok" in run_command("check").stdout


@pytest.mark.parametrize("server", SLOW_SERVERS, indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.tools)])
def test_a_deleted_file_is_not_created_anew(
    server: LiveServer, tmp_path: Path, run_command: RunCommand, number: int
) -> None:
    path = tmp_path / "cardfile.db"
    path.unlink()
    assert_nothing_is_lost(server, MOVED.format("cardfile.db"))
    os.killpg(server.process.pid, number)
    server.process.wait()

    assert not path.exists()
    refused = run_command("serve", "--port", "0")
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"Error: {path} is missing or empty, but was a database, as {path}-wal shows:"
        f" restore a backup, or delete {path}-wal for a new database.\n",
    )


@pytest.mark.parametrize("server", SLOW_SERVERS, indirect=True)
def test_the_content_of_a_deleted_wal_is_saved_when_a_write_notices(
    server: LiveServer, tmp_path: Path, run_command: RunCommand
) -> None:
    (tmp_path / "cardfile.db-wal").unlink()
    assert_nothing_is_lost(server, MOVED.format("cardfile.db-wal"))
    kill(server)

    assert "integrity: ok" in run_command("check").stdout
    assert stored_names(tmp_path) == ["kept 0", "kept 1", "kept 2"]


@pytest.mark.parametrize(
    "damage",
    ["deleted", "cut to 0", *(pytest.param(each, marks=pytest.mark.tools) for each in ("replaced", "cut to a half"))],
)
def test_changes_that_were_lost_with_the_wal_are_missed_at_the_next_start(
    server: LiveServer, tmp_path: Path, run_command: RunCommand, damage: str
) -> None:
    path, wal = tmp_path / "cardfile.db", tmp_path / "cardfile.db-wal"
    if damage.startswith("cut"):
        os.truncate(wal, 0 if damage == "cut to 0" else wal.stat().st_size // 2)
        assert_cut(server, wal.name)
    else:
        wal.unlink()
    if damage == "replaced":
        wal.touch()
        assert write(server) == (503, MOVED.format(wal.name))
    kill(server)

    for command in ["serve", "--port", "0"], ["check"], ["seed"]:
        refused = run_command(*command)
        assert refused.exit_code == 1
        assert re.fullmatch(
            f"Error: {path} lacks the changes [1-3] to 3, because {wal} was removed or cut: put that back,"
            " restore a backup, or accept the loss by `restore` without FILE.\n",
            refused.stderr,
        )
    assert run_command("restore").exit_code == 0
    assert "integrity: ok" in run_command("check").stdout


def kill(server: LiveServer) -> None:
    """Kill all processes of a server at once."""
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


def assert_cut(server: LiveServer, name: str) -> None:
    """Assert that writes are refused because a file was cut, and that it is logged once."""
    for _time in range(3):
        assert write(server) == (503, CUT.format(name))
    assert send_request(server, "/readyz")[0] == 503
    wait_for_line(server, CUT.format(name))
    assert server.log.count(CUT.format(name)) == 1


@pytest.mark.parametrize("share", [0, pytest.param(2, marks=pytest.mark.tools)])
@pytest.mark.parametrize("is_in_wal", [True, pytest.param(False, marks=pytest.mark.tools)])
def test_a_file_that_is_cut_is_not_written(
    start_server: StartServer, tmp_path: Path, run_command: RunCommand, share: int, is_in_wal: bool
) -> None:
    path = tmp_path / "cardfile.db"
    run_command("seed")
    server = start_server()
    server.key = run_command("keys", "create", "a", "--scope", "write").stdout.strip()
    if not is_in_wal:
        run_external_sql(f"sqlite:///{path}", "PRAGMA wal_checkpoint")
    assert write(server) == (201, "")
    before = path.stat().st_size
    os.truncate(path, share and before // share)

    for _time in range(3):
        status, detail = write(server)
        assert (status, detail) in {
            (503, CUT.format("cardfile.db")),
            (503, "The database's file is damaged: restore a backup."),
        }
    assert path.stat().st_size == (share and before // share)
    assert send_request(server, "/readyz")[0] == 503
    kill(server)

    refused = run_command("check")
    assert refused.exit_code == 1
    assert re.search("was cut short|is missing or empty, but was a database|damaged|malformed", refused.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.tools)])
def test_a_file_that_was_cut_while_it_was_served_is_refused_at_the_next_start(
    start_server: StartServer, tmp_path: Path, run_command: RunCommand, number: int
) -> None:
    path = tmp_path / "cardfile.db"
    run_command("seed")
    run_command("backup", "b.db")
    server = start_server()
    server.key = run_command("keys", "create", "a", "--scope", "write").stdout.strip()
    assert write(server) == (201, "")
    os.truncate(path, path.stat().st_size // 2)
    assert write(server) == (503, CUT.format("cardfile.db"))
    os.killpg(server.process.pid, number)
    server.process.wait()

    for command in ["keys", "create", "a"], ["check"]:
        refused = run_command(*command)
        assert (refused.exit_code, refused.stderr) == (1, f"Error: {path} was cut short: restore a backup.\n")
    assert run_command("restore", "b.db").exit_code == 0
    assert "integrity: ok" in run_command("check").stdout


def test_a_database_that_is_whole_again_after_a_cut_is_used(
    server: LiveServer, tmp_path: Path, run_command: RunCommand
) -> None:
    path = tmp_path / "cardfile.db"
    whole = path.read_bytes()
    os.truncate(path, len(whole) // 2)
    assert write(server) == (503, CUT.format("cardfile.db"))
    path.write_bytes(whole)
    kill(server)

    assert run_command("keys", "create", "a").exit_code == 0
    assert not Record(str(path)).was_cut
    assert "integrity: ok" in run_command("check").stdout


def test_the_note_of_a_cut_keeps_what_other_processes_recorded(tmp_path: Path) -> None:
    path, lock = tmp_path / "a.db", tmp_path / "a.db.lock"
    path.touch()
    lock.write_text(f"{1:020} one\n", encoding="ascii")
    record = Record(str(path))
    lock.write_text(f"{4:020} one two\n", encoding="ascii")
    for _time in range(2):
        record.note_cut()

    found = Record(str(path))
    assert (found.seq, found.datasets, found.was_cut) == (4, ["one", "two"], True)


def test_an_empty_file_that_was_a_database_is_no_new_one(run_command: RunCommand, tmp_path: Path) -> None:
    path = tmp_path / "cardfile.db"
    run_command("backup", "b.db") if run_command("seed").exit_code == 0 else None
    os.truncate(path, 0)

    refused = run_command("keys", "create", "a")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"Error: {path} is missing or empty, but was a database, as {path}.lock shows:"
        f" restore a backup, or delete {path}.lock for a new database.\n"
    )
    assert run_command("restore", "b.db").exit_code == 0
    assert "integrity: ok" in run_command("check").stdout


def test_a_database_that_was_put_there_by_hand_is_used(run_command: RunCommand, tmp_path: Path) -> None:
    path = tmp_path / "cardfile.db"
    run_command("seed", "--companies", "1")
    shutil.copy(path, tmp_path / "old.db")
    run_command("backup", "b.db")
    run_command("seed", "--companies", "3", "--seed", "2")

    for name in "old.db", "b.db", "old.db":
        shutil.copy(tmp_path / name, path)
        assert run_command("keys", "create", name).exit_code == 0
    path.unlink()
    assert run_command("seed", "--companies", "1").exit_code == 0

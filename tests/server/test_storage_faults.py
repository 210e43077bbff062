"""Faults of the storage that only the operator can fix: a clear response, a line in the log, and no traceback."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from tests.commands.test_read_only import obey_file_modes
from tests.conftest import ROOT, LiveServer, run_external_sql, send_request

RunCommand = Callable[..., Result]
# The servers and their numbers of processes.
SERVERS = {"waitress": 1, "granian": 2}
WRITE_TO_A_READ_ONLY_FILE = """
import os, sys
from auth import create_key
from database import close_database
from database.connection import write_transaction
from service import create_app
from settings import load_settings

app = create_app(load_settings({"database_url": "sqlite:///cardfile.db"}, {}))
# The thread that stores the last use of keys could keep a connection that can't write.
app.extensions["last_use"].note = lambda key_id: None
with app.app_context(), write_transaction():
    headers = {"Authorization": f"Bearer {create_key('a', 'write')[1]}"}
with app.app_context():
    close_database()
for mode in 0o444, 0o600:
    for name in filter(os.path.exists, ("cardfile.db", "cardfile.db-wal", "cardfile.db-shm")):
        os.chmod(name, mode)
    response = app.test_client().post("/api/v1/contacts", json={"name": "x"}, headers=headers)
    print(response.status_code, response.json.get("detail"))
app.extensions["last_use"].stop()
"""


@pytest.fixture
def server(start_server: Callable[..., LiveServer]) -> LiveServer:
    server = start_server("serve", "--demo")
    server.read_first_key()
    return server


def test_a_limit_of_file_size_is_507_and_nothing_is_lost(server: LiveServer) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1_200_000, -1))
    contact = {"name": "x", "notes": "y" * 9000}
    answers = [send_request(server, "/api/v1/contacts", contact)]
    while answers[-1][0] == 201 and len(answers) < 100:
        answers.append(send_request(server, "/api/v1/contacts", contact))
    assert (answers[0][0], answers[-1][0]) == (201, 507)
    assert json.loads(answers[-1][1])["detail"] == "The disk that holds the database is full, or a quota is used up."
    assert send_request(server, "/readyz")[0] == 200

    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
    answers.append(send_request(server, "/api/v1/contacts", {"name": "x"}))
    created = [status for status, _body in answers].count(201)
    sql = "SELECT count(*) FROM contacts WHERE name = 'x'"
    assert run_external_sql(f"sqlite:///{server.folder}/cardfile.db", sql) == [(created,)]
    assert answers[-1][0] == 201
    assert "Traceback" not in server.log


class SmallDiskServer(LiveServer):
    """A server on a disk of its own, of 4 MiB, which a user namespace mounts: that needs no root."""

    mount = ("unshare", "-Urm", "sh", "-c", 'mount -t tmpfs -o size=4m none . && cd "$PWD" && exec "$@"', "sh")
    program = (*mount, *LiveServer.program)


def fill(disk: Path) -> None:
    """Write to another program's file until nothing fits on the disk any more."""
    with pytest.raises(OSError, match="No space left"), (disk / "other").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.tools
@pytest.mark.parametrize("name", SERVERS)
def test_reads_go_on_while_the_disk_is_full_and_writes_as_soon_as_there_is_room(tmp_path: Path, name: str) -> None:
    if subprocess.run([*SmallDiskServer.mount, "true"], cwd=tmp_path, check=False).returncode:
        pytest.skip("A user namespace can't mount a disk here: allow unprivileged user namespaces.")
    options = ("--server", name, "--workers", str(SERVERS[name]))
    # Temporary files are on the same disk.
    with closing(SmallDiskServer(tmp_path, "serve", "--demo", *options, TMPDIR=str(tmp_path))) as server:
        server.read_first_key()
        contact, statuses = {"name": "x", "notes": "y" * 5000}, [send_request(server)[0]]
        # The working folder of the process is on that disk.
        disk = Path(f"/proc/{server.process.pid}/cwd")
        for _time in range(2):
            fill(disk)
            refused = [send_request(server, "/api/v1/contacts", contact)[0] for _number in range(10)]
            assert set(refused) <= {201, 507} and refused[-1] == 507
            # Whatever a refused write has freed is used by others at once.
            fill(disk)
            paths = ("/api/v1/contacts?q=an&limit=20&include=company", "/api/v1/contacts", "/api/v1/changes", "/readyz")
            assert [send_request(server, path)[0] for path in paths * 5] == [200] * 20
            (disk / "other").unlink()
            accepted = [send_request(server, "/api/v1/contacts", contact)[0] for _number in range(5)]
            assert accepted == [201] * 5
            statuses += refused + accepted
        rows = json.loads(send_request(server, "/api/v1/contacts")[1])
        assert [row["name"] for row in rows].count("x") == statuses.count(201)
        assert server.stop(signal.SIGTERM) == 0
    assert "Traceback" not in server.log


def test_a_file_that_is_made_read_only_is_503_until_it_can_be_written_again(tmp_path: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-c", WRITE_TO_A_READ_ONLY_FILE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=obey_file_modes,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert completed.stdout.splitlines() == [
        "503 The database's file, its -wal and -shm or its folder can't be written: see owner and mode.",
        "201 None",
    ]
    assert "Traceback" not in completed.stderr


@pytest.mark.parametrize("first_page", [0, 20])
def test_a_damaged_file_is_503_and_restored_while_it_is_served(
    server: LiveServer, tmp_path: Path, run_command: RunCommand, first_page: int
) -> None:
    run_command("backup", "b.db")
    run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", "PRAGMA wal_checkpoint")
    with (tmp_path / "cardfile.db").open("r+b") as file:
        for page in range(first_page, 300, 3):
            file.seek(page * 4096)
            file.write(os.urandom(4096))

    status, body = send_request(server, "/api/v1/conversations?limit=1000&include=company")
    assert (status, json.loads(body)["detail"]) == (503, "The database's file is damaged: restore a backup.")
    assert "Traceback" not in server.log
    restored = run_command("restore", "b.db")
    assert restored.exit_code == 0, restored.stderr

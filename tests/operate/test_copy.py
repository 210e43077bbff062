"""`copy`: a database becomes another one, on SQLite or PostgreSQL, with the same rows, keys and changes."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from api.key_uses import LastUse
from database import close_database
from database.schema import UnusableDatabase
from operate import copy
from service import create_app
from settings import load_settings
from tests.conftest import ROOT, client_with_key, run_external_sql

RunCommand = Callable[..., Result]
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.tools)
LISTS = ("companies", "contacts", "conversations", "changes", "keys", "companies?q=odd")
COUNT_TABLES = {
    "sqlite": "SELECT count(*) FROM sqlite_master",
    "postgresql": "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
}
# Kills the process that copies the first argument to the second at a step: as it begins, or has come to its end.
KILL_AT = """
import os, signal, sys
from sqlalchemy import Connection, make_url
from database import db
from operate import copy
from service import create_app
from settings import load_settings

source, target, step, moment = sys.argv[1:]
owner = Connection if step == "commit" else copy
function = getattr(owner, step)

def kill(*arguments):
    if moment == "after":
        function(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

with create_app(load_settings({"database_url": source}, {})).app_context():
    setattr(owner, step, kill)
    copy.copy_database(db.engine, make_url(target))
"""


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database of the kind that the test names."""
    if getattr(request, "param", "sqlite") == "postgresql":
        return str(request.getfixturevalue("new_database")())
    return f"sqlite:///{tmp_path}/copy.db"


@pytest.fixture
def source(
    run_command: RunCommand, database: str, app: Flask, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Return the URL of a database with every kind of row and change, in which nothing happens by itself."""
    monkeypatch.setattr(LastUse, "note", lambda *_arguments: None)
    run_command("seed", "--companies", "20", "--database", database)
    values = {"name": "Zoë \U0001f600", "dealValue": 999999999999.99, "notes": '"\\/\t\u2028\x7f'}
    assert admin.put("/api/v1/companies/odd", json=values).status_code == 201
    admin.patch("/api/v1/companies/odd", json={"dealValue": 0.1, "website": "https://odd.example"})
    admin.post("/api/v1/contacts", json={"companyId": "odd", "name": "Ann"}, headers={"Idempotency-Key": "once"})
    _first, gone = (row["id"] for row in admin.get("/api/v1/companies?limit=2").json)
    assert admin.delete(f"/api/v1/companies/{gone}").status_code == 204
    row = admin.post("/api/v1/conversations", json={"tags": ["a b", "ü"], "visitorIp": "::1"}).json
    admin.post(f"/api/v1/conversations/{row['id']}/forget")
    key = admin.post("/api/v1/keys", json={"name": "rolled", "scope": "read"}).json
    admin.post(f"/api/v1/keys/{key['id']}/roll")
    return database


def responses(client: FlaskClient, number: int) -> dict[str, bytes]:
    """Return the bytes of every list, and of the replay of a request."""
    paths = {path: client.get(f"/api/v1/{path}") for path in LISTS}
    assert {response.headers["Dataset-Version"] for response in paths.values()} == {str(number)}
    again = client.post(
        "/api/v1/contacts", json={"companyId": "odd", "name": "Ann"}, headers={"Idempotency-Key": "once"}
    )
    assert again.headers["Idempotent-Replayed"] == "true"
    return {path: response.data for path, response in paths.items()} | {"again": again.data}


@pytest.mark.databases("sqlite", "postgresql")
@pytest.mark.parametrize("target", ["sqlite", POSTGRESQL], indirect=True)
def test_a_copy_gives_the_same_responses_to_the_same_keys_in_a_history_of_its_own(
    run_command: RunCommand, admin: FlaskClient, source: str, target: str
) -> None:
    [(last,)] = run_external_sql(source, "SELECT max(seq) FROM changes")
    run_external_sql(source, "UPDATE dataset SET oldest_version = 1")
    session = "INSERT INTO sessions (sha256, kind, expires_at) VALUES ('a', 'session', '2999-01-01T00:00:00Z')"
    run_external_sql(source, session)
    completed = run_command("copy", "--from", source, "--to", target)

    assert (completed.exit_code, completed.stdout) == (0, "")
    copied = "SELECT oldest_version, (SELECT count(*) FROM sessions) FROM dataset"
    assert run_external_sql(target, copied) == [(1, 0)]
    counts, dataset = completed.stderr.splitlines()[-2:]
    assert counts.startswith("Copied and compared ")
    for part in f"{last} changes", "2 api_keys", "1 rolled_keys", "1 replays", "20 companies":
        assert part in counts
    checked = run_command("check", "--database", target)
    assert (checked.exit_code, checked.stderr) == (0, "")

    app = create_app(load_settings({"database_url": target}, {}))
    client = client_with_key(app, admin.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer "))
    expected = responses(admin, last)
    assert b'"forgotten"' in expected["changes"] and b"odd" in expected["companies?q=odd"]
    assert responses(client, last) == expected
    ids = [each.get("/api/v1/companies").headers["Dataset-Id"] for each in (admin, client)]
    assert ids[0] != ids[1] and dataset == f"The Dataset-Id of the copy is {ids[1]}."

    # The next change has the next number, and the triggers log and guard again.
    written = client.post("/api/v1/companies", json=[{"name": "Next"}, {"name": "Last"}])
    assert (written.status_code, written.headers["Dataset-Version"]) == (201, str(last + 2))
    assert [row["name"] for row in client.get("/api/v1/companies?q=Next").json] == ["Next"]
    assert client.patch("/api/v1/companies/odd", json={"name": "Even"}).headers["Dataset-Version"] == str(last + 3)
    with pytest.raises(Exception, match=r"only ever added to|returned non-zero"):
        run_external_sql(target, "UPDATE changes SET action = 'created' WHERE seq = 1")
    app.extensions["last_use"].stop()
    with app.app_context():
        close_database()


@pytest.mark.parametrize(
    ("setup", "target", "sentence"),
    [
        ("keys create b --database sqlite:///t.db", "sqlite:///t.db", "{folder}/t.db isn't empty: name a new"),
        ("keys list", "sqlite:///cardfile.db", "{folder}/cardfile.db isn't empty: name a new"),
        ("other", "sqlite:///t.db", "This database has tables but is not Cardfile's: name another."),
        ("garbage", "sqlite:///t.db", "Nothing was copied to {folder}/t.db: file is not a database."),
        ("", "sqlite:///none/t.db", "Nothing was copied to {folder}/none/t.db: unable to open database file."),
        ("", "sqlite://", "Invalid value for '--to': It must name a file, as in ./cardfile.db"),
        ("", "mysql://me:secret@host/db", "Invalid value for '--to': It must name a file"),
    ],
)
def test_a_target_that_is_not_empty_is_refused_in_one_sentence_and_stays_as_it_was(
    run_command: RunCommand, tmp_path: Path, setup: str, target: str, sentence: str
) -> None:
    run_command("keys", "create", "a")
    file = tmp_path / "t.db"
    if setup == "other":
        run_external_sql(f"sqlite:///{file}", "CREATE TABLE bookmarks (url)")
    elif setup == "garbage":
        file.write_bytes(b"x" * 5000)
    elif setup:
        assert run_command(*setup.split()).exit_code == 0
    before = file.read_bytes()[100:] if file.exists() else b""

    refused = run_command("copy", "--from", "sqlite:///cardfile.db", "--to", target)
    assert refused.exit_code != 0
    assert refused.stderr.splitlines()[-1].startswith(f"Error: {sentence.format(folder=tmp_path)}")
    assert "secret" not in refused.stderr
    # The header says that it is in WAL mode now.
    assert (file.read_bytes()[100:] if file.exists() else b"") == before


def test_the_error_for_a_missing_driver_has_the_install_command(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_command("keys", "create", "a")
    monkeypatch.setitem(sys.modules, "psycopg", None)

    refused = run_command("copy", "--from", "sqlite:///cardfile.db", "--to", "postgresql://me@127.0.0.1/cards")
    assert refused.exit_code == 1
    assert "pip install -r requirements-postgresql.txt" in refused.stderr


@pytest.mark.tools
def test_the_error_for_an_unreachable_target_hides_the_password(run_command: RunCommand) -> None:
    pytest.importorskip("psycopg")
    run_command("keys", "create", "a")
    url = "postgresql://me:secret@127.0.0.1:1/cards"

    refused = run_command("copy", "--from", "sqlite:///cardfile.db", "--to", url)
    assert refused.exit_code == 1
    assert "Nothing was copied to postgresql+psycopg://me:***@127.0.0.1:1/cards: " in refused.stderr
    assert "secret" not in refused.stderr


@pytest.mark.databases("sqlite")
def test_a_database_with_a_broken_reference_is_not_copied(run_command: RunCommand, source: str, target: str) -> None:
    # SQLite's shell enforces no foreign keys.
    run_external_sql(source, "UPDATE contacts SET company_id = 'gone' WHERE rowid = 1")
    refused = run_command("copy", "--from", source, "--to", target)
    sentence = "Error: Nothing was copied: row 1 of contacts refers to a row of companies that is missing."
    assert refused.stderr.splitlines()[-1] == sentence


def fail_with(error: BaseException) -> Callable[..., None]:
    def fail(*_arguments: object) -> None:
        raise error

    return fail


def with_defect(name: str, defect: Callable[[list[dict[str, Any]]], None]) -> Callable[..., int]:
    """Return an insert_rows() that changes the rows of one table before it inserts them."""

    def insert_rows(table: Any, reader: Any, writer: Any) -> int:
        rows = [dict(row) for row in copy.find_rows(table, reader).mappings()]
        if table.name == name:
            defect(rows)
        if rows:
            writer.execute(table.insert(), rows)
        return len(rows)

    return insert_rows


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("target", ["sqlite", POSTGRESQL], indirect=True)
def test_a_failure_at_any_step_leaves_the_target_empty_and_the_next_copy_succeeds(
    run_command: RunCommand, source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OperationalError("INSERT", {}, Exception("database or disk is full"))
    faults: list[tuple[str, Callable[..., Any], str]] = [
        ("run_migrations", fail_with(full), "database or disk is full."),
        ("insert_rows", fail_with(full), "database or disk is full."),
        ("insert_rows", fail_with(KeyboardInterrupt()), "Aborted!"),
        ("insert_rows", with_defect("changes", lambda rows: rows[0].update(data="{}")), "row 1 of changes differs."),
        ("insert_rows", with_defect("replays", lambda rows: rows.pop() and None), "row 1 of replays differs."),
        ("insert_rows", with_defect("contacts", lambda rows: rows[2].update(notes="x")), "row 3 of contacts differs."),
        ("insert_rows", with_defect("contacts", list.reverse), "row 1 of contacts differs."),
        ("compare_databases", fail_with(UnusableDatabase("No.")), "Error: No."),
    ]
    for name, fault, sentence in faults:
        with monkeypatch.context() as patch:
            patch.setattr(copy, name, fault)
            failed = run_command("copy", "--from", source, "--to", target)
        assert failed.exit_code == 1, name
        assert failed.stderr.splitlines()[-1].endswith(sentence)
        assert run_external_sql(target, COUNT_TABLES[make_url(target).get_backend_name()]) == [(0,)]

    assert run_command("copy", "--from", source, "--to", target).exit_code == 0


@pytest.mark.tools
@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("target", ["sqlite", POSTGRESQL], indirect=True)
def test_a_killed_copy_leaves_the_target_empty_or_whole(run_command: RunCommand, source: str, target: str) -> None:
    def kill_at(step: str, moment: str) -> None:
        words = [sys.executable, "-c", KILL_AT, source, target, step, moment]
        assert subprocess.run(words, cwd=ROOT, check=False).returncode == -signal.SIGKILL

    count = COUNT_TABLES[make_url(target).get_backend_name()]
    for step in "run_migrations", "insert_rows", "compare_databases":
        kill_at(step, "after")
        assert wait_for(lambda: run_external_sql(target, count) == [(0,)]), step
    kill_at("commit", "before")
    assert wait_for(lambda: run_external_sql(target, count) == [(0,)])
    kill_at("commit", "after")
    assert "integrity: ok" in run_command("check", "--database", target).stdout
    last = "SELECT max(seq) FROM changes"
    assert run_external_sql(target, last) == run_external_sql(source, last)


def wait_for(condition: Callable[[], bool]) -> bool:
    """Tell whether a condition becomes true: PostgreSQL rolls back once it notices that the client is gone."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


@pytest.mark.databases("sqlite")
def test_rows_written_during_the_copy_are_not_copied(
    run_command: RunCommand, source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_external_sql(source, "SELECT max(seq) FROM changes")
    insert_rows = copy.insert_rows

    def insert_then_write(*arguments: Any) -> int:
        count = insert_rows(*arguments)
        run_external_sql(source, "UPDATE contacts SET title = 'later'")
        return count

    monkeypatch.setattr(copy, "insert_rows", insert_then_write)
    assert run_command("copy", "--from", source, "--to", target).exit_code == 0
    assert run_external_sql(target, "SELECT max(seq) FROM changes") == before
    assert run_external_sql(target, "SELECT count(*) FROM contacts WHERE title = 'later'") == [(0,)]

"""PostgreSQL only: schema, commands, snapshots, locks and lost connections."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from database import Base, close_database, db
from database.connection import begin_snapshot, connection
from database.postgresql import BEGIN_WRITING, LOCK, schema_of
from database.schema import UnusableDatabase
from service import create_app
from settings import load_settings
from tests.conftest import EXAMPLES, ROOT, CreateRow, LiveServer, Query, run_external_sql
from tests.core.test_migrations import OPEN_DATABASE, SCHEMA_0004

pytestmark = [pytest.mark.databases("postgresql"), pytest.mark.tools]

RunCommand = Callable[..., Result]


def connect(database: str) -> Any:
    """Return a connection of another program."""
    psycopg = pytest.importorskip("psycopg")
    return psycopg.connect(database.replace("+psycopg", ""))


def open_database(url: str) -> None:
    create_app(load_settings({"database_url": url}, {}))


def test_a_new_database_has_the_schema_of_the_models(app: Flask) -> None:
    with app.app_context():
        # A room's function, imported here because the core's tests run without rooms.
        from operate.check import empty_database

        with empty_database(db.engine) as connection:
            Base.metadata.create_all(connection)
            declared = schema_of(connection)
        with db.engine.connect() as connection:
            migrated = schema_of(connection)

    assert len(declared) > 120
    own = {name for name in migrated if migrated[name].startswith(("CREATE TRIGGER", " BEGIN")) or "alembic" in name}
    assert {name: sql for name, sql in migrated.items() if name not in own} == declared


def test_a_new_database_has_exactly_the_first_schema(first_revision: None, new_database: Callable[[], str]) -> None:
    app = create_app(load_settings({"database_url": new_database()}, {}))
    with app.app_context():
        with db.engine.connect() as connection:
            migrated = schema_of(connection)
        close_database()
    assert migrated == json.loads(SCHEMA_0004.read_text(encoding="utf-8"))["postgresql"]


def test_several_processes_can_create_the_schema_at_once(new_database: Callable[[], str]) -> None:
    url = new_database()
    processes = [subprocess.Popen([sys.executable, "-c", OPEN_DATABASE, url], cwd=ROOT) for _number in range(4)]

    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]
    assert run_external_sql(url, "SELECT count(*) FROM companies") == [(0,)]


def test_the_database_of_another_program_is_refused_and_unchanged(new_database: Callable[[], str]) -> None:
    url = new_database()
    run_external_sql(url, "CREATE TABLE bookmarks (url text)")

    with pytest.raises(UnusableDatabase, match="is not Cardfile's"):
        open_database(url)
    assert run_external_sql(url, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname !~ '^(pg|sql)_'") == [
        ("bookmarks",)
    ]


def test_the_error_for_an_unreachable_server_hides_the_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(
        UnusableDatabase, match=r"postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/cards can't be opened: "
    ) as refused:
        open_database("postgresql://me:secret@127.0.0.1:1/cards")
    assert "secret" not in str(refused.value)


def test_the_error_for_an_invalid_url_hides_the_password(run_command: RunCommand) -> None:
    refused = run_command("check", "--database", "postgresql://me:secret@server")

    assert refused.exit_code == 1
    assert "must name a file" in refused.stderr and "secret" not in refused.stderr


def test_the_error_for_a_missing_driver_has_the_install_command(
    run_command: RunCommand, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "psycopg", None)
        refused = run_command("check", "--database", database)
    assert refused.exit_code == 1
    assert "pip install -r requirements-postgresql.txt" in refused.stderr


def test_the_commands_work_on_postgresql(run_command: RunCommand, database: str, app: Flask) -> None:
    assert run_command("keys", "create", "a", "--database", database).stdout.startswith("cfk_")
    assert len(run_command("keys", "list", "--database", database).stdout.splitlines()) == 2
    checked = run_command("check", "--database", database)
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert "version: PostgreSQL" in checked.stdout
    assert "pg_dump" in run_command("backup", "copy.db", "--database", database).stderr


def test_check_reports_a_missing_or_disabled_trigger_or_index(
    run_command: RunCommand, new_database: Callable[[], str]
) -> None:
    url = new_database()
    open_database(url)
    run_external_sql(url, "DROP TRIGGER contacts_log_updated ON contacts")
    run_external_sql(url, "ALTER TABLE companies DISABLE TRIGGER companies_log_updated")
    run_external_sql(url, "DROP INDEX ix_contacts_email_created_at_id")

    errors = [line for line in run_command("check", "--database", url).stderr.splitlines() if line.startswith("fault")]
    assert sorted(errors) == [
        "fault: companies_log_updated is missing or changed",
        "fault: contacts_log_updated is missing or changed",
        "fault: ix_contacts_email_created_at_id is missing or changed",
    ]


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_exported_rows_of_sqlite_are_the_same_after_an_import_into_postgresql(
    run_command: RunCommand, tmp_path: Path, database: str, form: str
) -> None:
    run_command("seed", "--companies", "20")
    run_command("seed", "--from", str(EXAMPLES))
    run_command("export", "first", "--format", form)
    assert run_command("import", "first", "--database", database).exit_code == 0
    run_command("export", "second", "--format", form, "--database", database)

    for name in "companies", "contacts", "conversations":
        assert (tmp_path / f"first/{name}.{form}").read_bytes() == (tmp_path / f"second/{name}.{form}").read_bytes()
    again = run_command("import", "first", "--database", database)
    assert again.exit_code == 0
    count = sum(
        len((tmp_path / f"first/{name}.{form}").read_text(encoding="utf-8").splitlines())
        for name in ("companies", "contacts")
    )
    assert run_external_sql(database, "SELECT count(*) FROM changes WHERE resource <> 'conversations'") == [
        (count - (2 if form == "csv" else 0),)
    ]


def test_a_file_with_an_invalid_line_stores_nothing(run_command: RunCommand, tmp_path: Path, database: str) -> None:
    (tmp_path / "contacts.ndjson").write_text('{"name": "a"}\n{"name": "b", "companyId": "x"}\n', encoding="utf-8")

    refused = run_command("import", "contacts.ndjson", "--database", database)
    assert "line 2: companyId: Is not the id of a company." in refused.stderr
    assert run_external_sql(database, "SELECT count(*) FROM changes") == [(0,)]


def test_the_longest_website_fits_into_the_index(writer: FlaskClient) -> None:
    random = Random(1)
    # Letters of three bytes each, at random, so that they can't be compressed.
    website = "https://a.com/" + "".join(chr(random.randrange(0x4E00, 0x9FFF)) for _letter in range(678))
    body = {"id": "x" * 64, "name": "a", "website": website}

    assert writer.post("/api/v1/companies?matchOn=id", json=body).status_code == 201
    assert writer.post("/api/v1/companies", json={"name": "a", "website": f"{website}\u4e00"}).status_code == 422


def last_change() -> int:
    [[seq]] = connection().execute("SELECT max(seq) FROM changes").fetchall()
    return int(seq)


def test_a_snapshot_does_not_include_later_writes(app: Flask, database: str, create_row: CreateRow) -> None:
    create_row("contacts", id="x")
    with app.app_context():
        begin_snapshot()
        seen = [last_change()]
        run_external_sql(database, "UPDATE contacts SET name = 'b'")
        seen.append(last_change())
        assert connection().execute("SELECT name FROM contacts").fetchone() == ("Acme",)
        connection().end()
        seen.append(last_change())

    assert seen == [1, 1, 2]


def test_a_write_waits_for_the_transaction_of_another_program(
    database: str, writer: FlaskClient, create_row: CreateRow
) -> None:
    create_row("contacts", id="x")
    with connect(database) as other:
        other.execute("UPDATE contacts SET name = 'theirs'")
        responses: list[Any] = []
        writing = threading.Thread(
            target=lambda: responses.append(writer.patch("/api/v1/contacts/x", json={"title": "ours"}))
        )
        writing.start()
        time.sleep(0.3)
        assert responses == []
        other.commit()
        writing.join()

    assert (responses[0].json["name"], responses[0].headers["Dataset-Version"]) == ("theirs", "3")


def test_a_rolled_back_transaction_leaves_no_gap_in_the_change_log(
    database: str, query: Query, create_row: CreateRow
) -> None:
    create_row("contacts", id="x")
    with connect(database) as other:
        other.execute("UPDATE contacts SET name = 'theirs'")
        other.rollback()
    create_row("contacts", id="y")

    assert query("SELECT seq, row_id FROM changes ORDER BY seq") == [(1, "x"), (2, "y")]


def test_a_write_in_an_outdated_snapshot_is_refused(database: str, create_row: CreateRow) -> None:
    from psycopg.errors import SerializationFailure

    create_row("contacts", id="x")
    with connect(database) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1 FROM contacts")
        create_row("contacts", id="y")
        with pytest.raises(SerializationFailure, match="begin it again"):
            other.execute("UPDATE contacts SET name = 'theirs' WHERE id = 'x'")
        other.rollback()


def test_a_lock_timeout_is_503(database: str, app: Flask, writer: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "database.postgresql.BEGIN_WRITING", (BEGIN_WRITING[0], "SET LOCAL lock_timeout = '50ms'", LOCK)
    )
    with connect(database) as other:
        other.execute(LOCK)
        response = writer.post("/api/v1/contacts", json={"name": "a"})

    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert writer.post("/api/v1/contacts", json={"name": "a"}).status_code == 201


def test_a_lost_connection_is_503_and_is_replaced(
    app: Flask, reader: FlaskClient, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would notice the loss first, and replace the connection.
    monkeypatch.setattr(app.extensions["last_use"], "note", lambda _key_id: None)
    assert reader.get("/api/v1/contacts").status_code == 200
    run_external_sql(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )

    responses = [reader.get("/api/v1/contacts") for _time in range(10)]
    assert {response.status_code for response in responses} == {200, 503}
    assert responses[-1].status_code == 200


def test_serve_does_not_print_the_password(start_server: Callable[..., LiveServer], database: str) -> None:
    server = start_server("serve", "--demo", "--database", database.replace("postgres:@", "postgres:secret@"))

    assert "(PostgreSQL " in server.first_line and "secret" not in server.first_line
    assert "curl" in server.read_first_key()

"""At start, the schema of a database is created, upgraded or refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, make_url, select
from sqlalchemy.exc import OperationalError

from database import Base, backend, close_database, db
from database.backend import backend_of
from database.schema import UnusableDatabase, revisions
from database.sqlite import driver as sqlite
from database.sqlite import engine_of
from models import ApiKey, Change
from schemas import RESOURCES
from seed import Demo
from service import create_app
from settings import load_settings
from tests.conftest import ROOT, CreateRow, Query

NEXT_REVISION = '''
"""Give companies a colour."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{newest}"


def upgrade() -> None:
    query = "SELECT sql FROM sqlite_master WHERE type IN ('trigger', 'index') AND tbl_name = 'companies' AND sql > ''"
    statements = op.get_bind().exec_driver_sql(query).scalars().all()
    with op.batch_alter_table("companies", recreate="always") as companies:
        companies.add_column(sa.Column("colour", sa.String(16)))
    {more}
    for sql in statements:
        # Alembic recreates the indexes of columns, not those of expressions.
        op.execute(sql.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS"))
'''


SCHEMA_0004 = ROOT / "tests" / "core" / "schema_0004.json"
# The statements by which commits before the first release created the schema, by database and revision.
UNRELEASED = json.loads((ROOT / "tests" / "core" / "schemas_before_0004.json").read_text(encoding="utf-8"))
REVISIONS = [
    pytest.param(kind, old, marks=[pytest.mark.tools] if kind == "postgresql" else [])
    for kind in ("sqlite", "postgresql")
    for old in ("0001", "0002", "0003", *revisions())
    if old in revisions() or f"{kind} {old}" in UNRELEASED
]
WEBHOOK = """
INSERT INTO webhooks
(id, url, events, active, delivered, failures, secret, dataset, revision, replays, created_at, updated_at)
VALUES ('w', 'https://a.example', '["*"]', 1, 3, 0, 's', 'd', 0, 0, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')
"""
LOCKED = "another process is writing to it, perhaps to upgrade it: try again when that has ended"
AHEAD = datetime(2099, 1, 1, tzinfo=UTC)
OPEN_DATABASE = (
    "import sys; from service import create_app; from settings import load_settings;"
    "create_app(load_settings({'database_url': sys.argv[1]}, {}))"
)


def open_database(url: str) -> Flask:
    return create_app(load_settings({"database_url": url}, {}))


@contextmanager
def open_engine(url: str) -> Iterator[Engine]:
    """Open a database as the app does, and give its engine."""
    with open_database(url).app_context():
        yield db.engine
        db.engine.dispose()


def schema_of(path: str) -> dict[str, list[str]]:
    """Return the sorted lines of the definition of every table and index, by its name."""
    with sqlite.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type <> 'trigger'")
        definitions = {
            # A column that was added later is in the line of the one before it.
            name: sorted(part.strip() for part in re.split(r",?\s*\n|, ", sql))
            for name, sql in rows
        }
    connection.close()
    return definitions


pytestmark = pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")


@pytest.fixture
def add_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that adds a revision to a copy of the migrations."""

    def add(more: str = "") -> None:
        folder = tmp_path / "later"
        shutil.copytree(ROOT / "migrations", folder)
        revision = NEXT_REVISION.strip().format(newest=revisions()[-1], more=more)
        (folder / "versions" / "9999_colour.py").write_text(revision, encoding="utf-8")
        monkeypatch.setattr("database.schema.MIGRATIONS", folder)

    return add


def test_a_new_database_has_the_schema_of_the_models(app: Flask, database: str, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/declared.db")
    Base.metadata.create_all(engine)
    engine.dispose()

    migrated = schema_of(database.removeprefix("sqlite:///"))
    assert migrated.pop("alembic_version")
    assert {name: lines for name, lines in migrated.items() if "_search" not in name} == schema_of(
        f"{tmp_path}/declared.db"
    )


def test_an_older_database_is_copied_and_upgraded(
    app: Flask, database: str, add_revision, create_row: CreateRow, query: Query
) -> None:
    company = create_row("companies")
    create_row("contacts", companyId=company)
    before = revisions()[-1]
    add_revision()

    open_database(database)

    assert query("SELECT version_num FROM alembic_version") == [("9999",)]
    assert query("SELECT id, colour FROM companies") == [(company, None)]
    # Rebuilding the companies table must not clear the references to it.
    assert query("SELECT company_id FROM contacts") == [(company,)]
    create_row("companies", id="new")
    assert query("SELECT row_id FROM changes WHERE seq = 3") == [("new",)]
    path = Path(database.removeprefix("sqlite:///"))
    [copy] = path.parent.glob(f"cardfile.db.{before}-*.bak")
    with sqlite.connect(copy) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (before,)
        assert connection.execute("SELECT id FROM companies").fetchone() == (company,)
    connection.close()


@pytest.mark.parametrize(("kind", "old"), REVISIONS)
def test_an_upgrade_from_any_revision_keeps_all_rows_and_changes(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    end_migrations: Callable[[str], None],
    tmp_path: Path,
    kind: str,
    old: str,
) -> None:
    url = f"sqlite:///{tmp_path}/cardfile.db"
    if kind == "postgresql":
        url = request.getfixturevalue("new_database")()
    end_migrations(old)
    with open_engine(url) if old in revisions() else open_unreleased(url, UNRELEASED[f"{kind} {old}"]) as engine:
        with engine.begin() as writer:
            insert_demo(writer, companies=8)
            writer.execute(insert(ApiKey), {"name": "old", "scope": "read", "prefix": "cfk_1234", "sha256": "0" * 64})
            writer.exec_driver_sql("UPDATE contacts SET notes = NULL WHERE is_primary")
            writer.exec_driver_sql("DELETE FROM companies WHERE position > 0")
        before = content(engine)
    monkeypatch.undo()

    with open_engine(url) as engine:
        after = content(engine)
        number = len(after["changes"]) + 1
        ahead = {"seq": number, "resource": "contacts", "row_id": "a", "action": "deleted", "at": AHEAD}
        with engine.begin() as writer:
            writer.execute(insert(Change), ahead)
            for name in RESOURCES:
                writer.exec_driver_sql(f"DELETE FROM {name}")
            times = set(writer.scalars(select(Change.at).where(Change.seq > number)))
    assert len(before["changes"]) > 50
    assert {name: rows for name, rows in after.items() if name in before} == before
    assert times == {AHEAD}
    copies = list(tmp_path.glob(f"cardfile.db.{old}-*.bak"))
    assert len(copies) == (kind == "sqlite" and old != revisions()[-1])
    for copy in copies:
        engine = engine_of(copy)
        assert content(engine) == before
        engine.dispose()


def insert_demo(writer: Connection, companies: int) -> None:
    """Insert demo rows into the tables that the schema has."""
    tables = inspect(writer).get_table_names()
    for name, row in Demo(42, "2026-01-01").rows(companies=companies):
        if name in tables:
            writer.execute(insert(Base.metadata.tables[name]), row)


def content(engine: Engine) -> dict[str, list[Any]]:
    """Return all rows by table, in their order, without internal numbers and what an upgrade writes."""
    names = set(inspect(engine).get_table_names()) & set(Base.metadata.tables) - {"dataset"}
    with engine.connect() as reader:
        found = {name: reader.exec_driver_sql(f"SELECT * FROM {name} ORDER BY 1").mappings() for name in names}
        return {name: [{**row, "number": None} for row in rows] for name, rows in found.items()}


@contextmanager
def open_unreleased(url: str, statements: list[str]) -> Iterator[Engine]:
    """Create a database of an unreleased schema, and give its engine."""
    kind = backend_of(make_url(url))
    engine = create_engine(url, **kind.ENGINE_OPTIONS)
    event.listen(engine, "connect", kind.prepare)
    with engine.begin() as connection:
        for sql in statements:
            connection.exec_driver_sql(sql)
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    ("old", "statements"),
    [
        pytest.param("0005", ["DROP TABLE rolled_keys", "DROP INDEX ix_companies_accents"], id="without-tables"),
        pytest.param("0007", ["DROP TRIGGER changes_keep_update"], id="without-triggers"),
        pytest.param("0008", ["ALTER TABLE webhooks DROP COLUMN replays"], id="without-columns"),
    ],
)
def test_an_upgrade_from_a_revision_that_has_changed_gives_the_schema_of_a_new_database(
    tmp_path: Path,
    end_migrations: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    statements: list[str],
) -> None:
    url = f"sqlite:///{tmp_path}/cardfile.db"
    end_migrations(old)
    with open_engine(url) as engine:
        with engine.begin() as writer:
            insert_demo(writer, companies=2)
            if old == "0008":
                writer.exec_driver_sql(WEBHOOK)
            for sql in statements:
                writer.exec_driver_sql(sql)
            dataset = writer.exec_driver_sql("SELECT id FROM dataset").scalar()
        before = content(engine)
    monkeypatch.undo()

    with open_engine(f"sqlite:///{tmp_path}/new.db") as engine, engine.connect() as reader:
        expected = backend().schema_of(reader)
    with open_engine(url) as engine:
        after = content(engine)
        with engine.connect() as reader:
            assert backend().schema_of(reader) == expected
            assert reader.exec_driver_sql("SELECT id FROM dataset").scalar() == dataset
    for name, rows in before.items():
        assert [{key: row[key] for key in sent} for row, sent in zip(after[name], rows, strict=True)] == rows


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.tools)])
def test_an_upgrade_of_the_first_release_keeps_what_an_administrator_has_added(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    end_migrations: Callable[[str], None],
    kind: str,
) -> None:
    url = f"sqlite:///{tmp_path}/cardfile.db" if kind == "sqlite" else request.getfixturevalue("new_database")()
    end_migrations("0004")
    with open_engine(url) as engine, engine.begin() as writer:
        insert_demo(writer, companies=1)
        writer.exec_driver_sql("ALTER TABLE companies ADD COLUMN fax TEXT")
        writer.exec_driver_sql("UPDATE companies SET fax = '123'")
        writer.exec_driver_sql("CREATE INDEX by_fax ON companies (fax)")
        writer.exec_driver_sql("CREATE VIEW faxes AS SELECT fax FROM companies")
        writer.exec_driver_sql("DROP INDEX ix_companies_updated_at_id")
    monkeypatch.undo()

    with open_engine(url) as engine, engine.connect() as reader:
        assert reader.exec_driver_sql("SELECT fax FROM faxes").scalar() == "123"
        assert "by_fax" in {index["name"] for index in inspect(reader).get_indexes("companies")}
        assert reader.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == revisions()[-1]


def test_a_failed_upgrade_leaves_the_database_unchanged(
    app: Flask, database: str, add_revision, create_row: CreateRow, query: Query
) -> None:
    company = create_row("companies")
    before = revisions()[-1]
    add_revision("raise RuntimeError('the power fails')")

    with pytest.raises(RuntimeError, match="the power fails"):
        open_database(database)

    assert query("SELECT version_num FROM alembic_version") == [(before,)]
    assert query("SELECT id, name FROM companies") == [(company, "Acme")]
    assert "colour" not in str(query("SELECT sql FROM sqlite_master WHERE name = 'companies'"))


def test_an_upgrade_that_cannot_be_committed_leaves_no_copy(
    app: Flask, database: str, add_revision, query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, copies = revisions()[-1], list[Path]()
    add_revision()

    def fail(_connection: Connection) -> None:
        copies.extend(tmp_path.glob("*.bak"))
        raise OperationalError("COMMIT", {}, OSError("disk I/O error"))

    with monkeypatch.context() as patch, pytest.raises(UnusableDatabase, match="disk I/O error"):
        patch.setattr(Connection, "commit", fail)
        open_database(database)

    assert len(copies) == 1 and [*tmp_path.glob("*.bak*")] == []
    assert query("SELECT version_num FROM alembic_version") == [(before,)]


def test_killed_upgrades_leave_one_copy_of_the_old_file(
    app: Flask, database: str, add_revision, create_row: CreateRow, query: Query, tmp_path: Path
) -> None:
    company, before = create_row("companies"), revisions()[-1]
    add_revision("import os; 'KILL' in os.environ and os.kill(os.getpid(), 9)")
    script = (
        f"from pathlib import Path; from database import schema; schema.MIGRATIONS = Path('later'); {OPEN_DATABASE}"
    )
    for _time in range(2):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "KILL": "1"}
        command = [sys.executable, "-c", script, database]
        assert subprocess.run(command, cwd=tmp_path, env=environment, check=False, timeout=60).returncode == -9
        assert query("SELECT version_num FROM alembic_version") == [(before,)]

    open_database(database)

    assert query("SELECT id, colour FROM companies") == [(company, None)]
    [copy] = tmp_path.glob("*.bak*")
    assert copy.name.startswith(f"cardfile.db.{before}-") and copy.suffix == ".bak"
    engine = engine_of(copy)
    with engine.connect() as reader:
        assert reader.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert reader.exec_driver_sql("SELECT id FROM companies").scalar() == company
    engine.dispose()


@pytest.mark.databases("sqlite", "postgresql")
def test_a_command_beside_another_process_that_upgrades_says_so(
    app: Flask, database: str, add_revision, run_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("database.sqlite.BUSY_MILLISECONDS", 100)
    with app.app_context(), db.engine.connect() as other:
        for sql in backend().BEGIN_WRITING:
            other.exec_driver_sql(sql)
        if database.startswith("sqlite"):
            used = run_command("keys", "create", "new", "--database", database)
            assert (used.exit_code, used.stderr) == (1, f"Error: The database can't be used: {LOCKED}.\n")
        add_revision()
        opened = run_command("keys", "list", "--database", database)

    assert (opened.exit_code, opened.stdout) == (1, "")
    assert opened.stderr.startswith("Error: ") and opened.stderr.endswith(f" can't be opened: {LOCKED}.\n")


def test_a_reference_that_was_broken_before_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path}/cardfile.db"
    with open_unreleased(url, UNRELEASED["sqlite 0003"]) as engine, engine.begin() as writer:
        insert_demo(writer, companies=1)
    # SQLite's shell enforces no foreign keys.
    with sqlite.connect(tmp_path / "cardfile.db") as connection:
        connection.execute("UPDATE contacts SET company_id = 'gone' WHERE rowid = 1")
    connection.close()

    sentence = r"row 1 of contacts refers to a row of companies that is missing\. .* or delete the row"
    with pytest.raises(UnusableDatabase, match=sentence):
        open_database(url)

    assert not [*tmp_path.glob("*.bak"), *caplog.messages]


def test_an_upgrade_that_drops_a_trigger_is_refused(app: Flask, database: str, add_revision, query: Query) -> None:
    add_revision("statements = []")

    with pytest.raises(UnusableDatabase, match=r"The upgrade would lose the trigger companies_"):
        open_database(database)
    assert query("SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'companies'") == [(9,)]


def test_a_database_of_the_first_schema_opens_unchanged(first_revision: None, database: str) -> None:
    """The unreleased revisions 0001 to 0004, now one revision, created this schema."""
    path = database.removeprefix("sqlite:///")
    declared = json.loads(SCHEMA_0004.read_text(encoding="utf-8"))["sqlite"]
    # FTS5 creates its own tables.
    statements = [sql for name, sql in declared.items() if "_search_" not in name or sql.startswith("CREATE TRIGGER")]
    order = ["TABLE", "VIRTUAL", "INDEX", "TRIGGER"]
    with sqlite.connect(path) as connection:
        for sql in sorted(statements, key=lambda sql: order.index(sql.split()[1])):
            connection.execute(sql)
        connection.execute("INSERT INTO alembic_version VALUES ('0004')")
    connection.close()
    before = schema_of(path)

    open_database(database)
    assert schema_of(path) == before
    assert not list(Path(path).parent.glob("*.bak"))


def test_a_new_database_has_exactly_the_first_schema(first_revision: None, database: str) -> None:
    with open_database(database).app_context():
        with db.engine.connect() as connection:
            assert backend().schema_of(connection) == json.loads(SCHEMA_0004.read_text(encoding="utf-8"))["sqlite"]
        close_database()


@pytest.mark.parametrize("unknown", ["9999", "0000", "abc"])
def test_a_database_of_an_unknown_revision_is_refused_and_unchanged(
    app: Flask, database: str, query: Query, unknown: str
) -> None:
    query(f"UPDATE alembic_version SET version_num = '{unknown}'")

    with pytest.raises(
        UnusableDatabase, match=rf"knows schemas up to \d{{4}}, not {unknown}: run the one that wrote it"
    ):
        open_database(database)
    assert query("SELECT version_num FROM alembic_version") == [(unknown,)]


def test_the_database_of_another_program_is_refused_and_unchanged(database: str) -> None:
    with sqlite.connect(database.removeprefix("sqlite:///")) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()

    with pytest.raises(UnusableDatabase, match="is not Cardfile's"):
        open_database(database)
    assert list(schema_of(database.removeprefix("sqlite:///"))) == ["bookmarks"]


def test_the_database_of_another_program_with_alembic_is_refused(database: str) -> None:
    with sqlite.connect(database.removeprefix("sqlite:///")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
    connection.close()

    with pytest.raises(UnusableDatabase, match="is not Cardfile's"):
        open_database(database)


def test_a_file_that_is_not_a_database_is_refused(database: str) -> None:
    Path(database.removeprefix("sqlite:///")).write_text("Dear diary, " * 100, encoding="utf-8")

    with pytest.raises(UnusableDatabase, match="can't be opened: file is not a database"):
        open_database(database)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableDatabase, match="nowhere for the database: create it first"):
        open_database(f"sqlite:///{tmp_path}/nowhere/cardfile.db")


@pytest.mark.tools
def test_several_processes_can_create_the_same_database_at_once(database: str) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", OPEN_DATABASE, database], cwd=ROOT) for _number in range(4)]

    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]
    assert "companies" in schema_of(database.removeprefix("sqlite:///"))

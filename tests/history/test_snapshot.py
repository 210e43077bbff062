"""`GET /api/v1/snapshot`: the rows of the lists, as of one version, as a SQLite file, and nothing else."""

import json
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import snapshot
from database.connection import connections
from operate.erasure import forget_row
from schemas import RESOURCES
from seed import load_demo
from tests.conftest import CreateRow, LiveServer, run_external_sql, send_request

pytestmark = pytest.mark.databases("sqlite", "postgresql")

PATH = "/api/v1/snapshot"
TABLES = list(RESOURCES)
COMPANY = {"id": "acme", "name": "Zoë \u200d 🦊 'x' \"y\"\\", "website": "https://acme.com", "notes": "a\nb\t,"}


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def download(client: FlaskClient, query: str = "", **headers: str) -> TestResponse:
    """Return the response to a request for a snapshot, read and closed."""
    with client.get(
        PATH + query, headers={name.replace("_", "-"): value for name, value in headers.items()}
    ) as response:
        assert response.data or response.status_code == 304
    return response


@pytest.fixture
def open_snapshot(reader: FlaskClient, tmp_path: Path) -> Iterator[Callable[..., sqlite3.Connection]]:
    """Return a function that requests a snapshot and opens it by Python's own SQLite library."""
    opened = []

    def open_file(query: str = "") -> sqlite3.Connection:
        response = download(reader, query)
        assert (response.status_code, response.content_type) == (200, "application/octet-stream")
        path = tmp_path / f"{len(opened)}.sqlite"
        path.write_bytes(response.data)
        opened.append(sqlite3.connect(path))
        opened[-1].row_factory = sqlite3.Row
        return opened[-1]

    yield open_file
    for each in opened:
        each.close()


def stored(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a list as a snapshot has it: booleans as 0 and 1, tags as JSON."""
    tags = {name: json.dumps(value, separators=(",", ":"), ensure_ascii=False) for name, value in row.items()}
    return {name: tags[name] if isinstance(value, list) else value for name, value in row.items()}


def assert_rows_are_those_of_the_lists(file: sqlite3.Connection, reader: FlaskClient, query: str = "") -> None:
    for table in TABLES:
        rows = [dict(row) for row in file.execute(f"SELECT * FROM {table}")]
        listed = [stored(row) for row in reader.get(f"/api/v1/{table}{query}").json]
        assert rows == listed
        assert [list(row) for row in rows] == [list(row) for row in listed]
        # Equal numbers may be of different types.
        shown = [json.dumps(row.get("dealValue")) for row in listed]
        assert [json.dumps(row.get("dealValue")) for row in rows] == shown


def test_a_snapshot_has_the_rows_of_the_lists(
    app: Flask, reader: FlaskClient, create_row: CreateRow, open_snapshot: Callable[..., sqlite3.Connection]
) -> None:
    with app.app_context():
        load_demo(companies=230)
    for value in 50000, 1999.5, 0, 0.1, 999_999_999_999.99, 999_999_999_999, None:
        create_row("companies", dealValue=value)
    create_row("companies", **COMPANY, isCustomer=True, position=2**31 - 1)
    create_row("conversations", companyId="acme", tags=['"', "ä", "\\u00e4", "🦊"], isRead=True, visitorIp="::1")
    file = open_snapshot()

    # More than two pages.
    assert file.execute("SELECT count(*) > 1000 FROM contacts").fetchone()[0]
    assert_rows_are_those_of_the_lists(file, reader)


def test_a_snapshot_is_an_intact_file_with_three_tables_and_no_keys(
    reader: FlaskClient, create_row: CreateRow, open_snapshot: Callable[..., sqlite3.Connection]
) -> None:
    create_row("companies", id="acme")
    create_row("contacts", companyId="acme")
    file = open_snapshot()
    path = file.execute("SELECT file FROM pragma_database_list").fetchone()[0]
    objects = file.execute("SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    key = reader.environ_base["HTTP_AUTHORIZATION"].split()[1]

    assert [tuple(row) for row in objects] == [
        ("table", "companies"),
        ("table", "contacts"),
        ("index", "contacts_companyId"),
        ("table", "conversations"),
        ("index", "conversations_companyId"),
    ]
    assert [tuple(row) for row in file.execute("PRAGMA integrity_check")] == [("ok",)]
    assert file.execute("PRAGMA foreign_key_check").fetchall() == []
    assert not any(text in Path(path).read_bytes() for text in (key[:8].encode(), b"the read client's"))
    for table in TABLES:
        assert [row["name"] for row in file.execute(f"PRAGMA table_info({table})") if row["pk"]] == ["id"]
    plan = file.execute("EXPLAIN QUERY PLAN SELECT * FROM contacts WHERE companyId = 'acme'").fetchone()
    assert "USING INDEX contacts_companyId" in plan["detail"]


def test_a_snapshot_of_an_earlier_version_has_its_rows(
    writer: FlaskClient, reader: FlaskClient, open_snapshot: Callable[..., sqlite3.Connection]
) -> None:
    writer.put("/api/v1/companies/acme", json={"name": "old", "dealValue": 1999.5})
    writer.put("/api/v1/contacts/jane", json={"name": "Jane", "companyId": "acme", "isPrimary": True})
    writer.put("/api/v1/conversations/c", json={"tags": ["urgent"]})
    writer.patch("/api/v1/companies/acme", json={"name": "new", "dealValue": 50000})
    writer.delete("/api/v1/contacts/jane")
    [*_, last] = reader.get("/api/v1/changes").json

    for version in range(last["seq"] + 1):
        assert_rows_are_those_of_the_lists(open_snapshot(f"?asOf={version}"), reader, f"?asOf={version}")
    assert open_snapshot("?asOf=3").execute("SELECT name, dealValue FROM companies").fetchone()[:] == ("old", 1999.5)
    assert_rows_are_those_of_the_lists(open_snapshot(f"?asOf={last['at']}"), reader)


def test_the_headers_name_the_version_and_if_none_match_is_304(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts")
    create_row("companies", id="acme")
    first, past, current = (download(writer, query) for query in ("", "?asOf=1", "?asOf=2"))
    etag = first.headers["ETag"]

    assert first.headers["Content-Disposition"] == "attachment; filename=cardfile-2.sqlite"
    assert past.headers["Content-Disposition"] == "attachment; filename=cardfile-1.sqlite"
    assert [each.headers["Dataset-Version"] for each in (first, past)] == ["2", "1"]
    assert first.headers["Dataset-Id"].startswith(first.headers["ETag"].strip('"').removesuffix("-2"))
    assert int(first.headers["Content-Length"]) == len(first.data)
    assert "Cache-Control" not in first.headers
    assert past.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    # The same version is the same file.
    assert (current.data, current.headers["ETag"]) == (first.data, etag)
    unchanged = download(writer, If_None_Match=etag)
    assert (unchanged.status_code, unchanged.data, unchanged.headers["ETag"]) == (304, b"", etag)
    assert "Cache-Control" not in unchanged.headers
    writer.delete("/api/v1/companies/acme")
    assert download(writer, If_None_Match=etag).status_code == 200
    unchanged = download(writer, "?asOf=2", If_None_Match=etag)
    assert (unchanged.status_code, unchanged.headers["Cache-Control"]) == (304, past.headers["Cache-Control"])
    with writer.head(PATH) as response:
        assert (response.status_code, response.data) == (200, b"")


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("limit=1", 400, "There is no parameter limit here. Known: asOf."),
        ("fields=id", 400, "Known: asOf."),
        ("name=Acme", 400, "Known: asOf."),
        ("q=a&asOf=0", 400, "Known: asOf."),
        ("asOf=2", 400, "asOf must be a whole number from 0 to 1"),
        ("asOf=", 400, "asOf can be a version or a time"),
        ("asOf=0&asOf=1", 400, "asOf must be given once"),
        ("asOf=9999-01-01T00:00:00Z", 400, "in the future"),
    ],
)
def test_another_parameter_or_a_version_in_the_future_is_400(
    reader: FlaskClient, create_row: CreateRow, query: str, status: int, detail: str
) -> None:
    create_row("companies")
    response = reader.get(f"{PATH}?{query}")

    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    assert detail in response.json["detail"]


def test_all_tables_are_of_one_version_while_another_program_writes(
    database: str,
    create_row: CreateRow,
    open_snapshot: Callable[..., sqlite3.Connection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create_row("companies", id="acme")
    create_row("contacts", id="jane", companyId="acme")
    first_page = snapshot.first_page

    def read_and_write(listing: Any) -> Any:
        page = first_page(listing)
        if listing.endpoint.name == "companies":
            run_external_sql(database, "DELETE FROM companies")
        return page

    monkeypatch.setattr(snapshot, "first_page", read_and_write)
    file = open_snapshot()
    assert file.execute("SELECT companyId FROM contacts").fetchone()[:] == ("acme",)
    monkeypatch.undo()
    assert open_snapshot().execute("SELECT companyId FROM contacts").fetchone()[:] == (None,)


def test_a_forgotten_row_is_in_no_snapshot(app: Flask, reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="secret-id", name="Jane", email="jane@secret.example")
    create_row("contacts", id="other")
    before = download(reader, "?asOf=2")
    assert b"jane@secret.example" in before.data
    with app.app_context():
        assert forget_row("contacts", "secret-id")

    for query in "", "?asOf=1", "?asOf=2":
        response = download(reader, query, If_None_Match=before.headers["ETag"])
        assert response.status_code == 200
        assert not any(text in response.data for text in (b"secret", b"Jane"))


def test_a_forgotten_company_leaves_no_reference_in_snapshots_of_earlier_versions(
    app: Flask, reader: FlaskClient, create_row: CreateRow, open_snapshot: Callable[..., sqlite3.Connection]
) -> None:
    for name in "secret", "acme":
        create_row("companies", id=name)
        create_row("contacts", id=f"of-{name}", companyId=name)
        create_row("conversations", id=f"of-{name}", companyId=name)
    with app.app_context():
        assert forget_row("companies", "secret")
    file = open_snapshot("?asOf=6")

    assert file.execute("PRAGMA foreign_key_check").fetchall() == []
    for table in "contacts", "conversations":
        rows = reader.get(f"/api/v1/{table}?asOf=6&include=company&sort=-id").json
        assert [(row["companyId"], bool(row["company"])) for row in rows] == [("secret", False), ("acme", True)]
        found = file.execute(f"SELECT id, companyId FROM {table} ORDER BY id DESC").fetchall()
        assert [tuple(row) for row in found] == [("of-secret", None), ("of-acme", "acme")]


def test_the_temporary_folder_is_empty_before_the_file_is_sent(
    reader: FlaskClient, create_row: CreateRow, temporary_folder: Path
) -> None:
    create_row("companies")
    response = reader.get(PATH, buffered=False)

    assert response.status_code == 200
    assert list(temporary_folder.iterdir()) == []
    assert response.data.startswith(b"SQLite format 3\0")
    response.close()


def test_no_room_for_the_file_is_507_and_nothing_is_left(
    reader: FlaskClient, create_row: CreateRow, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_row("companies")
    statements = snapshot.statements

    def limited() -> Iterator[tuple[str, ...]]:
        yield ("PRAGMA max_page_count = 3",)
        yield from statements()

    monkeypatch.setattr(snapshot, "statements", limited)
    response = download(reader)

    assert (response.status_code, "room" in response.json["detail"]) == (507, True)
    assert list(temporary_folder.iterdir()) == []
    monkeypatch.undo()
    assert download(reader).status_code == 200


def test_a_missing_folder_for_temporary_files_is_507(reader: FlaskClient, temporary_folder: Path) -> None:
    temporary_folder.rmdir()
    response = download(reader)

    assert (response.status_code, "temporary" in response.json["detail"]) == (507, True)


def test_a_snapshot_needs_the_slot_of_a_long_read(app: Flask, reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("companies")
    with app.app_context():
        slots = connections().long_reads
    while slots.acquire():
        pass
    response = download(reader)

    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert reader.get("/healthz").status_code == 200
    slots.release()
    assert download(reader).status_code == 200
    assert slots.taken == slots.count - 1


def open_deleted_files(server: LiveServer) -> list[str]:
    """Return the deleted files that a server's processes have open."""
    processes = [server.process.pid, *server.children()]
    found = []
    for link in [link for process in processes for link in Path(f"/proc/{process}/fd").iterdir()]:
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return [path for path in found if "cardfile-snapshot-" in path]


@pytest.mark.tools
@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="waitress"),
        pytest.param(("--server", "granian", "--workers", "2"), id="granian"),
    ],
)
def test_a_download_that_breaks_off_leaves_nothing(
    start_server: Callable[..., LiveServer], tmp_path: Path, options: tuple[str, ...]
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    if options:
        pytest.importorskip("granian")
    server = start_server("serve", "--demo", *options, TMPDIR=str(folder))
    server.read_first_key()
    left = set(folder.iterdir())
    notes = [{"name": "x", "notes": "y" * 9_000}] * 100
    assert send_request(server, "/api/v1/contacts", notes)[0] == 201
    request = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.key}\r\n\r\n"
    for pause in 0, 0.5:
        with closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(request.encode())
            time.sleep(pause)
            assert not pause or client.recv(1000)
    status, body = send_request(server, PATH)
    deadline = time.monotonic() + 10
    while open_deleted_files(server) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert (status, body[:16]) == (200, b"SQLite format 3\0")
    assert open_deleted_files(server) == []
    assert set(folder.iterdir()) == left
    assert server.stop(signal.SIGTERM) == 0
    assert "Traceback" not in server.log

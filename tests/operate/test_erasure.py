"""`forget`: a row and all that it ever held are erased."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from database.sqlite import driver
from tests.conftest import CreateRow, Query, run_external_sql

RunCommand = Callable[..., Result]
pytestmark = pytest.mark.databases("sqlite", "postgresql")

SECRETS = ["Ann Ephemeral", "ann@ephemeral.example", "+49 30 5550100", "+49 30 5550101", "a short note of hers"]


def erasable_contact(writer: FlaskClient) -> str:
    """Create and update a contact with all of the SECRETS; return its path."""
    name, email, phone, later, notes = SECRETS
    body = {"name": name, "email": email, "phone": phone}
    created = writer.post("/api/v1/contacts", json=body, headers={"Idempotency-Key": "once"})
    path = f"/api/v1/contacts/{created.json['id']}"
    writer.patch(path, json={"phone": later, "notes": notes})
    return path


def files_with_secrets(database: str) -> dict[str, list[str]]:
    """Return the names of the database's files that contain each of the SECRETS.

    Another process reads them: closing a file ends all locks of a process on it (fcntl(2)), also those of SQLite.
    The next process that closes the database would then remove the WAL that this one uses.
    """
    path = Path(database.removeprefix("sqlite:///"))
    script = (
        "import json, sys; from pathlib import Path; path = Path(sys.argv[1]);"
        "found = {each.name: each.read_bytes() for each in path.parent.glob(f'{path.name}*')};"
        "print(json.dumps({text: [name for name in found if text.encode() in found[name]] for text in sys.argv[2:]}))"
    )
    command = [sys.executable, "-c", script, path, *SECRETS]
    completed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, list[str]] = json.loads(completed.stdout)
    return found


def test_a_forgotten_row_is_gone_and_the_log_keeps_numbers_actions_and_times(
    admin: FlaskClient, writer: FlaskClient, create_row: CreateRow
) -> None:
    create_row("contacts", id="other", name="Someone else")
    path = erasable_contact(writer)
    before = writer.get("/api/v1/changes").json

    forgotten = admin.post(f"{path}/forget")
    assert (forgotten.status_code, forgotten.data, forgotten.headers["Dataset-Version"]) == (204, b"", "5")
    assert writer.get(path).status_code == 404
    feed = writer.get("/api/v1/changes")
    assert not [text for text in SECRETS if text in feed.text]
    assert [change["action"] for change in feed.json] == ["created", "created", "updated", "deleted", "forgotten"]
    for old, new in zip(before[1:], feed.json[1:], strict=False):
        assert new == {**old, "data": None}
    assert feed.json[0] == before[0]


def test_a_row_that_was_deleted_is_forgotten_too_and_again(admin: FlaskClient, writer: FlaskClient) -> None:
    path = erasable_contact(writer)
    writer.delete(path)

    assert [admin.post(f"{path}/forget").status_code for _time in range(2)] == [204, 204]
    feed = writer.get("/api/v1/changes")
    assert [change["action"] for change in feed.json] == ["created", "updated", "deleted", "forgotten"]
    assert {change["data"] for change in feed.json} == {None}


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("after", ["forget", "delete"])
def test_no_file_of_the_database_has_forgotten_data(
    admin: FlaskClient, writer: FlaskClient, database: str, app: Flask, after: str
) -> None:
    path = erasable_contact(writer)
    # Others' rows share the pages.
    writer.post("/api/v1/contacts", json=[{"name": f"Someone {number}", "notes": "x" * 500} for number in range(300)])
    writer.patch(path, json={"notes": None})
    if after == "delete":
        writer.delete(path)
    assert all(files_with_secrets(database).values())

    assert admin.post(f"{path}/forget").status_code == 204
    assert files_with_secrets(database) == {text: [] for text in SECRETS}
    # Later segments of the index only mark the trigrams of earlier ones as deleted.
    assert run_external_sql(database, "SELECT count(DISTINCT segid) FROM contacts_search_idx") == [(1,)]
    assert run_external_sql(database, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.databases("sqlite")
def test_a_row_whose_past_another_transaction_still_reads_is_503_until_that_ends(
    app: Flask, admin: FlaskClient, writer: FlaskClient, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = erasable_contact(writer)
    monkeypatch.setattr("database.sqlite.BUSY_MILLISECONDS", 50)
    app.extensions["connections"].close()
    with closing(driver.connect(database.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM contacts").fetchall()
        assert admin.post(f"{path}/forget").status_code == 503
        connection.execute("COMMIT")
        assert admin.post(f"{path}/forget").status_code == 204
        assert files_with_secrets(database) == {text: [] for text in SECRETS}


def test_a_stored_response_that_showed_the_row_is_410(admin: FlaskClient, writer: FlaskClient, query: Query) -> None:
    other = {"json": {"name": "Someone else"}, "headers": {"Idempotency-Key": "other"}}
    writer.post("/api/v1/contacts", **other)
    path = erasable_contact(writer)
    admin.post(f"{path}/forget")

    body = {"name": SECRETS[0], "email": SECRETS[1], "phone": SECRETS[2]}
    again = writer.post("/api/v1/contacts", json=body, headers={"Idempotency-Key": "once"})
    assert (again.status_code, again.json["detail"]) == (410, "The data in the first response was erased.")
    assert writer.post("/api/v1/contacts", **other).headers["Idempotent-Replayed"] == "true"
    assert SECRETS[0] not in str(query("SELECT body FROM replays"))


def test_the_id_of_a_forgotten_row_can_be_used_again(admin: FlaskClient, writer: FlaskClient) -> None:
    path = erasable_contact(writer)
    tag = writer.get(path).headers["ETag"]
    admin.post(f"{path}/forget")

    assert writer.get(path, headers={"If-None-Match": "*"}).status_code == 404
    assert writer.put(path, json={"name": "New"}, headers={"If-Match": tag}).status_code == 412
    assert writer.put(path, json={"name": "New"}).status_code == 201
    assert admin.get("/api/v1/changes").json[-1]["data"]["name"] == "New"
    admin.post(f"{path}/forget")
    assert "New" not in admin.get("/api/v1/changes").text


def test_the_rows_of_a_forgotten_company_stay(admin: FlaskClient, create_row: CreateRow) -> None:
    create_row("companies", id="acme", notes="a secret")
    create_row("contacts", id="x", companyId="acme")

    assert admin.post("/api/v1/companies/acme/forget").status_code == 204
    assert admin.get("/api/v1/contacts/x").json["companyId"] is None
    assert "a secret" not in admin.get("/api/v1/changes").text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("contacts/nobody/forget", 404),
        ("nothing/x/forget", 404),
        ("contacts/x/forget?y=1", 400),
        ("contacts/x/forget?dryRun=yes", 400),
        ("contacts/nobody/forget?dryRun=true", 404),
        ("contacts/x/forget?dryRun=true", 204),
    ],
)
def test_an_invalid_request_or_a_dry_run_forgets_nothing(
    admin: FlaskClient, create_row: CreateRow, path: str, status: int
) -> None:
    create_row("contacts", id="x")

    response = admin.post(f"/api/v1/{path}")
    assert (response.status_code, response.headers["Dataset-Version"]) == (status, "1")
    assert [change["data"]["name"] for change in admin.get("/api/v1/changes").json] == ["Acme"]
    assert admin.get("/api/v1/contacts/x").status_code == 200


def test_a_dry_run_in_the_body_forgets_nothing(admin: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x")

    assert admin.post("/api/v1/contacts/x/forget", json={"dryRun": True}).status_code == 400
    assert admin.get("/api/v1/contacts/x").status_code == 200


def test_only_an_admin_key_can_forget(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x")

    assert writer.post("/api/v1/contacts/x/forget").status_code == 403
    assert writer.get("/api/v1/contacts/x").status_code == 200


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE changes SET data = NULL WHERE row_id = 'x'",
        "UPDATE changes SET data = NULL WHERE row_id = 'y' AND seq = 1",
        "UPDATE changes SET action = 'updated' WHERE row_id = 'y'",
        "UPDATE changes SET data = '{}' WHERE row_id = 'y'",
        "DELETE FROM changes WHERE row_id = 'y'",
    ],
)
def test_nothing_else_in_the_log_can_be_changed(
    admin: FlaskClient, create_row: CreateRow, query: Query, sql: str
) -> None:
    create_row("contacts", id="x")
    create_row("contacts", id="y")
    admin.post("/api/v1/contacts/y/forget")
    before = admin.get("/api/v1/changes").json

    if "seq = 1" in sql:
        assert query(sql) == []
    else:
        with pytest.raises(Exception, match="the change log is only ever added to"):
            query(sql)
    assert admin.get("/api/v1/changes").json == before


def test_the_command_forgets_a_row(
    run_command: RunCommand, reader: FlaskClient, create_row: CreateRow, database: str
) -> None:
    create_row("contacts", id="x", notes="a secret")

    assert run_command("forget", "contacts", "nobody", "--database", database).stderr == (
        "Error: There never was a contact with the id nobody.\n"
    )
    forgotten = run_command("forget", "contacts", "x", "--database", database)
    feed = reader.get("/api/v1/changes")
    assert (forgotten.exit_code, forgotten.stderr) == (0, f"Forgotten by the request {feed.json[-1]['requestId']}.\n")
    assert "a secret" not in feed.text
    assert run_command("forget", "tasks", "x", "--database", database).exit_code == 2


def test_the_time_of_an_erasure_is_not_before_that_of_the_last_change(admin: FlaskClient, query: Query) -> None:
    admin.put("/api/v1/contacts/a", json={"name": "Ann"})
    admin.delete("/api/v1/contacts/a")
    query(
        "INSERT INTO changes (seq, resource, row_id, action, at)"
        " VALUES (3, 'contacts', 'b', 'deleted', '2099-01-01T00:00:00Z')"
    )

    assert admin.post("/api/v1/contacts/a/forget").status_code == 204
    [change] = admin.get("/api/v1/changes?since=3").json
    assert (change["action"], change["at"]) == ("forgotten", "2099-01-01T00:00:00Z")

"""`export` and `import`: rows are unchanged, and an invalid file is refused."""

import json
import tracemalloc
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from seed import load_file
from tests.conftest import EXAMPLES
from tests.transfer.conftest import RunCommand, select_rows

NO_COMPANY = "companyId: Is not the id of a company."
COMPANIES_WITH_SPECIAL_TEXT = [
    {"name": 'a "quoted" one, with a comma'},
    {"name": '"', "industry": ""},
    {"name": '""'},
    {"name": "two lines", "notes": "two\nlines\r\nand a return\r"},
    {"name": " spaces ", "notes": "\ttab"},
    {"name": "null", "industry": "true", "stageId": "1e3"},
    {"name": "Zoë 🦊", "notes": "\u2028", "dealValue": 999999999999.99},
    {"name": "=1+1", "dealValue": 0.29, "isCustomer": True, "position": 7},
    {"name": "\ufeffmark", "notes": "mark\n\ufeffand mark", "dealValue": 0},
]


INVALID_ID = "Must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', '~' and '-', and not '.' or '..'."
INVALID_EMAIL = "Must be an e-mail address, as in jane@acme.com. Character 16 is U+00A0 (NO-BREAK SPACE)."
BLANK = "Must not be blank, nor have line feeds or other control characters."
NOT_JSON = "This is not JSON"


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_rows_are_exported_unchanged_after_an_import(run_command: RunCommand, tmp_path: Path, form: str) -> None:
    (tmp_path / "odd.json").write_text(json.dumps({"companies": COMPANIES_WITH_SPECIAL_TEXT}), encoding="utf-8")
    for source in str(EXAMPLES), "odd.json":
        assert run_command("seed", "--from", source).exit_code == 0

    assert (
        run_command("export", "first", "--format", form).stderr == "Wrote 10 companies, 1 contacts, 1 conversations.\n"
    )
    stored = run_command("import", "first", "--database", "sqlite:///other.db")
    assert stored.stderr.splitlines()[0] == "Stored 10 companies, 1 contacts, 1 conversations."
    run_command("export", "second", "--format", form, "--database", "sqlite:///other.db")

    for name in "companies", "contacts", "conversations":
        assert (tmp_path / f"first/{name}.{form}").read_bytes() == (tmp_path / f"second/{name}.{form}").read_bytes()
    log = "SELECT resource, row_id, data FROM changes ORDER BY resource, row_id"
    assert select_rows(tmp_path / "cardfile.db", log) == select_rows(tmp_path / "other.db", log)


@pytest.mark.parametrize(("form", "media_type"), [("csv", "text/csv"), ("ndjson", "application/x-ndjson")])
def test_a_list_over_http_is_the_exported_file(
    app: Flask, reader: FlaskClient, run_command: RunCommand, tmp_path: Path, form: str, media_type: str
) -> None:
    (tmp_path / "odd.json").write_text(json.dumps({"companies": COMPANIES_WITH_SPECIAL_TEXT}), encoding="utf-8")
    with app.app_context():
        load_file(str(EXAMPLES))
        load_file(str(tmp_path / "odd.json"))
    assert run_command("export", "out", "--format", form).exit_code == 0

    for path in (tmp_path / "out").iterdir():
        assert reader.get(f"/api/v1/{path.stem}", headers={"Accept": media_type}).data == path.read_bytes()


def test_exported_rows_have_the_fields_of_the_api(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("seed", "--from", str(EXAMPLES))
    run_command("export", "out")
    run_command("export", "out", "--format", "csv")

    examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    for name, [example] in examples.items():
        line = json.dumps(example, separators=(",", ":")) + "\n"
        assert (tmp_path / f"out/{name}.ndjson").read_text(encoding="utf-8") == line
    assert (tmp_path / "out/contacts.csv").read_text(encoding="utf-8") == (
        "id,companyId,name,email,phone,title,role,notes,isPrimary,userId,createdAt,updatedAt\n"
        "contact-123,123e4567-e89b-12d3-a456-426614174000,John Doe,john@acme.com,+1-555-0123,CEO,Decision Maker,"
        "Primary contact,true,user-456,2024-01-01T08:00:00Z,2024-01-15T10:30:00Z\n"
    )


def test_an_import_updates_only_the_fields_of_the_file(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("seed", "--from", str(EXAMPLES))
    (tmp_path / "contacts.csv").write_text("id,name,title\ncontact-123,Johnny,\nnew,Jane,CTO\n", encoding="utf-8")

    assert run_command("import", "contacts.csv").stderr.splitlines()[0] == "Stored 2 contacts."
    columns = "SELECT id, name, title, phone, is_primary FROM contacts ORDER BY id"
    assert select_rows(tmp_path / "cardfile.db", columns) == [
        ("contact-123", "Johnny", None, "+1-555-0123", 1),
        ("new", "Jane", "CTO", None, 0),
    ]
    assert select_rows(tmp_path / "cardfile.db", "SELECT updated_at > '2025' FROM contacts") == [(1,), (1,)]


def test_an_import_sets_no_time_of_update_back(run_command: RunCommand, tmp_path: Path) -> None:
    times = "2024-01-01T00:00:00Z,2099-01-01T00:00:00Z"
    (tmp_path / "contacts.csv").write_text(f"id,name,createdAt,updatedAt\na,Ann,{times}\n", encoding="utf-8")
    run_command("import", "contacts.csv")
    (tmp_path / "contacts.csv").write_text("id,name\na,Anna\n", encoding="utf-8")
    run_command("import", "contacts.csv")

    stored = select_rows(tmp_path / "cardfile.db", "SELECT name, updated_at FROM contacts")
    assert stored == [("Anna", "2099-01-01T00:00:00Z")]


def test_imported_rows_are_searchable_and_a_second_import_changes_nothing(
    run_command: RunCommand, tmp_path: Path
) -> None:
    (tmp_path / "contacts.ndjson").write_text(
        '{"id": "x", "name": "Zoë", "updatedAt": "2024-01-01T12:00:00Z"}\n', encoding="utf-8"
    )
    for verb in "Stored", "Unchanged:":
        assert run_command("import", "contacts.ndjson").stderr.startswith(f"{verb} 1 contacts.\n")

    found = "SELECT rowid FROM contacts_search WHERE contacts_search MATCH 'ZOË'"
    assert select_rows(tmp_path / "cardfile.db", found) == [(1,)]
    assert select_rows(tmp_path / "cardfile.db", "SELECT seq FROM changes") == [(1,)]
    assert run_command("check").exit_code == 0


@pytest.mark.usefixtures("new_database")
@pytest.mark.parametrize(
    ("name", "text", "line", "sentence"),
    [
        ("contacts.ndjson", '{"name": "a"}\n{"name": ""}\n', 2, f"name: {BLANK}"),
        ("companies.csv", "name,notes\n   ,a\n", 2, "name: Is required."),
        ("contacts.ndjson", '\ufeff{"name": "a"}\n\n{"name": }\n', 3, f"{NOT_JSON}: expecting value at column 10."),
        ("contacts.ndjson", '{"name": "a", "na/me": "a"}\n', 1, "na/me: Is not a known field. Did you mean name?"),
        ("contacts.ndjson", '{"Name": "a"}\n', 1, "Name: Is not a known field. Did you mean name?"),
        ("contacts.ndjson", '{"name": "a", "name": "b"}\n', 1, "name: Must not appear twice."),
        ("contacts.ndjson", "[]\n", 1, "Must be an object."),
        ("contacts.ndjson", '{"name": "a"}\n{"\x1b[2J": 1, "name": "b"}\n', 2,
         f"{NOT_JSON}: invalid control character at column 3."),
        ("contacts.ndjson", '{"\\u001b[2J": 1, "name": "b"}\n', 1,
         "\\x1b[2J: Is not a known field. Character 1 is U+001B (CONTROL CHARACTER). Known: " + ", ".join(
             ("id", "companyId", "name", "email", "phone", "title", "role", "notes", "isPrimary", "userId",
              "createdAt", "updatedAt"))),
        ("contacts.ndjson", '{"name": "a"}\n{"name": "b", "companyId": "x"}\n', 2, NO_COMPANY),
        ("conversations.ndjson", '{"tags": ["a", "a"]}\n', 1, "tags/1: Must not repeat."),
        ("contacts.csv", 'name,notes\na,"two\nlines"\n"",b\n', 4, "name: Is required."),
        ("companies.csv", "name,dealValue\na,much\n", 2, "dealValue: Must be a number."),
        ("companies.csv", "name,dealValue\na,1\nb,1.001\n", 3, "dealValue: Must have at most two decimals."),
        ("contacts.csv", "id,name\n..,a\n", 2, f"id: {INVALID_ID}"),
        ("contacts.csv", "name,email\na,ann@lee.example\u00a0\n", 2, f"email: {INVALID_EMAIL}"),
        ("contacts.ndjson", '{"id": ".", "name": "a"}\n', 1, f"id: {INVALID_ID}"),
    ],
)  # fmt: skip
def test_the_error_for_an_invalid_line_names_it_and_the_file_is_not_stored(
    run_command: RunCommand, tmp_path: Path, name: str, text: str, line: int, sentence: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")

    refused = run_command("import", name)
    assert (refused.exit_code, refused.stderr.rstrip(".\n")) == (
        1,
        f"Error: {name}, line {line}: {sentence}".rstrip("."),
    )
    assert select_rows(tmp_path / "cardfile.db", "SELECT count(*) FROM changes") == [(0,)]


def test_only_the_beginning_of_a_line_that_is_too_long_is_read(run_command: RunCommand, tmp_path: Path) -> None:
    with (tmp_path / "contacts.ndjson").open("wb") as file:
        file.write(b'{"name": "a"}\n{"name": "')
        file.truncate(300_000_000)
    tracemalloc.start()

    refused = run_command("import", "contacts.ndjson")
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()
    expected = "Error: contacts.ndjson, line 2: The line has more than 1,048,576 bytes: is a line feed missing?\n"
    assert (refused.exit_code, refused.stderr) == (1, expected)


def test_a_file_without_the_name_of_a_resource_is_refused(run_command: RunCommand, tmp_path: Path) -> None:
    hint = "add --as contacts, or the program that wrote the file, as in --map hubspot."
    for name in "people.csv", "Contact.csv", "contacts.txt":
        (tmp_path / name).write_text("name\na\n", encoding="utf-8")
        sentence = f"Error: {name}: The name doesn't say what the rows are: {hint}\n"
        assert run_command("import", name).stderr == sentence

    names = "companies.ndjson, companies.csv, contacts.ndjson, contacts.csv, conversations.ndjson, conversations.csv"
    assert run_command("import", ".").stderr == f"Error: . has none of the files {names}.\n"


def test_a_name_in_capitals_and_a_file_of_json_are_understood(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "Contacts.CSV").write_text("name\nAnn\n", encoding="utf-8")
    assert run_command("import", "Contacts.CSV").stderr.startswith("Stored 1 contacts.\n")
    (tmp_path / "contacts.json").write_text("[]", encoding="utf-8")
    assert "`seed --from` loads" in run_command("import", "contacts.json").stderr


@pytest.mark.usefixtures("new_database")
def test_a_folder_is_imported_all_or_nothing(run_command: RunCommand, tmp_path: Path) -> None:
    folder, log = tmp_path / "folder", "SELECT count(*) FROM changes"
    folder.mkdir()
    (folder / "companies.csv").write_text("id,name\nacme,Acme\n", encoding="utf-8")
    (folder / "contacts.csv").write_text("name,companyId\nAnn,acme\nBo,nobody\n", encoding="utf-8")

    shown = run_command("import", "folder", "--dry-run")
    assert (shown.exit_code, shown.stderr.splitlines()[0]) == (1, f"folder/contacts.csv, line 3: {NO_COMPANY}")
    refused = run_command("import", "folder")
    assert (refused.exit_code, refused.stderr) == (1, f"Error: folder/contacts.csv, line 3: {NO_COMPANY}\n")
    assert select_rows(tmp_path / "cardfile.db", log) == [(0,)]

    (folder / "contacts.csv").write_text("name,companyId\nAnn,acme\n", encoding="utf-8")
    shown = run_command("import", "folder", "--dry-run")
    assert (shown.exit_code, shown.stderr.splitlines()[0]) == (0, "Would store 1 companies, 1 contacts.")
    assert [json.loads(line)["name"] for line in shown.stdout.splitlines()] == ["Acme", "Ann"]
    assert select_rows(tmp_path / "cardfile.db", log) == [(0,)]
    assert run_command("import", "folder").stderr.startswith("Stored 1 companies, 1 contacts.\nTo undo: ")
    assert select_rows(tmp_path / "cardfile.db", "SELECT first_seq, last_seq FROM writes") == [(1, 2)]

    (folder / "contacts.ndjson").write_text('{"name": "Cy"}\n', encoding="utf-8")
    refused = run_command("import", "folder").stderr
    assert refused == "Error: folder has contacts.ndjson and contacts.csv: keep the newer one.\n"


def test_rows_that_repeat_are_stored_once_as_the_last_one_is(run_command: RunCommand, tmp_path: Path) -> None:
    lines = [
        '{"id": "x", "name": "first", "title": "CEO"}',
        '{"id": "y", "name": "other"}',
        '{"id": "x", "name": "last"}',
    ]
    (tmp_path / "contacts.ndjson").write_text("\n".join(lines), encoding="utf-8")

    said = "2 contacts.\nRows that repeat an earlier row of the file: 1. The last one counts.\n"
    assert run_command("import", "contacts.ndjson").stderr.startswith(f"Stored {said}To undo: ")
    rows = select_rows(tmp_path / "cardfile.db", "SELECT id, name, title FROM contacts ORDER BY id")
    assert rows == [("x", "last", "CEO"), ("y", "other", None)]
    assert run_command("import", "contacts.ndjson").stderr == f"Unchanged: {said}"
    assert select_rows(tmp_path / "cardfile.db", "SELECT count(*) FROM changes") == [(2,)]


def test_the_last_line_with_a_duplicate_id_is_searchable(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("seed", "--from", str(EXAMPLES))
    lines = [{"id": "x", "name": "first"}, {"id": "contact-123", "name": "other"}, {"id": "x", "name": "second"}]
    (tmp_path / "contacts.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    assert run_command("import", "contacts.ndjson").stderr.splitlines()[0] == "Stored 2 contacts."
    for word, found in ("first", []), ("second", [("x",)]), ("john doe", []), ("other", [("contact-123",)]):
        index = f"SELECT rowid FROM contacts_search WHERE contacts_search MATCH '\"{word}\"'"
        assert select_rows(tmp_path / "cardfile.db", f"SELECT id FROM contacts WHERE number IN ({index})") == found
    # FTS5 raises an error if its index differs from the text.
    select_rows(
        tmp_path / "cardfile.db", "INSERT INTO contacts_search (contacts_search, rank) VALUES ('integrity-check', 1)"
    )
    assert run_command("check").exit_code == 0

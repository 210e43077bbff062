"""CSV files of other programs: accepted forms, and errors."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.transfer.conftest import RunCommand, select_rows
from transfer.csv_rows import MAX_ROW_LENGTH, InvalidLine, decode, read_rows

pytestmark = pytest.mark.usefixtures("new_database")

ANN = {"name": "Ann Lee", "email": "ann@lee.example", "phone": None}
KNOWN_CONTACT_COLUMNS = "id, companyId, name, email, phone, title, role, notes, isPrimary, userId, createdAt, updatedAt"
HUBSPOT = (
    "Record ID,First Name,Last Name,Email,Phone Number,Create Date,Associated Company IDs\n"
    "901,Ann,Lee,ANN@Lee.example,+49 30 5550100,2024-03-12 09:14,9001;9002\n"
)
CLOSING = "A closing quotation mark is missing."
TEXT_AFTER_QUOTE = (
    "A cell has text after its closing quotation mark: write each quotation mark within a quoted cell twice."
)
NOT_UTF_8 = (
    "The text is not UTF-8, but perhaps Windows-1252: choose that encoding (--encoding windows-1252), or save the "
    "file as "
    "CSV UTF-8."
)
SAVE = "Save the file as UTF-8."
NOT_UTF_16 = "The text is not UTF-16: save the file as CSV UTF-8."
NUL = "name: Must not contain the character NUL. Character 2 is U+0000 (CONTROL CHARACTER)."
NO_MARK = "The text contains NUL, so perhaps it is UTF-16 without a byte order mark: save the file as CSV UTF-8."


def stored_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows as the change log has them, in the order of the file."""
    return [json.loads(str(data)) for [data] in select_rows(folder / "cardfile.db", "SELECT data FROM changes")]


@pytest.mark.parametrize(
    ("resource", "text", "expected"),
    [
        # Booleans in the capitals of spreadsheets, and in other words.
        ("contacts", "name,isPrimary\nAnn Lee,TRUE\nBo,FALSE\n", [{"isPrimary": True}, {"isPrimary": False}]),
        ("companies", "name,isCustomer\nRask Ltd,TRUE\n", [{"isCustomer": True}]),
        *[
            ("conversations", f"isRead,trustUploads\n{yes},{no}\n", [{"isRead": True, "trustUploads": False}])
            for yes, no in [("True", "False"), ("yes", "No"), ("Y", "n"), ("t", "F"), ("1", "0"), (" true ", '"false"')]
        ],
        # Delimiters and header names.
        ("contacts", "name;email;phone\nAnn Lee;ann@lee.example;\n", [ANN]),
        ("contacts", "sep=;\nname;email;phone\nAnn Lee;ann@lee.example;\n", [ANN]),
        ("contacts", '"sep=|"\r\nname|email|phone\r\nAnn Lee|ann@lee.example|\r\n', [ANN]),
        ("contacts", "name\temail\tphone\nAnn Lee\tann@lee.example\t\n", [ANN]),
        ("contacts", "Name,Email,PHONE\nAnn Lee,ann@lee.example,\n", [ANN]),
        ("contacts", "NAME,IsPrimary,COMPANYID\nAnn,true,\n", [{"isPrimary": True, "companyId": None}]),
        ("contacts", '"Name"; eMail ;"phone"\n"Ann Lee";"ann@lee.example";\n', [ANN]),
        ("companies", 'name;dealValue;notes\nAcme;1999.5;"a;b, c"\n', [{"dealValue": 1999.5, "notes": "a;b, c"}]),
        ("companies", "name;notes\nAcme;a,b,c,d\n", [{"notes": "a,b,c,d"}]),
        ("contacts", "\n\nname,phone\nAnn,1\n", [{"name": "Ann", "phone": "1"}]),
        # Blank cells and rows.
        (
            "contacts",
            "id,companyId,name,isPrimary,createdAt\nc-1,,Ann Lee,true,2024-01-01T08:00:00Z\n,,New Person,,\n,,,,\n",
            [
                {"id": "c-1", "companyId": None, "isPrimary": True, "createdAt": "2024-01-01T08:00:00Z"},
                {"companyId": None, "name": "New Person", "isPrimary": False},
            ],
        ),
        ("contacts", "name,isPrimary\nAnn,\n", [{"isPrimary": False}]),
        ("contacts", 'id,name,email,isPrimary\n"","Ann","",""\n"","","",""\n', [{"email": None, "isPrimary": False}]),
        ("companies", "name,position,dealValue,createdAt\nAcme, , , \n", [{"position": 0, "dealValue": None}]),
        ("conversations", "id,status,tags,visitorIp\nx,,,\n", [{"status": "open", "tags": [], "visitorIp": None}]),
        ("contacts", "id,name\nc-1,Ann Lee\n,\n", [{"id": "c-1"}]),
        ("contacts", "id,name\nc-1,Ann Lee\n\n", [{"id": "c-1"}]),
        ("contacts", "name,email\nAnn,\n   ,\n\t, \n", [{"name": "Ann"}]),
        ("contacts", "", []),
        ("contacts", "name\n", []),
        # A cell is unquoted once; an empty cell is null, and a quoted one is empty text.
        (
            "companies",
            'id,name,notes\nq-1,"""Rosa & Co""","""To be"" is what he said"\nq-2,"""Rosa""  GmbH","""null"""\n',
            [
                {"name": '"Rosa & Co"', "notes": '"To be" is what he said'},
                {"name": '"Rosa"  GmbH', "notes": '"null"'},
            ],
        ),
        ("companies", 'name,notes\n5" pipe,C:\\new\n', [{"name": '5" pipe', "notes": "C:\\new"}]),
        ("companies", 'name,notes\nnull,"[""\\n""]"\n', [{"name": "null", "notes": '["\\n"]'}]),
        ("companies", 'name,notes,industry\nnull,,""\n', [{"name": "null", "notes": None, "industry": ""}]),
        ("conversations", 'tags\n"[""a"", ""b, c""]"\n[]\n', [{"tags": ["a", "b, c"]}, {"tags": []}]),
        # Line ends and encodings.
        ("contacts", "name,email,phone\rAnn Lee,ann@lee.example,\r", [ANN]),
        ("contacts", "name,notes\r\nAnn,\"a\r\nb\"\r\nBo,c", [{"notes": "a\r\nb"}, {"notes": "c"}]),
        ("contacts", 'name,notes\rAnn,"a\nb\r"\r', [{"notes": "a\nb\r"}]),
        ("contacts", "\ufeffname,notes\nZoë 🦊,\ufeff\n", [{"name": "Zoë 🦊", "notes": "\ufeff"}]),
        *[
            ("contacts", mark + "name;notes\r\nZoë 🦊;ß\r\n".encode(encoding), [{"name": "Zoë 🦊", "notes": "ß"}])
            for mark, encoding in [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")]
        ],
    ],
)  # fmt: skip
def test_a_file_of_another_program_is_stored(
    run_command: RunCommand, tmp_path: Path, resource: str, text: str | bytes, expected: list[dict[str, Any]]
) -> None:
    (tmp_path / f"{resource}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())

    assert run_command("import", f"{resource}.csv").stderr.splitlines()[0] == f"Stored {len(expected)} {resource}."
    rows = stored_rows(tmp_path)
    assert [{name: row[name] for name in wanted} for row, wanted in zip(rows, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("file", "text", "line", "sentence"),
    [
        ("contacts.csv", HUBSPOT, 1,
         "Unknown columns: Record ID, First Name, Last Name (did you mean name?), Phone Number, "
         f"Create Date (did you mean createdAt?), Associated Company IDs. Known: {KNOWN_CONTACT_COLUMNS}. Perhaps "
         f"it is a file of another program (--map hubspot)."),
        ("contacts.csv", "sep=;\nname,email\nAnn,a@b.example\n", 2,
         f"Unknown columns: name,email (did you mean email?). Known: {KNOWN_CONTACT_COLUMNS}."),
        ("contacts.csv", "name,fone\na,b\n", 1,
         f"Unknown columns: fone (did you mean phone?). Known: {KNOWN_CONTACT_COLUMNS}."),
        ("contacts.csv", "email;phone\na@b.example;1\n", 1, "name: Is required, but the header does not have it."),
        ("contacts.csv", "name,\x1b[2Jx\x9b\na,b\n", 1,
         f"Unknown columns: \\x1b[2Jx\\x9b. Known: {KNOWN_CONTACT_COLUMNS}."),
        ("contacts.csv", "Name,name\na,b\n", 1, "name: Must not appear twice."),
        ("contacts.csv", "name,,\na,b,\n", 1, "Column 2 must have a name."),
        ("contacts.csv", "name,email\nAnn,\n,a@b.example\n", 3, "name: Is required."),
        ("contacts.csv", "id,name\r\nc-1,Ann\r\nc-2,\r\n", 3, "name: Is required."),
        ("contacts.csv", "name,isPrimary\nAnn,maybe\n", 2, "isPrimary: Must be true or false."),
        ("contacts.csv", "name,isPrimary\nAnn,2\n", 2, "isPrimary: Must be true or false."),
        ("companies.csv", "name,dealValue\nAnn,TRUE\n", 2, "dealValue: Must be a number."),
        ("conversations.csv", "tags\nurgent\n", 2, "tags: Must be an array of texts."),
        ("contacts.csv", "name,notes\nAnn,10 \x96 20\n".encode("latin-1"), 2, NOT_UTF_8),
        ("contacts.csv", b"name,notes\n" + b"Ann,x\n" * 2000 + b"Zo\xeb,y\n", 2002, NOT_UTF_8),
        ("contacts.csv", b"name\n\xed\xa0\x80\n", 2, NOT_UTF_8),
        ("contacts.csv", "name\nAnn\n".encode("utf-16-le"), 1, NO_MARK),
        ("contacts.csv", "name\nAnn\n".encode("utf-16-be"), 1, NO_MARK),
        ("contacts.csv", "name\nAnn\n".encode("utf-32"), 1, NO_MARK),
        ("contacts.csv", "name\nAnn\n".encode("utf-16") + b"x", 3, NOT_UTF_16),
        ("contacts.csv", "name\nA\ud800\n".encode("utf-16", "surrogatepass"), 2, NOT_UTF_16),
        ("contacts.csv", b"name\nA\0\n", 2, NUL),
        ("contacts.csv", 'name,email\nBo,\n"Ann,a@b.example\nCy,\n', 3, CLOSING),
        ("contacts.csv", 'name,email\n"Ann" Lee,a@b.example\n', 2, TEXT_AFTER_QUOTE),
        ("contacts.csv", 'name,email\n"Ann,a@b.example\n"Bo",\n', 2, TEXT_AFTER_QUOTE),
        ("contacts.csv", 'name,notes\r\nAnn,"a\r\nb"\r\nBo\r\n', 4,
         "The row has 1 cells, but the header 2: add the empty cells."),
        ("contacts.csv", "name,notes\rAnn,a\rBo,b,c\r", 3,
         "The row has 3 cells, but the header 2: enclose a cell that contains the delimiter in quotation marks."),
        ("contacts.csv", "name\n" + "a" * (MAX_ROW_LENGTH + 1), 2,
         "The row has more than 1,048,576 characters: is a closing quotation mark missing?"),
        ("contacts.ndjson", '{"name": "Ann", "isPrimary": "TRUE"}\n', 1, "isPrimary: Must be true or false."),
        ("contacts.ndjson", '{"name": "Ann"}\n'.encode("utf-16"), 1, f"The text is not UTF-8 at byte 0. {SAVE}"),
        *[
            ("contacts.ndjson", '{"name": "Ann"}\n'.encode(encoding), 1, f"This is not JSON: {reason}. {SAVE}")
            for encoding, reason in [
                ("utf-16-le", "expecting property name enclosed in double quotes at column 2"),
                ("utf-16-be", "expecting value at column 1"),
            ]
        ],
        ("contacts.ndjson", b'{"name": "a"}\n{"name": "\x96"}\n', 2, f"The text is not UTF-8 at byte 10. {SAVE}"),
    ],
)  # fmt: skip
def test_the_error_names_the_line_and_what_is_wrong_with_it(
    run_command: RunCommand, tmp_path: Path, file: str, text: str | bytes, line: int, sentence: str
) -> None:
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())

    refused = run_command("import", file)
    assert (refused.exit_code, refused.stderr) == (1, f"Error: {file}, line {line}: {sentence}\n")
    assert stored_rows(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"PK\3\4\x14\0\6\0", "This is a workbook, not CSV: save the sheet as CSV UTF-8."),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "This is a workbook, not CSV: save the sheet as CSV UTF-8."),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "This is not CSV, nor other text: save the file as CSV UTF-8."),
        (b"\x7fELF\2\1\1\0", "This is not CSV, nor other text: save the file as CSV UTF-8."),
    ],
)
@pytest.mark.parametrize("options", [(), ("--map", "other")])
def test_a_file_that_is_not_text_is_refused(
    run_command: RunCommand, tmp_path: Path, data: bytes, sentence: str, options: tuple[str, ...]
) -> None:
    (tmp_path / "contacts.csv").write_bytes(data)

    refused = run_command("import", "contacts.csv", *options)
    assert (refused.exit_code, refused.stderr) == (1, f"Error: contacts.csv: {sentence}\n")
    encoded = run_command("import", "contacts.csv", *options, "--encoding", "windows-1252").stderr
    assert ("This is a workbook" in encoded) == ("workbook" in sentence)
    assert stored_rows(tmp_path) == []


def test_a_blank_cell_leaves_a_known_row_as_it_is_unless_the_field_can_be_null(
    run_command: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("id,name,phone,isPrimary,createdAt\nx,Ann,1,yes,2024-01-01T08:00:00Z\n", encoding="utf-8")
    run_command("import", "contacts.csv")
    file.write_text("id,name,phone,isPrimary,createdAt\nx,Ann,,,\n", encoding="utf-8")
    run_command("import", "contacts.csv")

    [_created, updated] = stored_rows(tmp_path)
    assert (updated["phone"], updated["isPrimary"], updated["createdAt"]) == (None, True, "2024-01-01T08:00:00Z")


def test_the_error_for_very_many_unknown_columns_is_short(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "contacts.csv").write_text(",".join(f"c{number}" for number in range(100_000)), encoding="utf-8")

    refused = run_command("import", "contacts.csv").stderr
    assert "and 99980 more" in refused and len(refused) < 1_000


@pytest.mark.parametrize("text", ["x", '"x', '"x",', '"x\n', '"'])
def test_only_the_next_row_of_a_file_is_in_memory(text: str) -> None:
    file = io.BufferedReader(io.BytesIO(b"name,notes\nAnn,a\n" + text.encode() * 8 * MAX_ROW_LENGTH))
    decoded = decode(file)
    rows = read_rows(decoded)

    assert [next(rows), next(rows)] == [(1, ["name", "notes"]), (2, ["Ann", "a"])]
    assert file.tell() < 100_000
    with pytest.raises(InvalidLine):
        next(rows)
    assert file.tell() < 2 * MAX_ROW_LENGTH

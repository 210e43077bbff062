"""`export` writes CSV files that every reader reads alike, and `import` stores them as they were."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from formats.csv_text import format_cell
from formats.values import TEXT, parse_tag
from schemas import RESOURCES
from tests.transfer.conftest import RunCommand, select_rows
from transfer.csv_rows import InvalidLine, decode, read_rows

TEXTS = [
    *('"', '""', '"Rosa & Co"', '"null"', '"a", "b"', 'say "x"', "'", "C:\\new", "\\", '\\"', "\\N", "\\."),
    *("one\rtwo", "\r", "\n", "\r\n", "a\n\rb\n\n", "two\nlines\r\nand a return\r", '"\n', '\n"', "\u2028\x85\x0b\x0c"),
    *(",", ";", "\t", "a,b", "a;b", "a\tb", ',"', '",', '","', " leading", "trailing ", "   ", " , ", "\u00a0\u200b"),
    *("", "null", "NULL", "None", "true", "0", "007", "1e3", "-5", "+380 44 555-01-00", "1/2", "[]", "{}", '["a"]'),
    *("=1+1", '=HYPERLINK("http://x.example","pay")', "@SUM(1)", "\tTab", "sep=;", "#", "\ufeff", "a\ufeffb"),
    *("Zoë 🦊", "e\u0301", '"a,b\n"@lee.example', "https://a.example/?a,b;c='d'", "::1"),
]  # fmt: skip


def rows_of_texts(resource: str) -> Iterator[dict[str, Any]]:
    """Yield for each text a row with that text in every field that accepts it."""
    schema = RESOURCES[resource]
    fields = {
        field.data_key: field
        for name, field in schema.fields.items()
        if field.format is TEXT and name not in {"id", "company_id"}
    }
    for number, text in enumerate(TEXTS):
        row = {"id": f"{resource}-{number:03}", "createdAt": "2024-01-01T08:00:00Z", "name": "x"}
        for name, field in fields.items():
            with suppress(ValidationError):
                row[name] = field.deserialize(text)
        if resource == "conversations":
            del row["name"]
            row["tags"] = []
            with suppress(ValidationError):
                row["tags"] = [parse_tag(text[:64]), "b"]
        yield row


def test_every_text_in_every_field_is_read_alike_and_exported_again_unchanged(
    run_command: RunCommand, tmp_path: Path
) -> None:
    rows = {resource: list(rows_of_texts(resource)) for resource in RESOURCES}
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    assert run_command("seed", "--from", "rows.json").exit_code == 0

    run_command("export", "first", "--format", "csv")
    assert run_command("import", "first", "--database", "sqlite:///other.db").exit_code == 0
    run_command("export", "second", "--format", "csv", "--database", "sqlite:///other.db")
    for resource, sent in rows.items():
        exported = (tmp_path / f"first/{resource}.csv").read_bytes()
        assert exported == (tmp_path / f"second/{resource}.csv").read_bytes()
        for row, cells in zip(sent, csv.DictReader(io.StringIO(exported.decode(), newline="")), strict=True):
            assert json.loads(cells.get("tags", "[]")) == row.pop("tags", [])
            assert {name: cells[name] for name in row} == row
    log = "SELECT resource, row_id, data FROM changes ORDER BY resource, row_id"
    assert select_rows(tmp_path / "cardfile.db", log) == select_rows(tmp_path / "other.db", log)


def test_a_file_whose_booleans_a_spreadsheet_wrote_in_capitals_changes_nothing(
    run_command: RunCommand, tmp_path: Path
) -> None:
    run_command("seed", "--companies", "3")
    run_command("export", "out", "--format", "csv")
    for file in (tmp_path / "out").iterdir():
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(",true,", ",TRUE,").replace(",false,", ",FALSE,"), encoding="utf-8")
    [seq] = select_rows(tmp_path / "cardfile.db", "SELECT max(seq) FROM changes")

    assert run_command("import", "out").exit_code == 0
    assert select_rows(tmp_path / "cardfile.db", "SELECT max(seq) FROM changes") == [seq]


def parse(text: str) -> list[list[str | None]]:
    """Return the rows of a file with this text."""
    with decode(io.BufferedReader(io.BytesIO(text.encode()))) as file:
        return [cells for _line, cells in read_rows(file)]


CHARACTERS = st.sampled_from('"",\r\n ;\té\ufeff\u2028')


@given(st.lists(st.tuples(*[st.none() | st.text(CHARACTERS, max_size=8)] * 2)))
def test_cells_are_read_as_they_were_written(rows: list[tuple[str | None, str | None]]) -> None:
    text = "".join(",".join(map(format_cell, row)) + "\n" for row in [("a", "b"), *rows])

    assert parse(text) == [["a", "b"], *(list(row) for row in rows if "".join(cell or "" for cell in row).strip())]
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["a", "b"],
        *([cell or "" for cell in row] for row in rows),
    ]


@given(st.text(CHARACTERS))
def test_any_file_is_read_as_the_csv_module_reads_it(text: str) -> None:
    text = f"a,b\n{text}"
    try:
        expected = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if "".join(row).strip()]
    except csv.Error:
        with pytest.raises(InvalidLine):
            parse(text)
    else:
        assert [[cell or "" for cell in row] for row in parse(text)] == expected

"""The rows of a file as records of a resource, each with the number of its line."""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any, BinaryIO, NamedTuple

from marshmallow import ValidationError, missing

from formats.json_text import InvalidJSON, parse_json
from schemas import ResourceSchema
from transfer.cells import Cells, Columns, Default
from transfer.csv_rows import MAX_ROW_LENGTH, InvalidLine

# The rows of a file: each with the number of its first line, and its cells or JSON value.
Rows = Iterator[tuple[int, Any]]


class Record(NamedTuple):
    """A row of a file: the number of its first line, its values with defaults, and the names of the sent ones."""

    line: int
    values: dict[str, Any]
    sent: frozenset[str]


def parse_records(
    schema: ResourceSchema, rows: Rows, convert: Callable[[Any], Any], refuse: Callable[[int, Any], None]
) -> Iterator[Record]:
    """Yield the records of the rows, which `convert` turns into JSON; call `refuse` with the errors of others."""
    names = [(name, str(field.data_key)) for name, field in schema.fields.items()]
    for line, row in rows:
        try:
            record = convert(row)
            values = schema.load(record)
        except ValidationError as error:
            refuse(line, error.messages)
        else:
            sent = (name for name, public in names if public in record and not isinstance(record[public], Default))
            yield Record(line, values, frozenset(sent))


def row_converter(schema: ResourceSchema, columns: Columns, width: int) -> Callable[[Cells], dict[str, Any]]:
    """Return a function that turns a row's cells into a JSON object, without missing values.

    It raises ValidationError, with the errors that the schema finds in the other values, too.
    """

    def convert(cells: Cells) -> dict[str, Any]:
        if len(cells) != width:
            hint = "enclose a cell that contains the delimiter in quotation marks"
            hint = hint if len(cells) > width else "add the empty cells"
            raise ValidationError(f"The row has {len(cells)} cells, but the header {width}: {hint}.")
        record, errors = {}, dict[str, Any]()
        for name, get in columns:
            try:
                if (value := get(cells)) is not missing:
                    record[name] = value
            except ValidationError as error:
                errors |= error.messages if isinstance(error.messages, dict) else {name: error.messages}
        if errors:
            raise ValidationError(schema.validate(record) | errors)
        return record

    return convert


def before_footer(rows: Rows, width: int, footer: tuple[str, ...]) -> Rows:
    """Yield the rows before the footer: a row with fewer cells whose first begins with one of these texts."""
    return takewhile(lambda row: len(row[1]) >= width or not (row[1][0] or "").startswith(footer), rows)


def parse_ndjson(file: BinaryIO) -> Rows:
    """Yield the objects of an NDJSON file."""
    for number, line in enumerate(iter(lambda: file.readline(MAX_ROW_LENGTH + 1), b""), 1):
        if len(line) > MAX_ROW_LENGTH:
            raise InvalidLine(number, f"The line has more than {MAX_ROW_LENGTH:,} bytes: is a line feed missing?")
        text = line.strip() if number > 1 else line.removeprefix(BOM_UTF8).strip()
        try:
            if text:
                yield number, parse_json(text)
        except InvalidJSON as error:
            # The parser counts lines from this one, so that its line number is always 1.
            message = str(error).replace(" at line 1, column", " at column")
            # UTF-16 has NUL in every line.
            hint = " Save the file as UTF-8." if b"\0" in line or "UTF-8" in message else ""
            raise InvalidLine(number, message + hint) from None

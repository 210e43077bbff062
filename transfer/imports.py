"""`import`: the rows of files, as `export` writes them."""

import csv
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import sqlalchemy as sa
from marshmallow import ValidationError, missing

from api.write_views import match_query
from database import backend
from database.columns import now
from database.connection import connection, execute, execute_many, write_transaction
from formats.errors import first_error
from formats.json_text import InvalidJSON, parse_json
from models import insert_statement
from schemas import RESOURCES, ResourceSchema
from seed import progress_bar
from transfer.cells import cell_parser

ROWS_A_STEP = 1_000


class InvalidFile(Exception):
    """A file can't be imported; the message names the file, the line and the field."""


class Record(NamedTuple):
    """A row of a file: the number of its first line, its values, and the names of those that the file has."""

    line: int
    values: dict[str, Any]
    sent: frozenset[str]


def import_rows(path: Path) -> dict[str, int]:
    """Store the rows of a file, or of a folder's files; return the number of rows of each resource.

    A row with a known id is updated; fields that the file doesn't have stay. Raises InvalidFile, and stores nothing of
    that file.
    """
    files = [path / f"{name}.{form}" for name in RESOURCES for form in ("ndjson", "csv")] if path.is_dir() else [path]
    found = [file for file in files if file.is_file()]
    if not found or any(file.stem not in RESOURCES or file.suffix not in {".ndjson", ".csv"} for file in found):
        raise InvalidFile(f"{path} must contain files named {', '.join(RESOURCES)}, as .ndjson or .csv.")
    return {file.stem: import_file(file) for file in found}


def import_file(path: Path) -> int:
    """Store the rows of one file in one transaction; return their number."""
    schema, count = RESOURCES[path.stem], 0
    with path.open("rb") as file, progress_bar(path.stem, path.stat().st_size) as bar, write_transaction():
        records = parse_records(schema, path, file)
        with backend().bulk_indexing(connection().execute, schema.model.__table__):
            while step := list(islice(records, ROWS_A_STEP)):
                refuse_unknown_companies(path, step)
                for sent, group in groupby(step, key=lambda record: record.sent):
                    execute_many(
                        upsert_statement, path.stem, sent, rows=[record.values | {"now": now()} for record in group]
                    )
                count += len(step)
                bar.update(file.tell() - bar.pos)
    return count


def parse_records(schema: ResourceSchema, path: Path, file: BinaryIO) -> Iterator[Record]:
    """Yield the rows of a file."""
    fields = [(name, str(field.data_key), field) for name, field in schema.fields.items()]
    known = {public for _name, public, _field in fields}

    def load(record: Any) -> Any:
        """Return schema.load(record) in half the time; errors are left to schema.load() itself."""
        if isinstance(record, dict) and record.keys() <= known and not getattr(record, "duplicates", None):
            with suppress(ValidationError):
                values = {name: field.deserialize(record.get(public, missing)) for name, public, field in fields}
                return schema.set_updated_at({name: value for name, value in values.items() if value is not missing})
        return schema.load(record)

    lines = parse_csv(schema, path, file) if path.suffix == ".csv" else parse_ndjson(path, file)
    for line, record in lines:
        try:
            values = load(record)
        except ValidationError as error:
            first = first_error(error.messages)
            raise invalid_line(path, line, f"{first['pointer'][1:]}: {first['detail']}") from None
        yield Record(line, values, frozenset(name for name, public, _field in fields if public in record))


def invalid_line(path: Path, line: int, sentence: str) -> InvalidFile:
    """Return the exception that names a file's line."""
    sentence = sentence.removeprefix(": ").replace("~1", "/").replace("~0", "~")
    # The JSON parser counts lines from this one, so that its line number is always 1.
    return InvalidFile(f"{path}, line {line}: {sentence.replace(' at line 1, column', ' at column')}")


def parse_ndjson(path: Path, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Yield the objects of an NDJSON file, each with the number of its line."""
    for number, line in enumerate(file, 1):
        text = line.strip() if number > 1 else line.removeprefix(BOM_UTF8).strip()
        try:
            if text:
                yield number, parse_json(text)
        except InvalidJSON as error:
            raise invalid_line(path, number, str(error)) from None


def parse_csv(schema: ResourceSchema, path: Path, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a CSV file, each with the number of its first line."""
    table: Any = schema.model.__table__
    parsers = {str(field.data_key): cell_parser(table.c[name]) for name, field in schema.fields.items()}
    # Only the first line's byte order mark is not part of the text.
    lines = (line.decode("utf-8" if number else "utf-8-sig") for number, line in enumerate(file))
    rows = csv.reader(lines, strict=True)
    line = 1
    try:
        names = next(rows, [])
        for name in names:
            if not name or names.count(name) > 1:
                error = f"{name} must not appear twice." if name else "A column must have a name."
                raise invalid_line(path, line, error)
        line = rows.line_num + 1
        for cells in rows:
            if len(cells) != len(names):
                raise invalid_line(path, line, f"There are {len(cells)} cells, but {len(names)} names.")
            yield line, {name: parsers.get(name, str)(cell) for name, cell in zip(names, cells, strict=True)}
            line = rows.line_num + 1
    except (csv.Error, UnicodeDecodeError, InvalidJSON) as error:
        raise invalid_line(path, line, f"{error}") from None


def refuse_unknown_companies(path: Path, step: list[Record]) -> None:
    """Raise InvalidFile for the first row with the companyId of a company that doesn't exist."""
    wanted = {record.values["company_id"] for record in step if record.values.get("company_id")}
    unknown = wanted - {row[0] for company in wanted for row in execute(match_query, "companies", "id", value=company)}
    for record in step:
        if record.values.get("company_id") in unknown:
            raise invalid_line(path, record.line, "companyId: Is not the id of a company.")


def upsert_statement(resource: str, sent: frozenset[str]) -> sa.Insert:
    """Return the statement that inserts a row, or updates the fields that were sent if that changes any of them."""
    table: Any = RESOURCES[resource].model.__table__
    statement = insert_statement(RESOURCES[resource].model, backend().insert)
    changed = {name: statement.excluded[name] for name in sent - {"id"}}
    differs = sa.or_(sa.false(), *(table.c[name].is_distinct_from(value) for name, value in changed.items()))
    changed.setdefault("updated_at", sa.bindparam("now", type_=table.c.updated_at.type))
    upsert: sa.Insert = statement.on_conflict_do_update(index_elements=["id"], set_=changed, where=differs)
    return upsert

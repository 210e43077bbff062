"""`import`: the rows of files, of `export` or of other programs."""

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from io import TextIOWrapper
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import sqlalchemy as sa
from marshmallow import ValidationError, missing

from api.resources import ENDPOINTS
from api.write_views import find_matches
from database import backend
from database.columns import now
from database.connection import connection, execute_many, write_transaction
from database.statement import insert_statement
from formats.errors import escape_control, first_error, suggest
from formats.json_text import InvalidJSON, parse_json
from formats.progress import progress_bar
from schemas import MAX_SUGGESTIONS, RESOURCES, ResourceSchema
from transfer.cells import cell_parser
from transfer.csv_rows import MAX_ROW_LENGTH, InvalidLine, decode, read_rows

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
        names = ", ".join(f"{name}.csv" for name in RESOURCES)
        raise InvalidFile(f"{path} must be one of {names}, with these letters, or .ndjson, or a folder of such files.")
    counts = {}
    for file in found:
        try:
            counts[file.stem] = import_file(file)
        except InvalidLine as error:
            raise InvalidFile(escape_control(f"{file}, line {error.line}: {error}")) from None
    return counts


def import_file(path: Path) -> int:
    """Store the rows of one file in one transaction; return their number. Raises InvalidLine."""
    schema, ids = RESOURCES[path.stem], set[int]()
    bar = progress_bar(path.stem, path.stat().st_size)
    with path.open("rb") as file, decode(file) as text, bar, write_transaction():
        records = parse_records(schema, parse_csv(schema, text) if path.suffix == ".csv" else parse_ndjson(file))
        with backend().bulk_indexing(connection().execute, schema.model.__table__):
            while step := list(islice(records, ROWS_A_STEP)):
                refuse_unknown_companies(step)
                for sent, group in groupby(step, key=lambda record: record.sent):
                    execute_many(
                        upsert_statement, path.stem, sent, rows=[record.values | {"now": now()} for record in group]
                    )
                ids.update(hash(record.values["id"]) for record in step)
                bar.update(file.tell() - bar.pos)
    return len(ids)


def parse_records(schema: ResourceSchema, lines: Iterator[tuple[int, Any]]) -> Iterator[Record]:
    """Yield the rows of a file. Raises InvalidLine."""
    fields = [(name, str(field.data_key), field) for name, field in schema.fields.items()]
    known = {public for _name, public, _field in fields}

    def load(record: Any) -> Any:
        """Return schema.load(record) in half the time; errors are left to schema.load() itself."""
        if isinstance(record, dict) and record.keys() <= known and not getattr(record, "duplicates", None):
            with suppress(ValidationError):
                values = {name: field.deserialize(record.get(public, missing)) for name, public, field in fields}
                return schema.set_updated_at({name: value for name, value in values.items() if value is not missing})
        return schema.load(record)

    for line, record in lines:
        try:
            values = load(record)
        except ValidationError as error:
            first = first_error(error.messages)
            field = first["pointer"][1:].replace("~1", "/").replace("~0", "~")
            raise InvalidLine(line, f"{field}: {first['detail']}".removeprefix(": ")) from None
        yield Record(line, values, frozenset(name for name, public, _field in fields if public in record))


def parse_ndjson(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Yield the objects of an NDJSON file, each with the number of its line."""
    for number, line in enumerate(iter(lambda: file.readline(MAX_ROW_LENGTH + 1), b""), 1):
        if len(line) > MAX_ROW_LENGTH:
            raise InvalidLine(number, f"The line has more than {MAX_ROW_LENGTH:,} bytes: does a line feed lack?")
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


def parse_csv(schema: ResourceSchema, text: TextIOWrapper) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a CSV file, each with the number of its first line, without the cells that have no value."""
    rows = read_rows(text)
    line, header = next(rows, (0, []))
    names = column_names(schema, line, header) if line else []
    parsers = {str(field.data_key): cell_parser(field) for field in schema.fields.values()}
    columns = [(name, parsers[name]) for name in names]
    for line, cells in rows:
        if len(cells) != len(columns):
            more = len(cells) > len(columns)
            hint = "enclose a cell that contains the delimiter in quotation marks" if more else "add the empty cells"
            raise InvalidLine(line, f"The row has {len(cells)} cells, but the header {len(columns)}: {hint}.")
        parsed = ((name, parse(cell)) for (name, parse), cell in zip(columns, cells, strict=True))
        yield line, {name: value for name, value in parsed if value is not missing}


def column_names(schema: ResourceSchema, line: int, header: list[str | None]) -> list[str]:
    """Return the fields' names for the header's, which may be in any letter case. Raises InvalidLine."""
    known = {str(field.data_key): field.required for field in schema.fields.values()}
    in_lower_case = {name.lower(): name for name in known}
    names = [in_lower_case.get(name.lower(), name) for name in ((cell or "").strip() for cell in header)]
    if "" in names:
        raise InvalidLine(line, f"Column {names.index('') + 1} must have a name.")
    if unknown := [name for name in names if name not in known]:
        raise InvalidLine(line, unknown_columns(unknown, tuple(known)))
    for name, number in Counter(names).items():
        if number > 1:
            raise InvalidLine(line, f"{name}: Must not appear twice.")
    for name, required in known.items():
        if required and name not in names:
            raise InvalidLine(line, f"{name}: Is required, but the header does not have it.")
    return names


def unknown_columns(names: list[str], known: tuple[str, ...]) -> str:
    """Return the sentences about unknown columns: what was probably meant, and what is known."""
    shown = []
    for name in names[:MAX_SUGGESTIONS]:
        hint = suggest(name, known)
        shown.append(name[:64] + (f" ({hint.replace('Did', 'did')})" if "?" in hint else ""))
    more = f" and {len(names) - MAX_SUGGESTIONS} more" if len(names) > MAX_SUGGESTIONS else ""
    return f"Unknown columns: {', '.join(shown)}{more}. Known: {', '.join(known)}."


def refuse_unknown_companies(step: list[Record]) -> None:
    """Raise InvalidLine for the first row with the companyId of a company that doesn't exist."""
    wanted = {record.values["company_id"] for record in step if record.values.get("company_id")}
    unknown = {company for company in wanted if not find_matches(ENDPOINTS["companies"], "id", company)}
    for record in step:
        if record.values.get("company_id") in unknown:
            raise InvalidLine(record.line, "companyId: Is not the id of a company.")


def upsert_statement(resource: str, sent: frozenset[str]) -> sa.Insert:
    """Return the statement that inserts a row, or updates the fields that were sent if that changes any of them."""
    table: Any = RESOURCES[resource].model.__table__
    statement = insert_statement(RESOURCES[resource].model, backend().insert)
    changed = {name: statement.excluded[name] for name in sent - {"id"}}
    differs = sa.or_(sa.false(), *(table.c[name].is_distinct_from(value) for name, value in changed.items()))
    updated_at, time = table.c.updated_at, sa.bindparam("now", type_=table.c.updated_at.type)
    changed.setdefault("updated_at", sa.case((updated_at > time, updated_at), else_=time))
    upsert: sa.Insert = statement.on_conflict_do_update(index_elements=["id"], set_=changed, where=differs)
    return upsert

"""`export` and `import`: every row as a line of NDJSON or CSV, and back."""

import csv
import json
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import click
import sqlalchemy as sa
from marshmallow import ValidationError, missing

from api.encoding import JSONObject, finish, members_of
from database import backend, db, write_json, write_transaction
from models import now
from schemas import RESOURCES, JSONRefused, ResourceSchema, pointers, read_json

ROWS_A_STEP = 1_000


class TransferRefused(Exception):
    """A file can't be taken; the message names the file, the line and the field."""


class Record(NamedTuple):
    """A row of a file: the line it begins on, its whole values, and the names of those that the file has."""

    line: int
    values: dict[str, Any]
    sent: frozenset[str]


def export_rows(folder: Path, form: str) -> dict[str, int]:
    """Write every resource to a file of its own, all from one snapshot; return how many rows each has."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, schema in RESOURCES.items():
        table: Any = schema.model.__table__
        count = db.session.scalar(sa.select(sa.func.count()).select_from(table)) or 0
        rows = sa.select(JSONObject(members_of(schema, table))).order_by(table.c.created_at, table.c.id)
        part = folder / f"{name}.{form}.part"
        with part.open("w", encoding="utf-8", newline="") as file, progress(name, count) as bar:
            stored = db.session.scalars(rows.execution_options(yield_per=ROWS_A_STEP))
            found = (finish(row, schema, {}) for row in stored)
            lines = write_csv(schema, found) if form == "csv" else (f"{row}\n" for row in found)
            for line in lines:
                file.write(line)
                bar.update(1)
        part.rename(folder / f"{name}.{form}")
        written[name] = count
    return written


def progress(label: str, length: int) -> Any:
    """Return a progress bar, which only a terminal shows."""
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())


class Line:
    """A file that keeps the last line written to it, which is all that csv.writer asks of one."""

    def write(self, text: str) -> None:
        self.text = text


def write_csv(schema: ResourceSchema, rows: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a CSV file: the names, then the rows."""
    line = Line()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow([field.data_key for field in schema.fields.values()])
    yield line.text
    for row in rows:
        writer.writerow([write_cell(value) for value in json.loads(row, parse_float=str).values()])
        yield line.text


def write_cell(value: Any) -> str:
    """Return a value as a cell: nothing for null; as JSON what isn't text, and text that would be taken for either."""
    if isinstance(value, str) and value and value[0] != '"':
        return value
    return "" if value is None else write_json(value)


def cell_reader(column: sa.Column[Any]) -> Callable[[str], Any]:
    """Return the function that reads a column's cells."""
    is_text = not isinstance(column.type, sa.Boolean | sa.Numeric | sa.Integer | sa.JSON)

    def read(cell: str) -> Any:
        if not cell:
            return None
        if not is_text or cell[0] == '"':
            # What isn't JSON after all stays text, and the field will say what it should be.
            with suppress(JSONRefused):
                return read_json(cell.encode())
        return cell

    return read


def import_rows(path: Path) -> dict[str, int]:
    """Store the rows of a file, or of a folder's files; return how many of each resource.

    A row whose id is known is updated in what the file has of it. Raises TransferRefused for what can't be taken, and
    stores nothing of that file.
    """
    files = [path / f"{name}.{form}" for name in RESOURCES for form in ("ndjson", "csv")] if path.is_dir() else [path]
    found = [file for file in files if file.is_file()]
    if not found or any(file.stem not in RESOURCES or file.suffix not in {".ndjson", ".csv"} for file in found):
        raise TransferRefused(f"{path}: there must be companies, contacts or conversations, as .ndjson or .csv.")
    return {file.stem: import_file(file) for file in found}


def import_file(path: Path) -> int:
    """Store the rows of one file, all or none; return how many."""
    schema = RESOURCES[path.stem]
    count = 0
    with path.open("rb") as file, progress(path.stem, path.stat().st_size) as bar, write_transaction():
        records = read_records(schema, path, file)
        with backend().bulk_search(db.session.connection(), path.stem):
            while step := list(islice(records, ROWS_A_STEP)):
                refuse_unknown_companies(path, step)
                for sent, group in groupby(step, key=lambda record: record.sent):
                    store(schema, sent, [record.values for record in group])
                count += len(step)
                bar.update(file.tell() - bar.pos)
    return count


def read_records(schema: ResourceSchema, path: Path, file: BinaryIO) -> Iterator[Record]:
    """Yield the rows of a file."""
    loaded_fields = [(name, str(field.data_key), field) for name, field in schema.fields.items()]
    known = {public for _name, public, _field in loaded_fields}

    def load(record: Any) -> Any:
        """Return what schema.load() would, in half its time; what is wrong is left to it."""
        if isinstance(record, dict) and record.keys() <= known and not getattr(record, "repeated", None):
            with suppress(ValidationError):
                values = {name: field.deserialize(record.get(public, missing)) for name, public, field in loaded_fields}
                return schema.complete({name: value for name, value in values.items() if value is not missing})
        return schema.load(record)

    given = read_csv(schema, path, file) if path.suffix == ".csv" else read_ndjson(path, file)
    for line, record in given:
        try:
            values = load(record)
        except ValidationError as error:
            fault = next(pointers(error.messages))
            raise refusal(path, line, f"{fault['pointer'][1:]}: {fault['detail']}") from None
        yield Record(line, values, frozenset(name for name, public, _field in loaded_fields if public in record))


def refusal(path: Path, line: int, sentence: str) -> TransferRefused:
    """Return the exception that names a file's line."""
    sentence = sentence.removeprefix(": ").replace("~1", "/").replace("~0", "~")
    # What is told by a part that knew one line only.
    return TransferRefused(f"{path}, line {line}: {sentence.replace(' at line 1, column', ' at column')}")


def read_ndjson(path: Path, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Yield the objects of a file of JSON lines, each with the number of its line."""
    for number, line in enumerate(file, 1):
        text = line.strip() if number > 1 else line.removeprefix(BOM_UTF8).strip()
        try:
            if text:
                yield number, read_json(text)
        except JSONRefused as error:
            raise refusal(path, number, str(error)) from None


def read_csv(schema: ResourceSchema, path: Path, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a CSV file, each with the number of the line that it begins on."""
    table: Any = schema.model.__table__
    readers = {str(field.data_key): cell_reader(table.c[name]) for name, field in schema.fields.items()}
    # A spreadsheet's byte order mark is none of the first name's; on any other line it is the text's own.
    texts = (line.decode("utf-8" if place else "utf-8-sig") for place, line in enumerate(file))
    rows = csv.reader(texts, strict=True)
    line = 1
    try:
        names = next(rows, [])
        read = [readers.get(name, str) for name in names]
        for name in names:
            if not name or names.count(name) > 1:
                raise refusal(path, line, f"{name or 'A column'} must {'not appear twice' if name else 'have a name'}.")
        line = rows.line_num + 1
        for cells in rows:
            if len(cells) != len(names):
                raise refusal(path, line, f"There are {len(cells)} cells, but {len(names)} names.")
            yield line, {name: reader(cell) for name, reader, cell in zip(names, read, cells, strict=True)}
            line = rows.line_num + 1
    except (csv.Error, UnicodeDecodeError, JSONRefused) as error:
        raise refusal(path, line, f"{error}") from None


def refuse_unknown_companies(path: Path, step: list[Record]) -> None:
    """Raise TransferRefused for the first row whose company isn't there."""
    wanted = {record.values["company_id"] for record in step if record.values.get("company_id")}
    model = RESOURCES["companies"].model
    missing = wanted - set(db.session.scalars(sa.select(model.id).where(model.id.in_(wanted))))
    for record in step:
        if record.values.get("company_id") in missing:
            raise refusal(path, record.line, "companyId: Is not the id of a company.")


def store(schema: ResourceSchema, sent: frozenset[str], rows: list[dict[str, Any]]) -> None:
    """Insert the rows; where the id is known, update the columns that were sent, unless they are so already."""
    table: Any = schema.model.__table__
    statement = backend().insert(table)
    changed = {name: statement.excluded[name] for name in sent - {"id"}}
    differs = sa.or_(sa.false(), *(table.c[name].is_distinct_from(value) for name, value in changed.items()))
    changed.setdefault("updated_at", sa.literal(now(), table.c.updated_at.type))
    statement = statement.on_conflict_do_update(index_elements=["id"], set_=changed, where=differs)
    db.session.execute(statement, rows)

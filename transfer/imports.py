"""`import`: stores the rows of files, of `export` or of other programs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from api.read_views import read_row
from api.resources import ENDPOINTS, Endpoint
from api.write_views import find_matches
from database import backend
from database.columns import now
from database.connection import connection, execute_many, write_transaction
from database.statement import insert_statement
from formats.errors import MAX_ERRORS, missing_last
from formats.progress import progress_bar
from schemas import RESOURCES
from transfer.columns import Header, guess_map, join_first, mapped_columns, plain_columns
from transfer.companies import COMPANIES, Companies
from transfer.csv_rows import InvalidLine, decode, read_rows
from transfer.maps import InvalidFile, Options
from transfer.records import Record, Rows, before_footer, parse_ndjson, parse_records, row_converter

ROWS_A_STEP = 1_000
# The rows that a dry run shows.
MAX_SHOWN = 10


@dataclass
class Report:
    """The result of an import or a dry run: the numbers of rows, and of companies that were created for them.

    `repeated` is a sentence about rows with the id of an earlier row, and `advice` says how to import the same file
    again. A dry run has the JSON of the first rows as they would be stored, and the first faults with their lines.
    """

    resource: str
    is_dry: bool
    path: str = ""
    count: int = 0
    repeated: str = ""
    companies: Companies = field(default_factory=Companies)
    left_out: list[str] = field(default_factory=list)
    advice: str = ""
    rows: dict[str, str] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def list_left_out(self) -> str:
        """Return the names of the first columns left out, and how many more there are."""
        return join_first(self.left_out, len(self.left_out))

    def refuse(self, line: int, messages: Any) -> None:
        """Add the faults of a line to the report of a dry run; otherwise, or after MAX_ERRORS, raise InvalidLine."""
        for error in missing_last(messages):
            name = error["pointer"][1:].replace("~1", "/").replace("~0", "~")
            message = f"{name}: {error['detail']}".removeprefix(": ")
            if not self.is_dry or len(self.faults) + 1 >= MAX_ERRORS:
                raise InvalidLine(line, message)
            self.faults.append((line, message))


def import_rows(path: Path, options: Options) -> list[Report]:
    """Store the rows of a file, or of a folder's files, all or nothing; return a report of each.

    A row with a known id is updated in the fields that the file has. Raises InvalidFile.
    """
    files = find_files(path, options)
    with write_transaction(keep=not options.dry_run):
        return [import_path(file, options) for file in files]


def import_path(file: Path, options: Options) -> Report:
    """Store the rows of a file, inside a writing transaction; return a report. Raises InvalidFile."""
    report = Report(options.resource or ("" if options.column_map else file.stem.lower()), options.dry_run, str(file))
    try:
        with file.open("rb") as opened, progress_bar(file.stem, file.stat().st_size) as bar:
            store_file(opened, report, options, lambda: bar.update(opened.tell() - bar.pos))
    except InvalidFile as error:
        raise InvalidFile(f"{file}{f', line {error.line}' if error.line else ''}: {error}") from None
    return report


def find_files(path: Path, options: Options) -> list[Path]:
    """Return the files to import. Raises InvalidFile for a name that isn't a resource's."""
    if options.column_map or options.resource:
        if path.is_dir():
            raise InvalidFile(f"{path} is a folder: --as and --map are for one file.")
        return [path]
    names = [f"{name}.{form}" for name in RESOURCES for form in ("ndjson", "csv")]
    found = [file for name in names if (file := path / name).is_file()] if path.is_dir() else [path]
    if not found:
        raise InvalidFile(f"{path} has none of the files {', '.join(names)}.")
    for first, second in pairwise(found):
        if first.stem == second.stem:
            raise InvalidFile(f"{path} has {first.name} and {second.name}: keep the newer one.")
    if path.suffix.lower() == ".json":
        raise InvalidFile(
            f"{path}: JSON must have one object a line (.ndjson); `seed --from` loads an object of arrays."
        )
    if found[0].name.lower() not in names:
        hint = "add --as contacts, or the program that wrote the file, as in --map hubspot."
        raise InvalidFile(f"{path}: The name doesn't say what the rows are: {hint}")
    return found


def store_file(file: BufferedReader, report: Report, options: Options, advance: Callable[[], Any]) -> None:
    """Store the rows of one file, inside a writing transaction, and report. Raises InvalidFile."""
    is_ndjson = report.path.lower().endswith(".ndjson")
    if is_ndjson and options.column_map:
        raise InvalidFile("A map is for CSV files, not for NDJSON.")
    try:
        if is_ndjson:
            store(report, parse_ndjson(file), lambda row: row, options.match, advance)
        else:
            with decode(file, options.encoding) as text:
                store(report, *read_csv(report, read_rows(text), options), options.match, advance)
    except InvalidLine as error:
        if not options.dry_run:
            raise
        report.faults.append((error.line, str(error)))


def read_csv(report: Report, rows: Rows, options: Options) -> tuple[Rows, Callable[[Any], Any]]:
    """Return the rows after the header, and a function that converts each to JSON; complete the report."""
    line, cells = next(rows, (0, []))
    header, found = Header(cells), options.column_map
    if found is None:
        if options.timezone or options.day_first is not None or options.notes_from:
            raise InvalidFile("A time zone, an order of dates and columns for notes need a map (--map).")
        columns = plain_columns(RESOURCES[report.resource], line, header) if line else []
        return rows, row_converter(RESOURCES[report.resource], columns, len(cells))
    score, _map, resource = guess_map(header, {"": found})
    if not score:
        known = f"The header has no column of the map. It has: {join_first(header.names, len(cells))}."
        raise InvalidFile(known if cells else "The file is empty.")
    report.resource = report.resource or resource
    columns = mapped_columns(report.resource, header, options, report.companies)
    report.left_out = header.left_out()
    names = [name for name, _get in columns]
    if "id" not in names and options.match in {"", "id"}:
        by = " or ".join(name for name in ENDPOINTS[report.resource].match_on if name in names)
        hint = f"update the rows with the same {by} (--match {by.split()[0]})" if by else "revert this import first"
        report.advice = f"The file has no ids, so its rows get new ones: to import it again, {hint}."
    convert = row_converter(RESOURCES[report.resource], columns, len(cells))
    return before_footer(rows, len(cells), tuple(found.get("footer", []))), convert


def store(report: Report, rows: Rows, convert: Callable[[Any], Any], match: str, advance: Callable[[], Any]) -> None:
    """Insert or update the rows, inside a writing transaction."""
    endpoint, ids, count = ENDPOINTS[report.resource], set[int](), 0
    if match and match not in endpoint.match_on:
        raise InvalidFile(f"{report.resource} can be matched by {' or '.join(endpoint.match_on)}, not by {match}.")
    records = parse_records(endpoint.schema, rows, convert, report.refuse)
    with ExitStack() as stack:
        for table in {endpoint.table, COMPANIES.table}:
            stack.enter_context(backend().bulk_indexing(connection().execute, table))
        while step := list(islice(records, ROWS_A_STEP)):
            step = [*with_known_companies(match_rows(step, endpoint, match, report), report)]
            count += len(step)
            step = merge_rows(step)
            for sent, group in groupby(step, key=lambda record: record.sent):
                values = [record.values | {"now": now()} for record in group]
                execute_many(upsert_statement, endpoint.name, sent, rows=values)
            ids.update(hash(record.values["id"]) for record in step)
            for record in step[: (MAX_SHOWN - len(report.rows)) * report.is_dry]:
                report.rows[record.values["id"]] = read_row(endpoint, record.values["id"]) or ""
            advance()
    report.count = len(ids)
    if count > len(ids):
        report.repeated = f"Rows that repeat an earlier row of the file: {count - len(ids):,}. The last one counts."


def merge_rows(step: list[Record]) -> list[Record]:
    """Return the records with those of the same row merged: the last value of each field that a record has counts."""
    merged = dict[str, Record]()
    for record in step:
        earlier = merged.pop(record.values["id"], record)
        values = earlier.values | {name: record.values[name] for name in record.sent}
        merged[record.values["id"]] = Record(record.line, values, earlier.sent | record.sent)
    return [*merged.values()]


def match_rows(step: list[Record], endpoint: Endpoint, field: str, report: Report) -> Iterator[Record]:
    """Yield the records, each with the id of the row that matches in a field, stored or earlier in the step, if any."""
    matching = endpoint.table.c[field].info.get("matching") if field else None
    earlier = dict[str, str]()
    for record in step:
        value = record.values.get(field) if field not in {"", "id"} else None
        if value is not None:
            keys = matching.keys(value) if matching else [value]
            found = {*find_matches(endpoint, field, value), *(earlier[key] for key in keys if key in earlier)}
            if len(found) > 1:
                first, second, *_others = sorted(found)
                report.refuse(record.line, {field: [f"More than one row has this {field}: {first} and {second}."]})
                continue
            record.values["id"] = found.pop() if found else record.values["id"]
            earlier |= dict.fromkeys(keys, record.values["id"])
        yield record


def with_known_companies(step: Iterable[Record], report: Report) -> Iterator[Record]:
    """Yield the records whose company exists, and those without one; report the others."""
    known = dict[str, bool]()
    for record in step:
        company = record.values.get("company_id")
        if company and company not in known:
            known[company] = bool(find_matches(COMPANIES, "id", company))
        if company and not known[company]:
            report.refuse(record.line, {"companyId": ["Is not the id of a company."]})
        else:
            yield record


def upsert_statement(resource: str, sent: frozenset[str]) -> sa.Insert:
    """Return the statement that inserts a row, or updates the sent fields of a stored one if any of them differs."""
    table: Any = RESOURCES[resource].model.__table__
    statement = insert_statement(RESOURCES[resource].model, backend().insert)
    changed = {name: statement.excluded[name] for name in sent - {"id"}}
    differs = sa.or_(sa.false(), *(table.c[name].is_distinct_from(value) for name, value in changed.items()))
    updated_at, time = table.c.updated_at, sa.bindparam("now", type_=table.c.updated_at.type)
    changed.setdefault("updated_at", sa.case((updated_at > time, updated_at), else_=time))
    upsert: sa.Insert = statement.on_conflict_do_update(index_elements=["id"], set_=changed, where=differs)
    return upsert

"""The snapshot: all resources, as of one version, as a SQLite file that any program opens."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from flask import Response, abort, g, request
from werkzeug.wsgi import wrap_file

from api.as_of import requested_version
from api.changes import is_not_modified, set_version, version_query
from api.parameters import Parameters
from api.problems import problem
from api.query import ListRequest
from api.read_views import cache_headers, first_page, next_page
from api.resources import ENDPOINTS, Endpoint
from database.columns import format_of
from database.connection import begin_snapshot, execute, execute_read
from database.sqlite import driver
from formats.values import AMOUNT, BOOLEAN, INTEGER

# A NUMERIC column keeps 50000 as an integer and 1999.5 as a double (sqlite.org/datatype3.html).
TYPES = {AMOUNT: "NUMERIC", BOOLEAN: "INTEGER", INTEGER: "INTEGER"}
# Materialized, because json_each() writes an object as text again each time that its value is read.
ROWS = "WITH rows AS MATERIALIZED (SELECT value FROM json_each(?))"


def get_snapshot() -> Response:
    """Return all companies, contacts and conversations, as of one version, as a SQLite file with a table for each."""
    parameters = Parameters("asOf")
    begin_snapshot()
    past, headers = requested_version(parameters), cache_headers(parameters)
    if is_not_modified(*ENDPOINTS, **past):
        return Response(status=304, headers=headers)
    file = write_file()
    set_version(*execute(version_query, False, bool(past), *ENDPOINTS, **past).fetchone())
    headers["Content-Disposition"] = f"attachment; filename=cardfile-{g.version[1]}.sqlite"
    headers["Content-Length"] = str(os.fstat(file.fileno()).st_size)
    body: Any = wrap_file(request.environ, file, 64 * 1024)
    return Response(body, 200, headers, content_type="application/octet-stream", direct_passthrough=True)


def write_file() -> BinaryIO:
    """Return the open file, whose folder is deleted already: the system frees it when it is closed."""
    try:
        with TemporaryDirectory(prefix="cardfile-snapshot-") as folder:
            path = Path(folder) / "snapshot.sqlite"
            with closing(driver.connect(path, isolation_level=None)) as database:
                for sql, *values in statements():
                    try:
                        database.execute(sql, values)
                    except driver.Error as error:
                        raise OSError(f"{path}: {error}") from error
            return path.open("rb")
    except OSError as error:
        logging.getLogger("cardfile").error("A snapshot can't be written to a temporary file: %s", error)
        abort(problem(507, "There is no room for a temporary file: read the lists page by page."))


def statements() -> Iterator[tuple[str, ...]]:
    """Yield the SQL that writes the file, each with the values to bind."""
    # No journal is needed: an incomplete file is discarded.
    yield from [("PRAGMA journal_mode = OFF",), ("PRAGMA synchronous = OFF",)]
    for endpoint in ENDPOINTS.values():
        types = {name: TYPES.get(format_of(column), "TEXT") for name, column in endpoint.columns.items()}
        references = [name for name, column in endpoint.columns.items() if column.foreign_keys]
        types |= {"id": "TEXT PRIMARY KEY"} | dict.fromkeys(references, "TEXT REFERENCES companies (id)")
        columns = ", ".join(f'"{name}" {type_}' for name, type_ in types.items())
        yield (f"CREATE TABLE {endpoint.name} ({columns})",)
        values = {name: f"json_extract(value, '$.{name}')" for name in types}
        # The rows of a past version may name a company that was forgotten since.
        values |= {name: f"(SELECT id FROM companies WHERE id = {values[name]})" for name in references}  # noqa: S608
        insert = f"INSERT INTO {endpoint.name} SELECT {', '.join(values.values())} FROM rows"  # noqa: S608
        for page in list_pages(endpoint):
            yield f"{ROWS} {insert}", f"[{page}]"
        for name in references:
            yield (f'CREATE INDEX "{endpoint.name}_{name}" ON {endpoint.name} ("{name}")',)


def list_pages(endpoint: Endpoint) -> Iterator[str]:
    """Yield each page of the resource's list, as of the version of this request: its rows' JSON joined by commas."""
    listing = ListRequest(endpoint)
    page = first_page(listing)
    yield page.rows
    while page.cursor:
        page = next_page(listing, page.cursor, execute_read)
        yield page.rows

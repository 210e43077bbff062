"""`copy`: the rows, keys and changes of a database go into an empty one, of SQLite or PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import sqlalchemy as sa
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DatabaseError

from database import Base
from database.backend import backend_of, display_name, reason
from database.schema import UnusableDatabase, revision, run_migrations
from formats.json_text import encode_json
from models import Change, Dataset, Session
from schemas import RESOURCES
from settings import missing_package

ROWS_A_STEP = 100
# The copy has a new Dataset-Id, because its next changes may differ, and no browser sessions.
TABLES = [each for each in Base.metadata.sorted_tables if each not in {Dataset.__table__, Session.__table__}]


def copy_database(source: Engine, url: URL) -> tuple[str, dict[str, int]]:
    """Copy rows, keys, changes and stored responses, from one snapshot, into an empty database, in one transaction.

    The copy is compared with the source before it is committed. Returns the copy's Dataset-Id, and the number of rows
    of each table. Raises UnusableDatabase, and then changes nothing.
    """
    with source.connect() as reader, writing_to(url) as writer:
        if revision(writer) is not None:
            raise UnusableDatabase(f"{display_name(url)} isn't empty: name a new file or an empty database.")
        reader.exec_driver_sql(backend_of(source.url).BEGIN_SNAPSHOT)
        run_migrations(writer)
        writer.execute(sa.update(Dataset).values(oldest_version=reader.scalar(sa.select(Dataset.oldest_version))))
        counts = {table.name: copy_table(table, reader, writer) for table in TABLES}
        compare_databases(reader, writer)
        dataset = str(writer.scalar(sa.select(Dataset.id)))
        writer.commit()
    return dataset, counts


@contextmanager
def writing_to(url: URL) -> Iterator[Connection]:
    """Run the block with a connection in a writing transaction; what it doesn't commit is rolled back."""
    backend = backend_of(url)
    try:
        engine = create_engine(url, **backend.ENGINE_OPTIONS, poolclass=NullPool, json_serializer=as_json)
        event.listen(engine, "connect", backend.prepare)
        with engine.connect() as connection, backend.upgrading(connection):
            yield connection
    except ModuleNotFoundError as error:
        raise UnusableDatabase(missing_package(error, "postgresql")) from error
    except DatabaseError as error:
        raise UnusableDatabase(f"Nothing was copied to {display_name(url)}: {reason(url, error)}.") from error


def as_json(value: Any) -> str:
    """Return a value as JSON: find_rows() reads some JSON as text already."""
    return value if isinstance(value, str) else encode_json(value)


def copy_table(table: sa.Table, reader: Connection, writer: Connection) -> int:
    """Copy the rows of a table in their order, and return their number.

    The trigger that logs new rows of a resource is dropped meanwhile, because the log itself is copied, too.
    """
    backend, execute = backend_of(writer.engine.url), writer.exec_driver_sql
    if table.name not in RESOURCES:
        return insert_rows(table, reader, writer)
    with backend.without_trigger(execute, table.name, "log_created"), backend.bulk_indexing(execute, table):
        return insert_rows(table, reader, writer)


def insert_rows(table: sa.Table, reader: Connection, writer: Connection) -> int:
    """Insert the reader's rows of a table, a step at a time; return their number."""
    count = 0
    with find_rows(table, reader) as found:
        for rows in found.mappings().partitions():
            writer.execute(sa.insert(table), [dict(row) for row in rows])
            count += len(rows)
    return count


def find_rows(table: sa.Table, connection: Connection) -> sa.CursorResult[Any]:
    """Return the rows of a table in the order of its primary key, read a step at a time, without internal numbers."""
    # The log's data is copied as text, so that no byte of it changes.
    columns = [
        sa.cast(each, sa.Text()).label(each.name) if each is Change.__table__.c.data else each
        for each in table.c
        if each.name != "number"
    ]
    query = sa.select(*columns).order_by(*table.primary_key)
    return connection.execute(query, execution_options={"yield_per": ROWS_A_STEP})


def compare_databases(reader: Connection, writer: Connection) -> None:
    """Raise UnusableDatabase unless both have the same rows, in the same order, without a broken reference."""
    for sentence in backend_of(writer.engine.url).broken_references(writer):
        raise UnusableDatabase(f"Nothing was copied: {sentence}.")
    for table in TABLES:
        with find_rows(table, reader) as rows, find_rows(table, writer) as copies:
            for number, (row, copied) in enumerate(zip_longest(rows, copies), 1):
                if row != copied:
                    raise UnusableDatabase(f"Nothing was copied: row {number} of {table.name} differs.")

"""The times of demo data in the change log: spread over the last 30 days."""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from database import backend
from database.columns import Time, from_driver, now
from database.connection import LAST_SEQ, connection, connections, execute, execute_many

DAYS = 30
# The tables of the log, each with the column of its numbers.
TABLES = {"changes": "seq", "writes": "first_seq"}


def log_step(size: int) -> tuple[int, int]:
    """Log the last `size` changes as one transaction; return the numbers of the first and the last."""
    [last] = connection().execute(LAST_SEQ).fetchone()
    connections().before_commit(last - size + 1)
    return last - size + 1, last


def backdate(steps: list[tuple[int, int]]) -> None:
    """Spread the times of the steps' changes over the last 30 days, none before the change that precedes them."""
    before = execute(time_query, first=min(steps, default=(0,))[0]).fetchone()
    earlier = (before and from_driver(before[0])) or now() - timedelta(DAYS)
    start, end = max(now() - timedelta(DAYS), earlier), max(now(), earlier)
    rows = [
        {"first": first, "last": last, "time": start + (end - start) * index / len(steps)}
        for index, (first, last) in enumerate(steps, 1)
    ]
    for table, number in TABLES.items():
        with backend().without_trigger(connection().execute, table, "keep_update"):
            execute_many(date_statement, table, number, rows=rows)


def time_query() -> sa.Select[Any]:
    """Return the query for the time of the change before a number."""
    return (
        sa.select(sa.column("at", Time()))
        .select_from(sa.table("changes"))
        .where(sa.column("seq", sa.Integer()) == sa.bindparam("first") - 1)
    )


def date_statement(table: str, number: str) -> sa.Update:
    """Return the statement that sets the time of the rows whose numbers are in a range."""
    is_in = sa.column(number).between(sa.bindparam("first"), sa.bindparam("last"))
    return (
        sa.update(sa.table(table, sa.column("at", Time()))).where(is_in).values(at=sa.bindparam("time", type_=Time()))
    )

"""The times of demo data in the change log: spread over the last 30 days."""

from datetime import timedelta

from database import backend
from database.columns import from_driver, now
from database.connection import LAST_SEQ, connection, connections
from formats.values import format_time

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
    execute = connection().execute
    first = steps[0][0] if steps else 0
    before = execute(f"SELECT at FROM changes WHERE seq = {first - 1}").fetchone()
    earlier = (before and from_driver(before[0])) or now() - timedelta(DAYS)
    start, end = max(now() - timedelta(DAYS), earlier), max(now(), earlier)
    for table, number in TABLES.items():
        with backend().without_trigger(execute, table, "keep_update"):
            for index, (first, last) in enumerate(steps, 1):
                time = format_time(start + (end - start) * index / len(steps))
                execute(f"UPDATE {table} SET at = '{time}' WHERE {number} BETWEEN {first} AND {last}")

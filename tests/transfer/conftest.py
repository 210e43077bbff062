"""Fixtures for the tests of files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from database.sqlite import driver as sqlite

RunCommand = Callable[..., Result]


def select_rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Return the rows that a query of a database file returns."""
    with sqlite.connect(path) as connection:
        found = connection.execute(sql).fetchall()
    connection.close()
    return list(found)


@pytest.fixture
def new_database(empty_database: Path, tmp_path: Path) -> None:
    """Put a new database where the commands find it, which is faster than to have them create it."""
    shutil.copy(empty_database, tmp_path / "cardfile.db")

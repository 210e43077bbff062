"""SQLite's search index of a resource's text: FTS5 over trigrams, kept current by triggers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Latin letters beyond ASCII, combining marks, Greek and Cyrillic letters with marks.
ACCENTED = "\u00c0-\u024f\u0300-\u036f\u0386-\u0390\u03aa-\u03b0\u03ca-\u03ce\u0401\u0419\u0439\u0451\u1e00-\u1fff"


def index_triggers(resource: str, columns: Sequence[str], condition: str = "") -> dict[str, str]:
    """Return the SQL of the triggers that keep a resource's index current, by name; `condition` limits updates."""
    names = ", ".join(columns)
    old, new = (", ".join(f"{row}.{column}" for column in columns) for row in ("OLD", "NEW"))
    index = f"{resource}_search"
    add = f"INSERT INTO {index} (rowid, {names}) VALUES (NEW.number, {new});"
    # An external content index removes a row when it is given the row's old text (SQLite, FTS5, 4.4.3).
    remove = f"INSERT INTO {index} ({index}, rowid, {names}) VALUES ('delete', OLD.number, {old});"
    changed = f"{condition}{' AND ' if condition else ''}({old}) IS NOT ({new})"
    triggers = {
        f"{index}_insert": f"AFTER INSERT ON {resource} BEGIN {add} END",
        f"{index}_delete": f"AFTER DELETE ON {resource} BEGIN {remove} END",
        f"{index}_update": f"AFTER UPDATE ON {resource} WHEN {changed} BEGIN {remove} {add} END",
    }
    return {name: f"CREATE TRIGGER {name} {rest}" for name, rest in triggers.items()}


def accents_condition(columns: Sequence[str]) -> str:
    """Return the condition that one of the columns has a letter with an accent, or a combining mark.

    Such rows are searched without the index, whose trigrams contain the accents: SQLite can remove these since 3.45,
    but older programs couldn't write to such a file.
    """
    return " OR ".join(f"{name} GLOB '*[{ACCENTED}]*'" for name in columns)


@contextmanager
def bulk_indexing(execute: Callable[..., Any], table: Any) -> Iterator[None]:
    """Run the block, which inserts many rows into a table, and index their text at its end, three times as fast.

    It runs inside a writing transaction, so that no other program writes while the triggers are missing.
    """
    name, columns = table.name, [column.name for column in table.c if column.info.get("searchable")]
    index, names = f"{name}_search", ", ".join(columns)
    triggers = index_triggers(name, columns)
    [last] = execute(f"SELECT coalesce(max(number), 0) FROM {name}").fetchone()
    for trigger in f"{index}_insert", f"{index}_update":
        execute(f"DROP TRIGGER {trigger}")
    # Rows that the block inserts are not in the index yet, so that an update can't remove their old text.
    execute(index_triggers(name, columns, f"OLD.number <= {last}")[f"{index}_update"])
    # 64 MiB, so that the pages of all indexes stay in memory: the rows' keys are in random order.
    execute("PRAGMA cache_size = -65536")
    try:
        yield
    finally:
        execute("PRAGMA cache_size = -2000")
    execute(f"INSERT INTO {index} (rowid, {names}) SELECT number, {names} FROM {name} WHERE number > {last}")
    execute(f"DROP TRIGGER {index}_update")
    for trigger in f"{index}_insert", f"{index}_update":
        execute(triggers[trigger])

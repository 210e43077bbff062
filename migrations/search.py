"""The index of a resource's text, as SQL: FTS5 over trigrams, kept current by triggers."""

from alembic import op

from migrations.change_log import is_postgresql


def create_search(resource: str, *columns: str) -> None:
    """Index the columns' text on SQLite, whoever writes it; PostgreSQL reads the rows."""
    if is_postgresql():
        return
    names = ", ".join(columns)
    old, new = (", ".join(f"{row}.{column}" for column in columns) for row in ("OLD", "NEW"))
    index = f"{resource}_search"
    add = f"INSERT INTO {index} (rowid, {names}) VALUES (NEW.number, {new});"
    # FTS5 takes a row out of an index of another table's text by being told that text once more.
    remove = f"INSERT INTO {index} ({index}, rowid, {names}) VALUES ('delete', OLD.number, {old});"
    options = f"content = '{resource}', content_rowid = 'number', tokenize = 'trigram'"
    op.execute(f"CREATE VIRTUAL TABLE {index} USING fts5 ({names}, {options})")
    op.execute(f"INSERT INTO {index} ({index}) VALUES ('rebuild')")
    op.execute(f"CREATE TRIGGER {index}_insert AFTER INSERT ON {resource} BEGIN {add} END")
    op.execute(f"CREATE TRIGGER {index}_delete AFTER DELETE ON {resource} BEGIN {remove} END")
    changed = f"AFTER UPDATE ON {resource} WHEN ({old}) IS NOT ({new})"
    op.execute(f"CREATE TRIGGER {index}_update {changed} BEGIN {remove} {add} END")

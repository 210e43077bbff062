"""`export`: every resource to a file of its own, all from one snapshot."""

from pathlib import Path

import sqlalchemy as sa

from api.json_sql import json_object, schema_fields
from database import backend, db
from database.new_file import new_file
from formats.csv_text import csv_line, csv_lines
from formats.progress import progress_bar
from schemas import RESOURCES, ResourceSchema
from seed import count_statement

ROWS_A_STEP = 1_000


def export_rows(folder: Path, form: str) -> dict[str, int]:
    """Write every resource to FOLDER/NAME.FORM; return the number of rows of each."""
    folder.mkdir(parents=True, exist_ok=True)
    with db.engine.connect() as connection:
        connection.exec_driver_sql(backend().BEGIN_SNAPSHOT)
        return {name: export_file(folder / f"{name}.{form}", schema, connection) for name, schema in RESOURCES.items()}


def export_file(path: Path, schema: ResourceSchema, connection: sa.Connection) -> int:
    """Write one resource to a file, which appears when it is complete; return the number of rows."""
    table = schema.model.__table__
    count = connection.scalar(count_statement(schema.model)) or 0
    query = sa.select(json_object(schema_fields(schema, table))).order_by(table.c.created_at, table.c.id)
    rows = connection.execution_options(yield_per=ROWS_A_STEP).scalars(query)
    with (
        new_file(path) as part,
        part.open("w", encoding="utf-8", newline="") as file,
        progress_bar(path.stem, count) as bar,
    ):
        if path.suffix == ".csv":
            file.write(csv_line(field.data_key for field in schema.fields.values()))
        for row in rows:
            file.write(csv_lines(row) if path.suffix == ".csv" else f"{row}\n")
            bar.update(1)
    return count

"""Tables as revisions create them: columns with their rules, and a resource with its indexes and triggers.

Revisions don't use models.py: what a revision creates must not change when the models do.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from database.columns import big_integer, string
from formats.values import AMOUNT, BOOLEAN, INTEGER, TAGS, TEXT, TIME, Format
from migrations.triggers import PRESENT, TIME_OF_CHANGE, create_search_index, guard_rows, index_accents, log_changes

__all__ = ["big_integer", "string"]

Item = sa.schema.SchemaItem


class Column(NamedTuple):
    """A column: the items of its table, its format in the log, whether it is indexed and searchable."""

    name: str
    # Called when the table is created: the SQL has constraints in the order in which they were created.
    items: Callable[[], list[Item]]
    format: Format = TEXT
    indexed: bool = False
    searchable: bool = False


def timestamp() -> Any:
    """Return the type of a time."""
    return TIMESTAMP(timezone=True, precision=0).with_variant(sa.Text(), "sqlite")


def serial(name: str, **options: Any) -> sa.Column[int]:
    """Return an integer primary key that the database assigns."""
    return sa.Column(name, big_integer(), primary_key=True, **options)


def checked(
    name: str,
    type_: Any,
    rule: str = "",
    sqlite: str = "",
    postgresql: str = "",
    *,
    required: bool = False,
    **options: Any,
) -> Column:
    """Return a column with, for each database, the CHECK constraint of its rules; {0} stands for the column."""

    def items() -> list[Item]:
        found: list[Item] = [sa.Column(name, type_, nullable=not required)]
        for dialect, more in ("sqlite", sqlite), ("postgresql", postgresql):
            if sql := " AND ".join(filter(None, (rule, more))):
                found.append(sa.CheckConstraint(sql.format(name), name=name).ddl_if(dialect=dialect))
        return found

    return Column(name, items, **options)


def text(
    name: str,
    max_length: int,
    min_length: int = 0,
    rule: str = "",
    sqlite: str = "",
    postgresql: str = "",
    **options: Any,
) -> Column:
    """Return a text column, its lengths in characters."""
    rule = f"length({{0}}) BETWEEN {min_length} AND {max_length}{rule}"
    sqlite = f"typeof({{0}}) IN ('text', 'null') AND instr({{0}}, char(0)) = 0{sqlite}"
    return checked(name, string(max_length), rule, sqlite, postgresql, **options)


def url(name: str, **options: Any) -> Column:
    """Return a column for an http or https URL."""
    return text(name, 2048, 1, " AND (lower({0}) LIKE 'http://_%' OR lower({0}) LIKE 'https://_%')", **options)


def choice(name: str, *choices: str, indexed: bool = False) -> Column:
    """Return a column that holds one of a few words."""
    return checked(name, string(16), f"{{0}} IN ({', '.join(map(repr, choices))})", required=True, indexed=indexed)


def boolean(name: str) -> Column:
    """Return a boolean column."""
    return checked(name, sa.Boolean(), sqlite="{0} IN (0, 1)", required=True, format=BOOLEAN)


def integer(name: str) -> Column:
    """Return a column of whole numbers from 0."""
    rules = "{0} BETWEEN 0 AND 2147483647", "typeof({0}) = 'integer'"
    return checked(name, sa.Integer(), *rules, required=True, format=INTEGER)


def amount(name: str) -> Column:
    """Return a column of amounts with two decimals."""
    type_ = sa.Numeric(14, 2).with_variant(sa.Numeric(), "postgresql")
    rules = (
        "{0} BETWEEN 0 AND 999999999999.99",
        "typeof({0}) IN ('integer', 'real', 'null') AND round({0}, 2) = {0}",
        "round({0}, 2) = {0}",
    )
    return checked(name, type_, *rules, format=AMOUNT)


def time(name: str, required: bool = False) -> Column:
    """Return a column of times."""
    sqlite = "strftime('%Y-%m-%dT%H:%M:%SZ', {0}) IS {0}"
    postgresql = "{0} BETWEEN '0001-01-01T00:00:00Z' AND '9999-12-31T23:59:59Z'"
    return checked(name, timestamp(), "", sqlite, postgresql, required=required, format=TIME)


def tags(name: str) -> Column:
    """Return a column of up to 50 tags."""
    sqlite = "json_valid({0}) AND json_type({0}) = 'array' AND json_array_length({0}) <= 50"
    postgresql = "jsonb_typeof({0}) = 'array' AND jsonb_array_length({0}) <= 50"
    type_ = sa.JSON().with_variant(JSONB(), "postgresql")
    return checked(name, type_, "", sqlite, postgresql, required=True, format=TAGS)


def company_id() -> Column:
    """Return the reference to a company."""

    def items() -> list[Item]:
        foreign_key = sa.ForeignKeyConstraint(["company_id"], ["companies.id"], ondelete="SET NULL")
        return [sa.Column("company_id", string(64)), foreign_key]

    return Column("company_id", items, indexed=True)


def public_id() -> Column:
    """Return the id of a resource or a key."""
    alphabet = " AND {0} NOT GLOB '*[^A-Za-z0-9._~-]*'", "{0} ~ '^[A-Za-z0-9._~-]+$'"
    return text("id", 64, 1, "", *alphabet, required=True)


def create_row_table(name: str, *columns: Column, unique: tuple[str, ...] = ()) -> None:
    """Create a table with a number, a public id and these columns."""
    identity = serial("number"), *public_id().items(), sa.UniqueConstraint("id")
    items = [item for column in columns for item in column.items()]
    op.create_table(name, *identity, *items, *map(sa.UniqueConstraint, unique))


def with_times(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return a resource's own columns with those of its times."""
    return (*columns, time("created_at", required=True), time("updated_at", required=True))


def log_columns(columns: Sequence[Column]) -> dict[str, Format]:
    """Return the columns of a resource that the log shows, in the public order, with their formats."""
    return {"id": TEXT, **{column.name: column.format for column in with_times(columns)}}


def create_resource(
    name: str,
    *own_columns: Column,
    present: str = PRESENT,
    time_of_change: tuple[str, str] = TIME_OF_CHANGE,
    with_accents: bool = True,
) -> None:
    """Create a resource's table, its indexes, and the triggers of the change log and of the search index."""
    columns = with_times(own_columns)
    create_row_table(name, *columns)
    indexed = [column.name for column in columns if column.indexed]
    for index in (["created_at", "id"], ["updated_at", "id"], *([each, "created_at", "id"] for each in indexed)):
        op.create_index(f"ix_{name}_{'_'.join(index)}", name, index)
    log_changes(name, log_columns(own_columns), present, time_of_change)
    guard_rows(name)
    searchable = [column.name for column in columns if column.searchable]
    create_search_index(name, searchable)
    if with_accents:
        index_accents(name, searchable)

"""The types and rules of the models' columns, for SQLite and PostgreSQL."""

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import mapped_column
from sqlalchemy.types import TypeDecorator

from database.search import accents_condition
from formats import values
from formats.matching import Matching
from formats.values import Format, format_time


class Clock:
    """The system clock, and a second one that counts from the start by the monotonic clock, which can't be set."""

    def __init__(self) -> None:
        self.start(datetime.now(UTC))

    def start(self, earliest: datetime) -> None:
        """Start the second clock at the time of the system clock, or at `earliest` if that is later."""
        self.zero = max(earliest, datetime.now(UTC)) - timedelta(seconds=monotonic())

    def read(self) -> tuple[datetime, datetime]:
        """Return the times of both clocks; they differ once the system clock was set."""
        return datetime.now(UTC), self.zero + timedelta(seconds=monotonic())


clock = Clock()


def now() -> datetime:
    """Return the current time in UTC, in whole seconds, as times are stored and shown.

    It is the later time of both clocks: nothing that has expired becomes valid again when the system clock is set back.
    """
    return max(clock.read()).replace(microsecond=0)


def earliest_now() -> datetime:
    """Return the earlier time of both clocks: rows that had expired by then can be deleted.

    When the system clock is ahead by mistake, even for a moment, nothing is deleted early.
    """
    return min(clock.read()).replace(microsecond=0)


def from_driver(value: Any) -> datetime | None:
    """Return the time that a driver returned: text on SQLite, a datetime on PostgreSQL."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


class Time(TypeDecorator[datetime]):
    """A time in UTC and whole seconds; SQLite stores it as the text that the API shows, which sorts by time."""

    impl = TIMESTAMP(timezone=True, precision=0).with_variant(sa.Text(), "sqlite")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        return format_time(value) if dialect.name == "sqlite" else value.replace(microsecond=0)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        return from_driver(value)


FORMATS = {
    sa.Boolean: values.BOOLEAN,
    sa.Integer: values.INTEGER,
    sa.Numeric: values.AMOUNT,
    Time: values.TIME,
    sa.JSON: values.TAGS,
}


def format_of(column: Any) -> Format:
    """Return how the values of a column are parsed, shown and written as JSON."""
    return next((FORMATS[type_] for type_ in FORMATS if isinstance(column.type, type_)), values.TEXT)


def string(length: int) -> sa.String:
    """Return a text type that sorts by code point on every database."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def column(
    type_: Any,
    rule: str = "",
    sqlite: str = "",
    postgresql: str = "",
    *,
    indexed: bool = False,
    searchable: bool = False,
    matching: Matching | None = None,
    **options: Any,
) -> Any:
    """Declare a column with a CHECK constraint that enforces its rule for every writer; {} stands for the column.

    `sqlite` and `postgresql` add conditions for one database alone. `indexed` columns have an index for filters; `q`
    searches the searchable ones.
    """
    rules = {"rule": rule, "sqlite": sqlite, "postgresql": postgresql}
    info = rules | {"indexed": indexed, "searchable": searchable, "matching": matching}
    return mapped_column(type_, info=info, **options)


@sa.event.listens_for(sa.Table, "after_parent_attach")
def add_check_constraints(table: sa.Table, _metadata: sa.MetaData) -> None:
    """Turn the rules of the table's columns into named CHECK constraints."""
    for each in table.columns:
        for dialect in ("sqlite", "postgresql"):
            rules = [each.info[part] for part in ("rule", dialect) if each.info.get(part)]
            if rules:
                check = sa.CheckConstraint(" AND ".join(rules).replace("{}", each.name), name=each.name)
                table.append_constraint(check.ddl_if(dialect=dialect))


@sa.event.listens_for(sa.Table, "after_parent_attach")
def add_accents_index(table: sa.Table, _metadata: sa.MetaData) -> None:
    """Index the rows with accents, which SQLite's search index doesn't find without them."""
    searchable = [each.name for each in table.columns if each.info.get("searchable")]
    if searchable:
        where = sa.text(accents_condition(searchable))
        sa.Index(f"ix_{table.name}_accents", table.c.number, sqlite_where=where).ddl_if(dialect="sqlite")


@sa.event.listens_for(sa.Table, "after_parent_attach")
def add_filter_indexes(table: sa.Table, _metadata: sa.MetaData) -> None:
    """Index columns for filters, with the default sort order; the SQL of an index may differ by database."""
    for each in [each for each in table.columns if each.info.get("indexed")]:
        order = table.c.created_at, table.c.id
        if matching := each.info.get("matching"):
            for dialect, sql in ("sqlite", matching.sqlite), ("postgresql", matching.postgresql):
                name = f"ix_{table.name}_{each.name}_created_at_id"
                sa.Index(name, sa.text(sql.format(each.name)), *order).ddl_if(dialect)
        else:
            sa.Index(None, each, *order)


def text(max_length: int, min_length: int = 0, rule: str = "", sqlite: str = "", **options: Any) -> Any:
    """Declare a text column, its lengths in characters."""
    rule = f"length({{}}) BETWEEN {min_length} AND {max_length}{rule}"
    sqlite = f"typeof({{}}) IN ('text', 'null') AND instr({{}}, char(0)) = 0{sqlite}"
    return column(string(max_length), rule, sqlite, **options)


def url(**options: Any) -> Any:
    """Declare a column for an http or https URL."""
    return text(2048, 1, " AND (lower({}) LIKE 'http://_%' OR lower({}) LIKE 'https://_%')", **options)


def choice(choices: tuple[str, ...], **options: Any) -> Any:
    """Declare a column that holds one of a few words."""
    return column(string(16), f"{{}} IN ({', '.join(map(repr, choices))})", **options)


def flag(default: bool = False) -> Any:
    """Declare a boolean column, false by default."""
    return column(sa.Boolean(), "", "{} IN (0, 1)", default=default)


def time(**options: Any) -> Any:
    """Declare a column for a time."""
    years = "{} BETWEEN '0001-01-01T00:00:00Z' AND '9999-12-31T23:59:59Z'"
    return column(Time(), "", "strftime('%Y-%m-%dT%H:%M:%SZ', {}) IS {}", years, **options)


def company_id() -> Any:
    """Declare the reference to a company, which becomes null when the company is deleted."""
    return mapped_column(sa.ForeignKey("companies.id", ondelete="SET NULL"), info={"indexed": True})


def big_integer() -> Any:
    """Return a 64-bit integer type."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def serial(**options: Any) -> Any:
    """Declare an integer primary key that the database assigns."""
    return mapped_column(big_integer(), primary_key=True, **options)

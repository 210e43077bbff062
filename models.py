"""The tables: resources, API keys, the change log, stored responses and sessions. Nothing here knows HTTP."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from database import Base
from formats import values
from formats.ids import new_id
from formats.values import MAX_AMOUNT, MAX_INTEGER, MAX_TAGS, Format, format_time

STATUSES = ("open", "pending", "snoozed", "resolved", "closed")
SCOPES = ("read", "write", "admin")
ACTIONS = ("created", "updated", "deleted")


def now() -> datetime:
    """Return the current time in UTC, in whole seconds, as times are stored and shown."""
    return datetime.now(UTC).replace(microsecond=0)


def from_driver(value: Any) -> datetime | None:
    """Return the time that a driver returned: text on SQLite, a datetime on PostgreSQL."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


class Time(TypeDecorator[datetime]):
    """A time in UTC and whole seconds; SQLite stores it as the text that the API shows, which sorts by time."""

    impl = TIMESTAMP(timezone=True, precision=0)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        return sa.Text() if dialect.name == "sqlite" else self.impl_instance

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


def column(type_: Any, rule: str = "", sqlite: str = "", postgresql: str = "", **options: Any) -> Any:
    """Declare a column with a CHECK constraint that enforces its rule for every writer; {} stands for the column.

    `sqlite` and `postgresql` add conditions for one database alone.
    """
    return mapped_column(type_, info={"rule": rule, "sqlite": sqlite, "postgresql": postgresql}, **options)


@sa.event.listens_for(sa.Table, "after_parent_attach")
def add_check_constraints(table: sa.Table, _metadata: sa.MetaData) -> None:
    """Turn the rules of the table's columns into named CHECK constraints."""
    for each in table.columns:
        for dialect in ("sqlite", "postgresql"):
            rules = [each.info[part] for part in ("rule", dialect) if each.info.get(part)]
            if rules:
                check = sa.CheckConstraint(" AND ".join(rules).replace("{}", each.name), name=each.name)
                table.append_constraint(check.ddl_if(dialect=dialect))


def text(
    max_length: int, min_length: int = 0, rule: str = "", sqlite: str = "", searchable: bool = False, **options: Any
) -> Any:
    """Declare a text column, its lengths in characters; `q` searches the searchable ones."""
    rule = f"length({{}}) BETWEEN {min_length} AND {max_length}{rule}"
    sqlite = f"typeof({{}}) IN ('text', 'null') AND instr({{}}, char(0)) = 0{sqlite}"
    declared = column(string(max_length), rule, sqlite, **options)
    declared.column.info["searchable"] = searchable
    return declared


def url(**options: Any) -> Any:
    """Declare a column for an http or https URL."""
    return text(2048, 1, " AND (lower({}) LIKE 'http://_%' OR lower({}) LIKE 'https://_%')", **options)


def choice(choices: tuple[str, ...], **options: Any) -> Any:
    """Declare a column that holds one of a few words."""
    return column(string(16), f"{{}} IN ({', '.join(map(repr, choices))})", **options)


def flag() -> Any:
    """Declare a boolean column, false by default."""
    return column(sa.Boolean(), "", "{} IN (0, 1)", default=False)


def time(**options: Any) -> Any:
    """Declare a column for a time."""
    years = "{} BETWEEN '0001-01-01T00:00:00Z' AND '9999-12-31T23:59:59Z'"
    return column(Time(), "", "strftime('%Y-%m-%dT%H:%M:%SZ', {}) IS {}", years, **options)


def company_id() -> Any:
    """Declare the reference to a company, which becomes null when the company is deleted."""
    return mapped_column(sa.ForeignKey("companies.id", ondelete="SET NULL"))


def serial(**options: Any) -> Any:
    """Declare an integer primary key that the database assigns."""
    return mapped_column(sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, **options)


class Row(Base):
    """A row with a public id and a creation time: resources and API keys."""

    __abstract__ = True

    # SQLite's rowid, named so that VACUUM keeps it: the search index refers to it.
    number: Mapped[int] = serial(sort_order=-2)
    id: Mapped[str] = text(
        64,
        1,
        sqlite=" AND {} NOT GLOB '*[^A-Za-z0-9._~-]*'",
        postgresql="{} ~ '^[A-Za-z0-9._~-]+$'",
        unique=True,
        default=new_id,
        sort_order=-1,
    )
    created_at: Mapped[datetime] = time(default=now, sort_order=1)


class Resource(Row):
    """A resource of the API: companies, contacts and conversations."""

    __abstract__ = True

    updated_at: Mapped[datetime] = time(sort_order=2)

    # Columns with an index for filters; it includes the default sort order.
    indexed: ClassVar[tuple[str, ...]] = ()

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[sa.Index, ...]:
        return (
            sa.Index(None, "created_at", "id"),
            sa.Index(None, "updated_at", "id"),
            *(sa.Index(None, name, "created_at", "id") for name in cls.indexed),
        )


class Company(Resource):
    """A company and its current deal."""

    __tablename__ = "companies"
    indexed = ("name", "website", "stage_id")

    name: Mapped[str] = text(255, 1, searchable=True)
    website: Mapped[str | None] = url(searchable=True)
    industry: Mapped[str | None] = text(255, searchable=True)
    deal_value: Mapped[Decimal | int | float | None] = column(
        # asdecimal=False: SQLite keeps 50000 as an integer and 1999.5 as a double, PostgreSQL both as NUMERIC.
        sa.Numeric(14, 2, asdecimal=False).with_variant(sa.Numeric(asdecimal=False), "postgresql"),
        f"{{}} BETWEEN 0 AND {MAX_AMOUNT}",
        "typeof({}) IN ('integer', 'real', 'null') AND round({}, 2) = {}",
        "round({}, 2) = {}",
    )
    stage_id: Mapped[str | None] = text(255)
    position: Mapped[int] = column(
        sa.Integer(), f"{{}} BETWEEN 0 AND {MAX_INTEGER}", "typeof({}) = 'integer'", default=0
    )
    logo_url: Mapped[str | None] = url()
    notes: Mapped[str | None] = text(10_000, searchable=True)
    last_contact: Mapped[datetime | None] = time()
    is_customer: Mapped[bool] = flag()
    created_by: Mapped[str | None] = text(255)


class Contact(Resource):
    """A person, optionally at a company."""

    __tablename__ = "contacts"
    indexed = ("company_id", "email")

    company_id: Mapped[str | None] = company_id()
    name: Mapped[str] = text(255, 1, searchable=True)
    email: Mapped[str | None] = text(255, 3, " AND {} LIKE '_%@_%'", searchable=True)
    phone: Mapped[str | None] = text(255, searchable=True)
    title: Mapped[str | None] = text(255, searchable=True)
    role: Mapped[str | None] = text(255, searchable=True)
    notes: Mapped[str | None] = text(10_000, searchable=True)
    is_primary: Mapped[bool] = flag()
    user_id: Mapped[str | None] = text(255)


class Conversation(Resource):
    """A chat with a visitor of the website."""

    __tablename__ = "conversations"
    indexed = ("company_id", "status")

    company_id: Mapped[str | None] = company_id()
    visitor_name: Mapped[str | None] = text(255, searchable=True)
    visitor_email: Mapped[str | None] = text(255, searchable=True)
    visitor_ip: Mapped[str | None] = text(
        45, 2, sqlite=" AND {} NOT GLOB '*[^0-9A-Fa-f.:]*'", postgresql="{} ~ '^[0-9A-Fa-f.:]+$'"
    )
    user_agent: Mapped[str | None] = text(2048)
    referrer_url: Mapped[str | None] = text(2048, searchable=True)
    page_url: Mapped[str | None] = text(2048, searchable=True)
    status: Mapped[str] = choice(STATUSES, default="open")
    assigned_to_user_id: Mapped[str | None] = text(255)
    is_read: Mapped[bool] = flag()
    trust_uploads: Mapped[bool] = flag()
    tags: Mapped[list[str]] = column(
        sa.JSON().with_variant(JSONB(), "postgresql"),
        "",
        f"json_valid({{}}) AND json_type({{}}) = 'array' AND json_array_length({{}}) <= {MAX_TAGS}",
        f"jsonb_typeof({{}}) = 'array' AND jsonb_array_length({{}}) <= {MAX_TAGS}",
        default=list,
    )
    last_message_at: Mapped[datetime | None] = time()


class ApiKey(Row):
    """An API key's record: its SHA-256, never the key itself."""

    __tablename__ = "api_keys"

    name: Mapped[str] = text(255, 1)
    scope: Mapped[str] = choice(SCOPES, default="read")
    prefix: Mapped[str] = text(8, 8)
    sha256: Mapped[str] = text(64, 64, unique=True)
    expires_at: Mapped[datetime | None] = time()
    last_used_at: Mapped[datetime | None] = time()


class Change(Base):
    """The creation, update or deletion of a row, numbered in commit order; only triggers insert here."""

    __tablename__ = "changes"
    __table_args__ = (sa.Index(None, "resource", "seq"), sa.Index(None, "resource", "row_id", "seq"))

    seq: Mapped[int] = serial(autoincrement=False)
    resource: Mapped[str] = mapped_column(string(16))
    row_id: Mapped[str] = mapped_column(string(64))
    action: Mapped[str] = choice(ACTIONS)
    at: Mapped[datetime] = mapped_column(Time())
    data: Mapped[Any | None] = mapped_column(sa.JSON(none_as_null=True))


class Replay(Base):
    """The response to a request with an Idempotency-Key, kept to be sent again."""

    __tablename__ = "replays"

    api_key_id: Mapped[str] = mapped_column(sa.ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(string(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(string(64))
    status: Mapped[int] = mapped_column(sa.Integer())
    location: Mapped[str | None] = mapped_column(string(255))
    etag: Mapped[str | None] = mapped_column(string(32))
    body: Mapped[str] = mapped_column(sa.Text())
    created_at: Mapped[datetime] = mapped_column(Time(), index=True)


class Session(Base):
    """A browser session, or a one-time sign-in link: the SHA-256 of its token, never the token itself."""

    __tablename__ = "sessions"

    sha256: Mapped[str] = mapped_column(string(64), primary_key=True)
    kind: Mapped[str] = choice(("session", "link"))
    api_key_id: Mapped[str | None] = mapped_column(sa.ForeignKey("api_keys.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime] = mapped_column(Time())


def insert_statement(model: type[Base], insert: Any = sa.insert) -> Any:
    """Return the statement that inserts a row with a value for each column, except the number."""
    table: Any = model.__table__
    columns = [column for column in table.c if column.name != "number"]
    return insert(table).values({column.name: sa.bindparam(column.name, type_=column.type) for column in columns})

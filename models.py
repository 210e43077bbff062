"""What is stored: resources, keys, the change log, and who is signed in. Nothing of HTTP is known here."""

import secrets
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from database import Base

STATUSES = ("open", "pending", "snoozed", "resolved", "closed")
SCOPES = ("read", "write", "admin")
ACTIONS = ("created", "updated", "deleted")
LARGEST_AMOUNT = Decimal("999999999999.99")
LARGEST_POSITION = 2**31 - 1
MOST_TAGS = 50


def now() -> datetime:
    """Return the current time in UTC, in whole seconds, as times are stored and shown."""
    return datetime.now(UTC).replace(microsecond=0)


class Ticks:
    """The time in 48 bits of milliseconds and 12 bits of a fraction of one, later at every call."""

    def __init__(self) -> None:
        self.last, self.lock = 0, threading.Lock()

    def next(self) -> int:
        with self.lock:
            self.last = max(self.last + 1, time.time_ns() * 4096 // 1_000_000)
            return self.last


ticks = Ticks()


def new_id() -> str:
    """Return a UUIDv7 that sorts after every one this process made before (RFC 9562 §5.7, §6.2 method 3)."""
    tick = ticks.next()
    bits = (tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | secrets.randbits(62)
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def show_time(value: datetime) -> str:
    """Return the time as it is stored on SQLite and shown everywhere, as in 2024-01-15T10:30:00Z."""
    return f"{value.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()}Z"


def read_stored_time(value: Any) -> datetime | None:
    """Return the time that a driver gives: text on SQLite, a time already on PostgreSQL."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


class Time(TypeDecorator[datetime]):
    """A time in UTC and whole seconds; on SQLite the text that the API shows, which sorts as the times do."""

    impl = TIMESTAMP(timezone=True, precision=0)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        return sa.Text() if dialect.name == "sqlite" else self.impl_instance

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        return show_time(value) if dialect.name == "sqlite" else value.replace(microsecond=0)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        return read_stored_time(value)


def string(length: int) -> sa.String:
    """Return a text type that sorts by code point on every database."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def column(type_: Any, rule: str = "", sqlite: str = "", postgresql: str = "", **options: Any) -> Any:
    """Declare a column with a CHECK that holds its rule against any writer, each {} standing for the column.

    `sqlite` and `postgresql` add what is said differently there, or left open by the type.
    """
    return mapped_column(type_, info={"rule": rule, "sqlite": sqlite, "postgresql": postgresql}, **options)


@sa.event.listens_for(sa.Table, "after_parent_attach")
def hold_rules(table: sa.Table, _metadata: sa.MetaData) -> None:
    """Turn the rules of the table's columns into named CHECK constraints."""
    for each in table.columns:
        for dialect in ("sqlite", "postgresql"):
            rules = [each.info[part] for part in ("rule", dialect) if each.info.get(part)]
            if rules:
                check = sa.CheckConstraint(" AND ".join(rules).replace("{}", each.name), name=each.name)
                table.append_constraint(check.ddl_if(dialect=dialect))


def text(
    longest: int, shortest: int = 0, rule: str = "", sqlite: str = "", searched: bool = False, **options: Any
) -> Any:
    """Declare a text column, its length in characters; a searched one is found by its words."""
    rule = f"length({{}}) BETWEEN {shortest} AND {longest}{rule}"
    sqlite = f"typeof({{}}) IN ('text', 'null') AND instr({{}}, char(0)) = 0{sqlite}"
    declared = column(string(longest), rule, sqlite, **options)
    declared.column.info["searched"] = searched
    return declared


def url(**options: Any) -> Any:
    """Declare a column for an http or https URL."""
    return text(2048, 1, " AND (lower({}) LIKE 'http://_%' OR lower({}) LIKE 'https://_%')", **options)


def choice(choices: tuple[str, ...], **options: Any) -> Any:
    """Declare a column that holds one of a few words."""
    return column(string(16), f"{{}} IN ({', '.join(map(repr, choices))})", **options)


def flag() -> Any:
    """Declare a boolean column, false unless it is said otherwise."""
    return column(sa.Boolean(), "", "{} IN (0, 1)", default=False)


def moment(**options: Any) -> Any:
    """Declare a column for a time."""
    years = "{} BETWEEN '0001-01-01T00:00:00Z' AND '9999-12-31T23:59:59Z'"
    return column(Time(), "", "strftime('%Y-%m-%dT%H:%M:%SZ', {}) IS {}", years, **options)


def company_id() -> Any:
    """Declare the reference to a company, which becomes null when the company is deleted."""
    return mapped_column(sa.ForeignKey("companies.id", ondelete="SET NULL"))


def serial(**options: Any) -> Any:
    """Declare a primary key that the database counts up."""
    return mapped_column(sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, **options)


class Row(Base):
    """What the resources and keys have in common: a public id, and the time of their creation."""

    __abstract__ = True

    # SQLite's rowid, given a name so that it outlasts a VACUUM: the search index refers to it.
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
    created_at: Mapped[datetime] = moment(default=now, sort_order=1)


class Resource(Row):
    """What companies, contacts and conversations have in common."""

    __abstract__ = True

    updated_at: Mapped[datetime] = moment(sort_order=2)

    # What lists are often filtered on, besides; each list of a value's rows then has its order from the index too.
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
    """A company, with the deal that is under way with it."""

    __tablename__ = "companies"
    indexed = ("name", "website", "stage_id")

    name: Mapped[str] = text(255, 1, searched=True)
    website: Mapped[str | None] = url(searched=True)
    industry: Mapped[str | None] = text(255, searched=True)
    deal_value: Mapped[Decimal | int | float | None] = column(
        # asdecimal=False: SQLite keeps 50000 as an integer and 1999.5 as a double, PostgreSQL both as NUMERIC.
        sa.Numeric(14, 2, asdecimal=False).with_variant(sa.Numeric(asdecimal=False), "postgresql"),
        f"{{}} BETWEEN 0 AND {LARGEST_AMOUNT}",
        "typeof({}) IN ('integer', 'real', 'null') AND round({}, 2) = {}",
        "round({}, 2) = {}",
    )
    stage_id: Mapped[str | None] = text(255)
    position: Mapped[int] = column(
        sa.Integer(), f"{{}} BETWEEN 0 AND {LARGEST_POSITION}", "typeof({}) = 'integer'", default=0
    )
    logo_url: Mapped[str | None] = url()
    notes: Mapped[str | None] = text(10_000, searched=True)
    last_contact: Mapped[datetime | None] = moment()
    is_customer: Mapped[bool] = flag()
    created_by: Mapped[str | None] = text(255)


class Contact(Resource):
    """A person, at a company or at none."""

    __tablename__ = "contacts"
    indexed = ("company_id", "email")

    company_id: Mapped[str | None] = company_id()
    name: Mapped[str] = text(255, 1, searched=True)
    email: Mapped[str | None] = text(255, 3, " AND {} LIKE '_%@_%'", searched=True)
    phone: Mapped[str | None] = text(255, searched=True)
    title: Mapped[str | None] = text(255, searched=True)
    role: Mapped[str | None] = text(255, searched=True)
    notes: Mapped[str | None] = text(10_000, searched=True)
    is_primary: Mapped[bool] = flag()
    user_id: Mapped[str | None] = text(255)


class Conversation(Resource):
    """A chat that a visitor of the website began."""

    __tablename__ = "conversations"
    indexed = ("company_id", "status")

    company_id: Mapped[str | None] = company_id()
    visitor_name: Mapped[str | None] = text(255, searched=True)
    visitor_email: Mapped[str | None] = text(255, searched=True)
    visitor_ip: Mapped[str | None] = text(
        45, 2, sqlite=" AND {} NOT GLOB '*[^0-9A-Fa-f.:]*'", postgresql="{} ~ '^[0-9A-Fa-f.:]+$'"
    )
    user_agent: Mapped[str | None] = text(2048)
    referrer_url: Mapped[str | None] = text(2048, searched=True)
    page_url: Mapped[str | None] = text(2048, searched=True)
    status: Mapped[str] = choice(STATUSES, default="open")
    assigned_to_user_id: Mapped[str | None] = text(255)
    is_read: Mapped[bool] = flag()
    trust_uploads: Mapped[bool] = flag()
    tags: Mapped[list[str]] = column(
        sa.JSON().with_variant(JSONB(), "postgresql"),
        "",
        f"json_valid({{}}) AND json_type({{}}) = 'array' AND json_array_length({{}}) <= {MOST_TAGS}",
        f"jsonb_typeof({{}}) = 'array' AND jsonb_array_length({{}}) <= {MOST_TAGS}",
        default=list,
    )
    last_message_at: Mapped[datetime | None] = moment()


class ApiKey(Row):
    """A key's record: its SHA-256, never the key."""

    __tablename__ = "api_keys"

    name: Mapped[str] = text(255, 1)
    scope: Mapped[str] = choice(SCOPES, default="read")
    prefix: Mapped[str] = text(8, 8)
    sha256: Mapped[str] = text(64, 64, unique=True)
    expires_at: Mapped[datetime | None] = moment()
    last_used_at: Mapped[datetime | None] = moment()


class Change(Base):
    """A row's creation, update or deletion, numbered in commit order; only the database's triggers write here."""

    __tablename__ = "changes"
    __table_args__ = (sa.Index(None, "resource", "seq"), sa.Index(None, "resource", "row_id", "seq"))

    seq: Mapped[int] = serial(autoincrement=False)
    resource: Mapped[str] = mapped_column(string(16))
    row_id: Mapped[str] = mapped_column(string(64))
    action: Mapped[str] = choice(ACTIONS)
    at: Mapped[datetime] = mapped_column(Time())
    data: Mapped[Any | None] = mapped_column(sa.JSON(none_as_null=True))


class Replay(Base):
    """The answer to a request with an Idempotency-Key, kept to be given again."""

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
    """Somebody who is signed in to the pages, or a link that lets somebody in once: its token's SHA-256, no token."""

    __tablename__ = "sessions"

    sha256: Mapped[str] = mapped_column(string(64), primary_key=True)
    kind: Mapped[str] = choice(("session", "link"))
    api_key_id: Mapped[str | None] = mapped_column(sa.ForeignKey("api_keys.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime] = mapped_column(Time())

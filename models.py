"""The tables: resources, API keys, the change log, stored responses, sessions, webhooks. Nothing here knows HTTP."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from database import Base
from database.columns import (
    Time,
    big_integer,
    choice,
    column,
    company_id,
    flag,
    now,
    serial,
    string,
    text,
    time,
    url,
)
from formats.ids import new_id
from formats.matching import ADDRESS, EMAIL, NAME, WEBSITE
from formats.values import MAX_AMOUNT, MAX_INTEGER, MAX_TAGS

STATUSES = ("open", "pending", "snoozed", "resolved", "closed")
SCOPES = ("read", "write", "admin")
ACTIONS = ("created", "updated", "deleted", "forgotten")


class Row(Base):
    """A row with a public id and a creation time: of a resource, an API key or a webhook."""

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

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[sa.Index, ...]:
        return sa.Index(None, "created_at", "id"), sa.Index(None, "updated_at", "id")


class Company(Resource):
    """A company and its current deal."""

    __tablename__ = "companies"

    name: Mapped[str] = text(255, 1, indexed=True, searchable=True, matching=NAME)
    website: Mapped[str | None] = url(indexed=True, searchable=True, matching=WEBSITE)
    industry: Mapped[str | None] = text(255, searchable=True)
    deal_value: Mapped[Decimal | int | float | None] = column(
        # asdecimal=False: SQLite keeps 50000 as an integer and 1999.5 as a double, PostgreSQL both as NUMERIC.
        sa.Numeric(14, 2, asdecimal=False).with_variant(sa.Numeric(asdecimal=False), "postgresql"),
        f"{{}} BETWEEN 0 AND {MAX_AMOUNT}",
        "typeof({}) IN ('integer', 'real', 'null') AND round({}, 2) = {}",
        "round({}, 2) = {}",
    )
    stage_id: Mapped[str | None] = text(255, indexed=True)
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

    company_id: Mapped[str | None] = company_id()
    name: Mapped[str] = text(255, 1, searchable=True, matching=NAME)
    email: Mapped[str | None] = text(255, 3, " AND {} LIKE '_%@_%'", indexed=True, searchable=True, matching=EMAIL)
    phone: Mapped[str | None] = text(255, searchable=True)
    title: Mapped[str | None] = text(255, searchable=True)
    role: Mapped[str | None] = text(255, searchable=True)
    notes: Mapped[str | None] = text(10_000, searchable=True)
    is_primary: Mapped[bool] = flag()
    user_id: Mapped[str | None] = text(255)


class Conversation(Resource):
    """A chat with a visitor of the website."""

    __tablename__ = "conversations"

    company_id: Mapped[str | None] = company_id()
    visitor_name: Mapped[str | None] = text(255, searchable=True)
    visitor_email: Mapped[str | None] = text(255, searchable=True, matching=EMAIL)
    visitor_ip: Mapped[str | None] = text(
        45,
        2,
        sqlite=" AND {} NOT GLOB '*[^0-9A-Fa-f.:]*'",
        postgresql="{} ~ '^[0-9A-Fa-f.:]+$'",
        matching=ADDRESS,
    )
    user_agent: Mapped[str | None] = text(2048)
    referrer_url: Mapped[str | None] = text(2048, searchable=True)
    page_url: Mapped[str | None] = text(2048, searchable=True)
    status: Mapped[str] = choice(STATUSES, default="open", indexed=True)
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


class RolledKey(Base):
    """The SHA-256 of an old key after it was rolled: it is valid until `expires_at`, and has the new key's record."""

    __tablename__ = "rolled_keys"

    sha256: Mapped[str] = mapped_column(string(64), primary_key=True)
    api_key_id: Mapped[str] = mapped_column(sa.ForeignKey("api_keys.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime] = mapped_column(Time())


class KeyUse(Base):
    """The number of requests with an API key in an hour, and of those whose status was 400 or above."""

    __tablename__ = "key_uses"

    api_key_id: Mapped[str] = mapped_column(sa.ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True)
    hour: Mapped[datetime] = mapped_column(Time(), primary_key=True)
    requests: Mapped[int] = mapped_column(sa.Integer())
    errors: Mapped[int] = mapped_column(sa.Integer())


class Dataset(Base):
    """One row: the id of the history that versions belong to, and the oldest version whose rows are still known."""

    __tablename__ = "dataset"

    id: Mapped[str] = mapped_column(string(64), primary_key=True)
    # KEEP_CHANGES may have blanked the data of changes that were superseded up to this version.
    oldest_version: Mapped[int] = mapped_column(big_integer(), server_default=sa.text("0"))


FORGOTTEN = sa.text("action = 'forgotten'")


class Change(Base):
    """The creation, update or deletion of a row, numbered in commit order; only triggers insert here."""

    __tablename__ = "changes"
    __table_args__ = (
        sa.Index(None, "resource", "seq"),
        sa.Index(None, "resource", "row_id", "seq"),
        sa.Index("ix_changes_forgotten", "seq", sqlite_where=FORGOTTEN, postgresql_where=FORGOTTEN),
    )

    seq: Mapped[int] = serial(autoincrement=False)
    resource: Mapped[str] = mapped_column(string(16))
    row_id: Mapped[str] = mapped_column(string(64))
    action: Mapped[str] = choice(ACTIONS)
    at: Mapped[datetime] = mapped_column(Time())
    data: Mapped[Any | None] = mapped_column(sa.JSON(none_as_null=True))


class Write(Base):
    """A transaction that wrote: the range of its changes, its request, and its key, which may be deleted since."""

    __tablename__ = "writes"
    __table_args__ = (sa.Index(None, "key_id", "last_seq"), sa.Index(None, "request_id", "last_seq"))

    first_seq: Mapped[int] = serial(autoincrement=False)
    last_seq: Mapped[int] = mapped_column(big_integer())
    key_id: Mapped[str | None] = mapped_column(string(64))
    request_id: Mapped[str] = mapped_column(string(128))
    at: Mapped[datetime] = mapped_column(Time())


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


class Webhook(Row):
    """A URL that receives changes: its events, its encrypted secrets, and the number of the last change delivered."""

    __tablename__ = "webhooks"

    url: Mapped[str] = url()
    events: Mapped[list[str]] = mapped_column(sa.JSON().with_variant(JSONB(), "postgresql"))
    description: Mapped[str | None] = text(255)
    active: Mapped[bool] = flag(True)
    # Why Cardfile switched it off; null if an admin did.
    reason: Mapped[str | None] = text(500)
    delivered: Mapped[int] = mapped_column(big_integer())
    failures: Mapped[int] = mapped_column(sa.Integer(), default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(Time())
    secret: Mapped[str] = mapped_column(sa.Text())
    previous_secret: Mapped[str | None] = mapped_column(sa.Text())
    previous_until: Mapped[datetime | None] = mapped_column(Time())
    # The Dataset-Id that `delivered` belongs to: a copy of the database sends nothing.
    dataset: Mapped[str] = mapped_column(string(64))
    # Of the process that sends, which writes another text every few seconds.
    lease: Mapped[str | None] = mapped_column(string(64))
    # How many times admins have changed the webhook, and how many times `delivered`.
    revision: Mapped[int] = mapped_column(sa.Integer(), default=0)
    replays: Mapped[int] = mapped_column(sa.Integer(), default=0)
    updated_at: Mapped[datetime] = mapped_column(Time(), sort_order=2)


class WebhookAttempt(Base):
    """An attempt to send a change to a webhook: the answer, or the error if there was none."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (sa.Index(None, "webhook_id", "number"),)

    number: Mapped[int] = serial()
    webhook_id: Mapped[str] = mapped_column(sa.ForeignKey("webhooks.id", ondelete="CASCADE"))
    seq: Mapped[int] = mapped_column(big_integer())
    at: Mapped[datetime] = mapped_column(Time(), index=True)
    status: Mapped[int | None] = mapped_column(sa.Integer())
    ms: Mapped[int] = mapped_column(sa.Integer())
    error: Mapped[str | None] = mapped_column(sa.Text())
    answer: Mapped[str] = mapped_column(sa.Text())

"""Create all tables. Earlier revisions were never released."""

import sqlalchemy as sa
from alembic import op

from migrations.tables import (
    amount,
    boolean,
    choice,
    company_id,
    create_resource,
    create_row_table,
    integer,
    serial,
    string,
    tags,
    text,
    time,
    timestamp,
    url,
)
from migrations.triggers import check_tags, guard_log, release_company_rows

revision = "0004"
down_revision = None


def upgrade() -> None:
    create_log()
    create_companies()
    create_contacts()
    create_conversations()
    release_company_rows("conversations", "contacts")
    create_keys()


def create_log() -> None:
    op.create_table(
        "changes",
        serial("seq", autoincrement=False),
        sa.Column("resource", string(16), nullable=False),
        sa.Column("row_id", string(64), nullable=False),
        *choice("action", "created", "updated", "deleted").items(),
        sa.Column("at", timestamp(), nullable=False),
        sa.Column("data", sa.JSON()),
    )
    op.create_index("ix_changes_resource_seq", "changes", ["resource", "seq"])
    op.create_index("ix_changes_resource_row_id_seq", "changes", ["resource", "row_id", "seq"])
    guard_log()


def create_companies() -> None:
    create_resource(
        "companies",
        text("name", 255, 1, required=True, indexed=True, searchable=True),
        url("website", indexed=True, searchable=True),
        text("industry", 255, searchable=True),
        amount("deal_value"),
        text("stage_id", 255, indexed=True),
        integer("position"),
        url("logo_url"),
        text("notes", 10_000, searchable=True),
        time("last_contact"),
        boolean("is_customer"),
        text("created_by", 255),
    )


def create_contacts() -> None:
    create_resource(
        "contacts",
        company_id(),
        text("name", 255, 1, required=True, searchable=True),
        text("email", 255, 3, " AND {0} LIKE '_%@_%'", indexed=True, searchable=True),
        text("phone", 255, searchable=True),
        text("title", 255, searchable=True),
        text("role", 255, searchable=True),
        text("notes", 10_000, searchable=True),
        boolean("is_primary"),
        text("user_id", 255),
    )


def create_conversations() -> None:
    address = " AND {0} NOT GLOB '*[^0-9A-Fa-f.:]*'", "{0} ~ '^[0-9A-Fa-f.:]+$'"
    create_resource(
        "conversations",
        company_id(),
        text("visitor_name", 255, searchable=True),
        text("visitor_email", 255, searchable=True),
        text("visitor_ip", 45, 2, "", *address),
        text("user_agent", 2048),
        text("referrer_url", 2048, searchable=True),
        text("page_url", 2048, searchable=True),
        choice("status", "open", "pending", "snoozed", "resolved", "closed", indexed=True),
        text("assigned_to_user_id", 255),
        boolean("is_read"),
        boolean("trust_uploads"),
        tags("tags"),
        time("last_message_at"),
    )
    check_tags("conversations")


def create_keys() -> None:
    create_row_table(
        "api_keys",
        text("name", 255, 1, required=True),
        choice("scope", "read", "write", "admin"),
        text("prefix", 8, 8, required=True),
        text("sha256", 64, 64, required=True),
        time("expires_at"),
        time("last_used_at"),
        time("created_at", required=True),
        unique=("sha256",),
    )
    op.create_table(
        "replays",
        sa.Column("api_key_id", string(64), primary_key=True),
        sa.Column("idempotency_key", string(255), primary_key=True),
        sa.Column("fingerprint", string(64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("location", string(255)),
        sa.Column("etag", string(32)),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", timestamp(), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], ondelete="CASCADE"),
    )
    op.create_index("ix_replays_created_at", "replays", ["created_at"])
    op.create_table(
        "sessions",
        sa.Column("sha256", string(64), primary_key=True),
        *choice("kind", "session", "link").items(),
        sa.Column("api_key_id", string(64)),
        sa.Column("expires_at", timestamp(), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], ondelete="CASCADE"),
    )

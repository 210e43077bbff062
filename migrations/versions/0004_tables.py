"""Create all tables."""

import sqlalchemy as sa
from alembic import op

from migrations.resources import RESOURCES
from migrations.tables import choice, create_resource, create_row_table, serial, string, text, time, timestamp
from migrations.triggers import CLOCK, check_tags, guard_log, release_company_rows

revision = "0004"
down_revision = None


def upgrade() -> None:
    create_log()
    for name, columns in RESOURCES.items():
        create_resource(name, *columns, present="<> 'deleted'", time_of_change=CLOCK, with_accents=False)
    check_tags("conversations")
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

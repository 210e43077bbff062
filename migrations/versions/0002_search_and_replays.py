"""Index the resources' text; keep the answers to requests that may be sent twice."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

from migrations.search import create_search

revision = "0002"
down_revision = "0001"


def string(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "replays",
        sa.Column("api_key_id", string(64), primary_key=True),
        sa.Column("idempotency_key", string(255), primary_key=True),
        sa.Column("fingerprint", string(64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("location", string(255)),
        sa.Column("etag", string(32)),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column(
            "created_at", TIMESTAMP(timezone=True, precision=0).with_variant(sa.Text(), "sqlite"), nullable=False
        ),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], ondelete="CASCADE"),
    )
    op.create_index("ix_replays_created_at", "replays", ["created_at"])
    create_search("companies", "name", "website", "industry", "notes")
    create_search("contacts", "name", "email", "phone", "title", "role", "notes")
    create_search("conversations", "visitor_name", "visitor_email", "referrer_url", "page_url")

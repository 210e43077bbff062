"""Keep webhooks and the attempts to send to them."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.tables import Column, big_integer, boolean, create_row_table, serial, string, text, time, timestamp, url

revision = "0008"
down_revision = "0007"


def column(name: str, type_: Any, required: bool = False) -> Column:
    return Column(name, lambda: [sa.Column(name, type_, nullable=not required)])


def upgrade() -> None:
    create_row_table(
        "webhooks",
        url("url", required=True),
        column("events", sa.JSON().with_variant(JSONB(), "postgresql"), required=True),
        text("description", 255),
        boolean("active"),
        text("reason", 500),
        column("delivered", big_integer(), required=True),
        column("failures", sa.Integer(), required=True),
        column("next_attempt_at", timestamp()),
        column("secret", sa.Text(), required=True),
        column("previous_secret", sa.Text()),
        column("previous_until", timestamp()),
        column("dataset", string(64), required=True),
        column("lease", string(64)),
        column("revision", sa.Integer(), required=True),
        column("replays", sa.Integer(), required=True),
        time("created_at", required=True),
        column("updated_at", timestamp(), required=True),
    )
    op.create_table(
        "webhook_attempts",
        serial("number"),
        sa.Column("webhook_id", string(64), nullable=False),
        sa.Column("seq", big_integer(), nullable=False),
        sa.Column("at", timestamp(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("ms", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], ondelete="CASCADE"),
    )
    op.create_index("ix_webhook_attempts_webhook_id_number", "webhook_attempts", ["webhook_id", "number"])
    op.create_index("ix_webhook_attempts_at", "webhook_attempts", ["at"])

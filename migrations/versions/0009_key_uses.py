"""Count the requests with each API key, hour by hour."""

import sqlalchemy as sa
from alembic import op

from migrations.tables import string, timestamp

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "key_uses",
        sa.Column("api_key_id", string(64), primary_key=True),
        sa.Column("hour", timestamp(), primary_key=True),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], ondelete="CASCADE"),
    )

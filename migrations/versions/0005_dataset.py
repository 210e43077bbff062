"""Name the history that the change log's numbers belong to, keep the API keys that were rolled, allow erasure."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

from migrations.resources import RESOURCES
from migrations.tables import log_columns, string, timestamp
from migrations.triggers import allow_erasure

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    dataset = op.create_table("dataset", sa.Column("id", string(64), primary_key=True))
    op.bulk_insert(dataset, [{"id": str(uuid4())}])
    op.create_table(
        "rolled_keys",
        sa.Column("sha256", string(64), primary_key=True),
        sa.Column("api_key_id", string(64), nullable=False),
        sa.Column("expires_at", timestamp(), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], ondelete="CASCADE"),
    )
    allow_erasure({name: log_columns(columns) for name, columns in RESOURCES.items()})

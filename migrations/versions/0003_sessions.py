"""Keep who is signed in to the pages."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0003"
down_revision = "0002"


def string(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("sha256", string(64), primary_key=True),
        sa.Column("kind", string(16), nullable=False),
        sa.Column("api_key_id", string(64)),
        sa.Column(
            "expires_at", TIMESTAMP(timezone=True, precision=0).with_variant(sa.Text(), "sqlite"), nullable=False
        ),
        sa.CheckConstraint("kind IN ('session', 'link')", name="kind"),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], ondelete="CASCADE"),
    )

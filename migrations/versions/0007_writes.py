"""Keep, for each transaction that writes, the range of its changes, its API key and its request."""

import sqlalchemy as sa
from alembic import op

from migrations.tables import big_integer, serial, string, timestamp
from migrations.triggers import allow_blanking, is_postgresql, refuse, refuse_truncate

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "writes",
        serial("first_seq", autoincrement=False),
        sa.Column("last_seq", big_integer(), nullable=False),
        sa.Column("key_id", string(64)),
        sa.Column("request_id", string(128), nullable=False),
        sa.Column("at", timestamp(), nullable=False),
    )
    op.create_index("ix_writes_key_id_last_seq", "writes", ["key_id", "last_seq"])
    op.create_index("ix_writes_request_id_last_seq", "writes", ["request_id", "last_seq"])
    op.add_column("dataset", sa.Column("oldest_version", big_integer(), nullable=False, server_default=sa.text("0")))
    forgotten = sa.text("action = 'forgotten'")
    op.create_index("ix_changes_forgotten", "changes", ["seq"], sqlite_where=forgotten, postgresql_where=forgotten)
    allow_blanking("seq > OLD.seq AND seq <= (SELECT oldest_version FROM dataset)", "action = 'forgotten'")
    sentence = "the writes are part of the change log, which is only ever added to"
    for verb in "UPDATE", "DELETE":
        refuse(f"writes_keep_{verb.lower()}", f"BEFORE {verb} ON writes", "", sentence)
    if is_postgresql():
        refuse_truncate("writes", sentence)

"""Name the history that the change log's numbers belong to, keep the API keys that were rolled, allow erasure."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

from migrations.resources import RESOURCES
from migrations.tables import log_columns, string, timestamp
from migrations.triggers import allow_erasure, index_accents, is_postgresql

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
    match_by_value()
    for name, columns in RESOURCES.items():
        index_accents(name, [column.name for column in columns if column.searchable])


def match_by_value() -> None:
    """Index names, websites and e-mail addresses by the SQL that compares them, and compare IP addresses by value."""
    position = "strpos" if is_postgresql() else "instr"
    slash = f"{position}(substr(website, 9), '/')"
    website = (
        f"(CASE {slash} WHEN 0 THEN lower(website)"
        f" ELSE lower(substr(website, 1, 7 + {slash})) || substr(website, 8 + {slash}) END)"
    )
    keys = (
        ("companies", "name", "lower(name)"),
        ("companies", "website", website),
        ("contacts", "email", "lower(email)"),
    )
    for table, column, sql in keys:
        name = f"ix_{table}_{column}_created_at_id"
        op.drop_index(name, table)
        op.create_index(name, table, [sa.text(sql), "created_at", "id"])
    if is_postgresql():
        # A cast would raise an error for a text that is no address.
        op.execute(
            "CREATE FUNCTION ip_value(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS"
            " $$ BEGIN RETURN host($1::inet); EXCEPTION WHEN data_exception THEN RETURN NULL; END $$"
        )

"""Name the history that the change log's numbers belong to."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

from migrations.tables import string

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    dataset = op.create_table("dataset", sa.Column("id", string(64), primary_key=True))
    op.bulk_insert(dataset, [{"id": str(uuid4())}])

"""Log no time before that of the last change."""

from migrations.resources import RESOURCES
from migrations.tables import log_columns
from migrations.triggers import log_changes

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for name, columns in RESOURCES.items():
        log_changes(name, log_columns(columns))

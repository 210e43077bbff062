"""Retention: the data of changes that were superseded long ago is blanked, and versions before that are 410."""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from api.as_of import version_at
from api.changes import VERSIONS
from api.feed import bind, is_same_row
from database.columns import earliest_now
from database.connection import execute
from formats.values import format_time
from models import Change, Dataset

# Blanking this many takes about a tenth of a second, in which other writers wait.
MAX_CHANGES = 2_000
later, earlier = aliased(Change), aliased(Change)
SUPERSEDED = sa.select(sa.func.max(earlier.seq)).where(is_same_row(earlier, later), earlier.seq < later.seq)
OLD = sa.select(SUPERSEDED.scalar_subquery()).where(later.seq > bind("since"), later.seq <= bind("until"))
BLANK_OLD = sa.update(Change).where(Change.seq.in_(OLD), Change.data.is_not(None)).values(data=sa.null())
SET_OLDEST = sa.update(Dataset).values(oldest_version=bind("until"))


def blank_old_data(days: int) -> bool:
    """Blank some changes that were superseded more than `days` days ago, inside a writing transaction.

    Return whether more are left. The oldest version becomes the last of the changes that are so old.
    """
    newest, oldest = execute(VERSIONS).fetchone()
    horizon = version_at(format_time(earliest_now() - timedelta(days=days)), newest)
    until: int = min(oldest + MAX_CHANGES, horizon)
    if until > oldest:
        execute(SET_OLDEST, until=until)
        execute(BLANK_OLD, since=oldest, until=until)
    return until < horizon

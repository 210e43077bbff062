"""The change log as an outbox: webhooks with changes to send, their leases, messages and progress."""

import json
from collections import namedtuple
from collections.abc import Iterable
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import sqlalchemy as sa

from api.changes import LAST_CHANGE
from api.feed import bind, entry
from api.json_sql import json_object, json_text, json_value, number
from api.resources import ENDPOINTS
from database.columns import clock, from_driver
from database.connection import execute, execute_many, write_transaction
from database.statement import insert_statement
from formats.ids import new_id
from models import Change, Dataset, Webhook, WebhookAttempt
from webhooks.schema import EVENTS

PAGE_SIZE = 100
# The changes that one statement searches.
MAX_RANGE = 10_000

# A webhook with changes to send.
Due = namedtuple("Due", "id lease next_attempt_at")
# A webhook as it was when its lease began, and the lease.
Claim = namedtuple(
    "Claim",
    "id url number dataset delivered failures revision replays secret previous_secret previous_until events lease",
)

NEWEST = LAST_CHANGE.scalar_subquery()
LAG = sa.case((Webhook.delivered < NEWEST, NEWEST - Webhook.delivered), else_=number(0))
LAGS = sa.select(Webhook.id, LAG, Webhook.failures).order_by(Webhook.number)
OF_WEBHOOK = Webhook.id == sa.bindparam("webhook_id")
HAS_LEASE = Webhook.lease == sa.bindparam("seen_lease")
# No webhook that was copied with its database sends, and none in a sandbox.
IS_SANDBOX = sa.select(Dataset.id.endswith("-sandbox")).scalar_subquery()
IS_OWN = sa.and_(Webhook.dataset == sa.select(Dataset.id).scalar_subquery(), sa.not_(IS_SANDBOX))
FIND_DUE = sa.select(Webhook.id, Webhook.lease, Webhook.next_attempt_at).where(
    Webhook.active, Webhook.delivered < NEWEST, IS_OWN
)
IS_AS_FOUND = (
    Webhook.lease.is_not_distinct_from(sa.bindparam("seen_lease")),
    Webhook.next_attempt_at.is_not_distinct_from(sa.bindparam("seen_time")),
)
CLAIM = (
    sa.update(Webhook)
    .where(OF_WEBHOOK, Webhook.active, *IS_AS_FOUND)
    .values(lease=sa.bindparam("new_lease"))
    .returning(*(getattr(Webhook, name) for name in Claim._fields[:-2]), sa.cast(Webhook.events, sa.Text()))
)
PROGRESS = ("delivered", "failures", "next_attempt_at", "active", "reason")
SAVE = (
    sa.update(Webhook)
    .where(OF_WEBHOOK, HAS_LEASE, Webhook.revision == sa.bindparam("seen_revision"))
    .values(lease=sa.bindparam("new_lease"), **{name: sa.bindparam(name) for name in PROGRESS})
)
# After a change by an admin: what was sent counts, unless it was a replay.
SENT = sa.case((Webhook.replays == sa.bindparam("seen_replays"), sa.bindparam("sent")), else_=Webhook.delivered)
FIND_NEWEST = sa.select(NEWEST).where(OF_WEBHOOK, IS_OWN, Webhook.revision == sa.bindparam("seen_revision"))
RELEASE = sa.update(Webhook).where(OF_WEBHOOK, HAS_LEASE).values(lease=sa.null(), delivered=SENT)


def steady_now(later: timedelta = timedelta()) -> datetime:
    """Return the time, or a later one, by the monotonic clock, which can't be set; in whole seconds, rounded down."""
    return (clock.read()[1] + later).replace(microsecond=0)


def find_due() -> list[Due]:
    """Return the webhooks with changes to send, now or later."""
    return [Due(row[0], row[1], from_driver(row[2])) for row in execute(FIND_DUE).fetchall()]


def claim(due: Due) -> Claim | None:
    """Return a webhook with a new lease, or None if it has changed since it was found."""
    lease, seen = new_id(), {"seen_lease": due.lease, "seen_time": due.next_attempt_at}
    with write_transaction():
        row = execute(CLAIM, webhook_id=due.id, new_lease=lease, **seen).fetchone()
    return Claim(*[*row[:-2], from_driver(row[-2]), tuple(json.loads(row[-1])), lease]) if row else None


def save(claimed: Claim, new_lease: str | None, attempts: Iterable[Any], progress: dict[str, Any]) -> bool:
    """Store the progress and the attempts, and replace the lease; tell whether it was still valid."""
    own = {"webhook_id": claimed.id, "seen_lease": claimed.lease}
    with write_transaction():
        is_current = execute(SAVE, **own, seen_revision=claimed.revision, new_lease=new_lease, **progress).rowcount
        # Else an admin has changed the webhook, or another process has claimed it.
        sent = {"seen_replays": claimed.replays, "sent": progress["delivered"]}
        if is_current or execute(RELEASE, **own, **sent).rowcount:
            execute_many(insert_statement, WebhookAttempt, rows=attempts)
    return bool(is_current)


def read_messages(claimed: Claim, after: int) -> tuple[list[tuple[int, bytes]], int] | None:
    """Return the next messages, each with its number, and the number of the last change that was searched.

    Return None if an admin has changed or deleted the webhook since it was claimed, or the database was restored.
    """
    if (row := execute(FIND_NEWEST, webhook_id=claimed.id, seen_revision=claimed.revision).fetchone()) is None:
        return None
    until = min(after + MAX_RANGE, row[0])
    found = execute(messages_query, claimed.events, after=after, until=until).fetchall() if until > after else []
    messages = [(seq, body.encode()) for seq, body in found]
    return messages, messages[-1][0] if len(messages) == PAGE_SIZE else max(until, after)


def messages_query(events: tuple[str, ...]) -> sa.Select[*tuple[Any, ...]]:
    """Return the query for the number and the body (Standard Webhooks 1.0.0) of each change of some events."""
    prefixes = {each.name: f"{each.singular}." for each in ENDPOINTS.values()}
    event = sa.case(prefixes, value=Change.resource) + Change.action
    selected = [event == each for each in EVENTS if any(fnmatchcase(each, pattern) for pattern in events)]
    data = entry(Change, {"data": json_text(Change.data)})
    body = sa.cast(json_object({"type": event, "timestamp": json_value(Change.at), "data": data}), sa.Text())
    in_range = Change.seq > bind("after"), Change.seq <= bind("until")
    query = sa.select(Change.seq, body).where(*in_range, sa.or_(*selected))
    return query.order_by(Change.seq).limit(number(PAGE_SIZE)).offset(number(0))

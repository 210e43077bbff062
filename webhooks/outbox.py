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
from database.columns import clock
from database.connection import execute, execute_many, write_transaction
from database.statement import insert_statement
from models import Change, Dataset, Webhook, WebhookAttempt
from webhooks.schema import EVENTS

PAGE_SIZE = 100
# The changes that one statement searches.
MAX_RANGE = 10_000

# A webhook with changes to send, as it was when it was read, or with the progress since.
Due = namedtuple(
    "Due",
    "id url dataset secret previous_secret previous_until revision replays"
    " lease delivered failures next_attempt_at active reason events",
)
PROGRESS = ("lease", "delivered", "failures", "next_attempt_at", "active", "reason")

NEWEST = LAST_CHANGE.scalar_subquery()
LAG = sa.case((Webhook.delivered < NEWEST, NEWEST - Webhook.delivered), else_=number(0))
LAGS = sa.select(Webhook.id, LAG, Webhook.failures).order_by(Webhook.number)
OF_WEBHOOK = Webhook.id == sa.bindparam("webhook_id")
# No webhook that was copied with its database sends, and none in a sandbox.
IS_SANDBOX = sa.select(Dataset.id.endswith("-sandbox")).scalar_subquery()
IS_OWN = sa.and_(Webhook.dataset == sa.select(Dataset.id).scalar_subquery(), sa.not_(IS_SANDBOX))
FIND_DUE = sa.select(*(getattr(Webhook, name) for name in Due._fields[:-1]), sa.cast(Webhook.events, sa.Text())).where(
    Webhook.active, sa.or_(Webhook.delivered < NEWEST, Webhook.lease.is_not(None)), IS_OWN
)
# A webhook is stored only if it is still as it was read: it may have been changed by an admin, or another process.
SEEN = ("lease", "revision", "delivered", "failures", "active")
IS_AS_SEEN = [getattr(Webhook, name).is_not_distinct_from(sa.bindparam(f"seen_{name}")) for name in SEEN]
SAVE = sa.update(Webhook).where(OF_WEBHOOK, *IS_AS_SEEN).values({name: sa.bindparam(name) for name in PROGRESS})
# After a change by an admin: what was sent counts, unless it was a replay.
SENT = sa.case((Webhook.replays == sa.bindparam("seen_replays"), sa.bindparam("sent")), else_=Webhook.delivered)
HAS_LEASE = Webhook.lease == sa.bindparam("seen_lease")
RELEASE = sa.update(Webhook).where(OF_WEBHOOK, HAS_LEASE).values(lease=sa.null(), delivered=SENT)
FIND_NEWEST = sa.select(NEWEST).where(OF_WEBHOOK, IS_OWN, Webhook.revision == sa.bindparam("seen_revision"))


def steady_now(later: timedelta = timedelta()) -> datetime:
    """Return the time, or a later one, by the monotonic clock, which can't be set; in whole seconds, rounded down."""
    return (clock.read()[1] + later).replace(microsecond=0)


def find_due() -> list[Due]:
    """Return the webhooks with changes to send, now or later, or a lease; times and events have the driver's types."""
    return [Due(*row) for row in execute(FIND_DUE).fetchall()]


def save(stored: Due, new: Due, attempts: Iterable[Any] = ()) -> bool:
    """Store the progress, the lease and the attempts; tell whether the webhook was still as it was stored before."""
    seen = {f"seen_{name}": getattr(stored, name) for name in (*SEEN, "replays")}
    values = {name: getattr(new, name) for name in PROGRESS}
    with write_transaction():
        is_current = execute(SAVE, webhook_id=stored.id, **seen, **values).rowcount
        # Else an admin has changed the webhook, or another process has claimed it.
        if is_current or execute(RELEASE, webhook_id=stored.id, **seen, sent=new.delivered).rowcount:
            execute_many(insert_statement, WebhookAttempt, rows=attempts)
    return bool(is_current)


def read_messages(due: Due, after: int) -> tuple[list[tuple[int, bytes]], int] | None:
    """Return the next messages, each with its number, and the number of the last change that was searched.

    Return None if an admin has changed or deleted the webhook since it was claimed, or the database was restored.
    """
    if (row := execute(FIND_NEWEST, webhook_id=due.id, seen_revision=due.revision).fetchone()) is None:
        return None
    until = min(after + MAX_RANGE, row[0])
    found = execute(messages_query, due.events, after=after, until=until).fetchall() if until > after else []
    messages = [(seq, body.encode()) for seq, body in found]
    return messages, messages[-1][0] if len(messages) == PAGE_SIZE else until


def messages_query(events: str) -> sa.Select[*tuple[Any, ...]]:
    """Return the query for the number and the body (Standard Webhooks 1.0.0) of each change of some events, as JSON."""
    prefixes = {each.name: f"{each.singular}." for each in ENDPOINTS.values()}
    event = sa.case(prefixes, value=Change.resource) + Change.action
    selected = [event == each for each in EVENTS if any(fnmatchcase(each, pattern) for pattern in json.loads(events))]
    data = entry(Change, {"data": json_text(Change.data)})
    body = sa.cast(json_object({"type": event, "timestamp": json_value(Change.at), "data": data}), sa.Text())
    in_range = Change.seq > bind("after"), Change.seq <= bind("until")
    query = sa.select(Change.seq, body).where(*in_range, sa.or_(*selected))
    return query.order_by(Change.seq).limit(number(PAGE_SIZE)).offset(number(0))

"""The change log as an outbox: webhooks with changes to send, their leases, messages and progress."""

import json
from collections import namedtuple
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from api.changes import LAST_CHANGE, VERSIONS
from api.feed import bind, entry
from api.json_sql import json_text, number
from database.columns import clock, earliest_now, from_driver
from database.connection import execute, execute_many, write_transaction
from database.statement import insert_statement
from formats.ids import new_id
from formats.values import format_time
from models import Change, Dataset, Webhook, WebhookAttempt
from webhooks.schema import SINGULARS

PAGE_SIZE = 100
# The changes that one statement searches.
MAX_RANGE = 10_000
KEPT_DAYS, MAX_CLEANED = 7, 10_000
COPIED = "The database was restored or copied: check what the receiver has, then enable the webhook."
# The Dataset-Id of a sandbox ends so.
SANDBOX = "-sandbox"

NEWEST = LAST_CHANGE.scalar_subquery()
LAGS = sa.select(Webhook.id, NEWEST - Webhook.delivered, Webhook.failures).order_by(Webhook.number)
OF_WEBHOOK = Webhook.id == sa.bindparam("webhook_id")


def typed(name: str, column: Any) -> sa.BindParameter[Any]:
    """Return a parameter of the type of a column."""
    return sa.bindparam(name, type_=column.type)


SEEN, NEXT = typed("seen", Webhook.lease), typed("new_lease", Webhook.lease)
IS_SENDING = Dataset.id.not_like(sa.literal_column(f"'%{SANDBOX}'"))
FIND_DUE = (
    sa.select(Webhook.id, Webhook.lease, Webhook.next_attempt_at, Webhook.dataset == Dataset.id)
    .join_from(Webhook, Dataset, sa.true())
    .where(Webhook.active, sa.or_(sa.and_(Webhook.delivered < NEWEST, IS_SENDING), Webhook.dataset != Dataset.id))
)
SEEN_TIME = typed("seen_time", Webhook.next_attempt_at)
IS_AS_SEEN = Webhook.lease.is_not_distinct_from(SEEN), Webhook.next_attempt_at.is_not_distinct_from(SEEN_TIME)
CLAIM = sa.update(Webhook).where(OF_WEBHOOK, Webhook.active, *IS_AS_SEEN).values(lease=NEXT)
PROGRESS = ("delivered", "failures", "next_attempt_at", "active", "reason")
SAVE = sa.update(Webhook).where(OF_WEBHOOK, Webhook.lease == SEEN, Webhook.revision == sa.bindparam("seen_revision"))
SAVE = SAVE.values(lease=NEXT, **{name: typed(name, getattr(Webhook, name)) for name in PROGRESS})
# After a change by an admin: unless they set the number, what was sent counts.
IS_NO_REPLAY = Webhook.replays == sa.bindparam("seen_replays")
SENT = sa.case((IS_NO_REPLAY, typed("sent", Webhook.delivered)), else_=Webhook.delivered)
RELEASE = sa.update(Webhook).where(OF_WEBHOOK, Webhook.lease == SEEN).values(lease=sa.null(), delivered=SENT)
OF_ANOTHER = sa.and_(Webhook.active, Webhook.dataset != sa.select(Dataset.id).scalar_subquery())
LOSE_HISTORY = sa.update(Webhook).where(OF_ANOTHER).values(active=sa.false(), reason=sa.bindparam("reason"))
OLD = sa.select(WebhookAttempt.number).where(WebhookAttempt.at <= typed("until", WebhookAttempt.at))
CLEAN = sa.delete(WebhookAttempt).where(WebhookAttempt.number.in_(OLD.limit(number(MAX_CLEANED)).offset(number(0))))


# A webhook with changes to send; `is_own` unless it belongs to another history.
Due = namedtuple("Due", "id lease next_attempt_at is_own")
# A webhook as it was when its lease began, and the lease.
Claim = namedtuple(
    "Claim",
    "id url number dataset delivered failures revision replays secret previous_secret previous_until events lease",
)
COLUMNS = [getattr(Webhook, name) for name in Claim._fields[:-2]]
CLAIM_AND_READ = CLAIM.returning(*COLUMNS, sa.cast(Webhook.events, sa.Text()))


def steady_now(later: timedelta = timedelta()) -> datetime:
    """Return the time, or a later one, by the monotonic clock, which can't be set; in whole seconds, rounded down."""
    return (clock.read()[1] + later).replace(microsecond=0)


def find_due() -> list[Due]:
    """Return the webhooks with changes to send, now or later; disable those of another history."""
    found = [Due(row[0], row[1], from_driver(row[2]), bool(row[3])) for row in execute(FIND_DUE).fetchall()]
    if not all(each.is_own for each in found):
        with write_transaction():
            execute(LOSE_HISTORY, reason=COPIED)
    return [each for each in found if each.is_own]


def claim(due: Due) -> Claim | None:
    """Return a webhook with a new lease, or None if it has changed since it was found."""
    lease, seen = new_id(), {"seen": due.lease, "seen_time": due.next_attempt_at}
    with write_transaction():
        row = execute(CLAIM_AND_READ, webhook_id=due.id, new_lease=lease, **seen).fetchone()
    return Claim(*[*row[:-2], from_driver(row[-2]), tuple(json.loads(row[-1])), lease]) if row else None


def save(claimed: Claim, lease: str, attempts: Iterable[dict[str, Any]], last: bool, progress: dict[str, Any]) -> str:
    """Store the progress and the attempts; return the next lease, or "" if it is over: the last, lost, or outdated."""
    new_lease = None if last else new_id()
    own = {"webhook_id": claimed.id, "seen": lease}
    with write_transaction():
        is_current = execute(SAVE, **own, seen_revision=claimed.revision, new_lease=new_lease, **progress).rowcount
        # Else an admin has changed the webhook, or another process has taken it over.
        sent = {"seen_replays": claimed.replays, "sent": progress["delivered"]}
        if is_current or execute(RELEASE, **own, **sent).rowcount:
            execute_many(insert_statement, WebhookAttempt, rows=[{"webhook_id": claimed.id, **row} for row in attempts])
    return (new_lease if is_current else None) or ""


def read_messages(events: tuple[str, ...], after: int) -> tuple[list[tuple[int, bytes]], int]:
    """Return the number and the body of each of the next messages, and up to which number these are all."""
    until = min(after + MAX_RANGE, execute(VERSIONS).fetchone()[0])
    found = execute(messages_query, events, after=after, until=until).fetchall() if until > after else []
    messages = [(row[0], message_body(*row[1:])) for row in found]
    return messages, messages[-1][0] if len(messages) == PAGE_SIZE else max(until, after)


def messages_query(events: tuple[str, ...]) -> sa.Select[Any]:
    """Return the query for the changes of some events: number, resource, action, time, and the feed's entry."""
    matches: list[Any] = [sa.true()] if "*" in events else []
    for singular, _dot, action in (event.partition(".") for event in events if event != "*"):
        is_of_action = sa.true() if action == "*" else Change.action == sa.literal_column(f"'{action}'")
        matches.append(sa.and_(Change.resource == sa.literal_column(f"'{SINGULARS[singular]}'"), is_of_action))
    text = sa.cast(entry(Change, {"data": json_text(Change.data)}), sa.Text())
    columns: list[Any] = [Change.seq, Change.resource, Change.action, Change.at, text]
    query = sa.select(*columns).where(Change.seq > bind("after"), Change.seq <= bind("until"), sa.or_(*matches))
    return query.order_by(Change.seq).limit(number(PAGE_SIZE)).offset(number(0))


def message_body(resource: str, action: str, at: Any, data: str) -> bytes:
    """Return the body of a message (Standard Webhooks 1.0.0): `data` is the entry of the feed."""
    singular = next(singular for singular, name in SINGULARS.items() if name == resource)
    time = format_time(datetime.fromisoformat(str(at)))
    return f'{{"type":"{singular}.{action}","timestamp":"{time}","data":{data}}}'.encode()


def delete_old_attempts() -> bool:
    """Delete some attempts of more than a week ago, inside a writing transaction; tell whether more may be left."""
    return bool(execute(CLEAN, until=earliest_now() - timedelta(days=KEPT_DAYS)).rowcount == MAX_CLEANED)

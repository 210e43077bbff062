"""The last use and the uses per hour of API keys, stored by a thread, which also deletes expired rows."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, current_app, g

from api.json_sql import number
from database import backend
from database.columns import earliest_now, now
from database.connection import discard_connections, execute, execute_many, write_transaction
from database.identity import LostFile
from models import ApiKey, KeyUse, Replay, RolledKey, Session, WebhookAttempt

# The columns from whose times rows expire, after how long, and how many rows one transaction deletes.
EXPIRING = dict.fromkeys((RolledKey.expires_at, Session.expires_at), timedelta())
EXPIRING |= {Replay.created_at: timedelta(hours=24), KeyUse.hour: timedelta(hours=25)}
EXPIRING[WebhookAttempt.at] = timedelta(days=7)
MAX_DELETED = 10_000
CLEANING_SECONDS = 3600
COUNTING_SECONDS = 60
EPOCH = datetime.fromtimestamp(0, UTC)
MINUTE = sa.bindparam("minute", type_=ApiKey.last_used_at.type)
IS_EARLIER = sa.or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < MINUTE)
SET_LAST_USE = sa.update(ApiKey).where(ApiKey.id == sa.bindparam("key_id"), IS_EARLIER).values(last_used_at=MINUTE)

log = logging.getLogger("cardfile")


def init_key_uses(app: Flask) -> None:
    """Count the requests of the app by their keys."""
    last_use = app.extensions["last_use"] = LastUse(app)
    # Servers call start() of these in each process that answers requests, and stop() at its end.
    app.extensions["background"] = [last_use]
    app.after_request(count_use)


def count_use(response: Response) -> Response:
    """Count the request as a use of its key."""
    if "key" in g:
        last_use = current_app.extensions["last_use"]
        last_use.uses.append(g.key.id)
        if response.status_code >= 400:
            last_use.errors.append(g.key.id)
    return response


class LastUse:
    """Stores the uses of keys in a thread, so that no request waits for it, and deletes expired rows once an hour."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.noted: dict[str, int] = {}
        # The key ids of requests, and of requests that got an error, until the thread counts and stores them.
        self.uses, self.errors = deque[str](), deque[str]()
        self.is_stopped = threading.Event()
        self.next_cleaning = 0.0
        # Functions that delete some old data, inside a writing transaction, and tell whether more is left.
        self.cleanings: list[Callable[[], bool]] = []
        self.writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="last-use")

    def note(self, key_id: str) -> None:
        """Store the current minute, unless it is stored already."""
        minute = int(time.time()) // 60
        if self.noted.get(key_id) != minute:
            self.noted[key_id] = minute
            self.writer.submit(self.write, key_id, datetime.fromtimestamp(minute * 60, UTC))

    def write(self, key_id: str = "", minute: datetime = EPOCH) -> None:
        """Store one key's last use, and the uses of all keys; if the database is locked or gone, only log that."""
        with self.app.app_context():
            try:
                with write_transaction():
                    execute(SET_LAST_USE, key_id=key_id, minute=minute)
                    execute_many(add_uses, rows=self.take_uses())
                    if time.monotonic() >= self.next_cleaning:
                        self.next_cleaning = time.monotonic() + CLEANING_SECONDS
                        if any([*map(delete_expired, EXPIRING), *(clean() for clean in self.cleanings)]):
                            self.next_cleaning = 0.0
                            # RuntimeError: after stop(), the rest is left to the next start.
                            with suppress(RuntimeError):
                                self.writer.submit(self.write)
            except Exception as error:
                discard_connections(error)
                reason = error if isinstance(error, LostFile) else type(error).__name__
                log.warning("The uses of keys were not stored, and no expired rows deleted: %s", reason)

    def take_uses(self) -> list[dict[str, Any]]:
        """Return how often each key was used since the last call, as rows for add_uses()."""
        uses, errors = (Counter(each.popleft() for _use in range(len(each))) for each in (self.uses, self.errors))
        hour = now().replace(minute=0, second=0)
        return [{"id": key, "hour": hour, "requests": uses[key], "errors": errors[key]} for key in uses]

    def start(self) -> None:
        """Delete expired rows now and then hourly, also without requests; store uses each minute."""
        self.writer.submit(self.write)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """Have the writer store uses and delete expired rows when they are due, until stop()."""
        while not self.is_stopped.wait(COUNTING_SECONDS):
            if self.uses or time.monotonic() >= self.next_cleaning:
                # RuntimeError: after stop().
                with suppress(RuntimeError):
                    self.writer.submit(self.write)

    def stop(self) -> None:
        """Wait until all noted minutes and uses are stored."""
        self.is_stopped.set()
        self.writer.shutdown()
        if self.uses:
            self.write()


def add_uses() -> Any:
    """Return the statement that adds to the uses of a key in an hour, if the key still exists."""
    hour = sa.bindparam("hour", type_=KeyUse.hour.type)
    counts = [sa.bindparam(name, type_=sa.Integer()) for name in ("requests", "errors")]
    added = sa.select(ApiKey.id, hour, *counts).where(ApiKey.id == sa.bindparam("id"))
    insert: Any = backend().insert(KeyUse).from_select([column.name for column in KeyUse.__table__.columns], added)
    total = {name: getattr(KeyUse, name) + insert.excluded[name] for name in ("requests", "errors")}
    return insert.on_conflict_do_update(index_elements=["api_key_id", "hour"], set_=total)


def delete_expired(column: Any) -> bool:
    """Delete some rows that have expired by a column of EXPIRING, in a transaction; tell whether more may be left."""
    return bool(execute(expired_statement, column, until=earliest_now() - EXPIRING[column]).rowcount == MAX_DELETED)


def expired_statement(column: Any) -> sa.Delete:
    """Return the statement that deletes some rows whose time in a column is not after the one to bind."""
    key = column.class_.__table__.primary_key.columns
    expired = sa.select(*key).where(column <= sa.bindparam("until")).limit(number(MAX_DELETED)).offset(number(0))
    return sa.delete(column.class_).where(sa.tuple_(*key).in_(expired))

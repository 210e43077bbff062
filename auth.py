"""The keys: their format, their lookup, their scopes, and the hook that every request passes."""

import logging
import re
import secrets
import string
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, ClassVar, NamedTuple, TypeVar
from zlib import crc32

from flask import Flask, current_app, g, request
from sqlalchemy import Engine, Select, bindparam, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from database import db, read, unwrapped
from models import SCOPES, ApiKey, now, read_stored_time

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
API = "/api/v1"
KEY = re.compile("cfk_[0-9A-Za-z]{36}")

log = logging.getLogger("cardfile")
View = TypeVar("View", bound=Callable[..., Any])


class Unauthenticated(Exception):
    """The request needs a key and has none (RFC 6750 §3)."""

    status = 401
    detail = "This needs an API key: send it as Authorization: Bearer YOUR_API_KEY."
    challenge: ClassVar[dict[str, str]] = {}


class KeyRefused(Unauthenticated):
    """The key is unknown, malformed, expired or deleted (RFC 6750 §3.1)."""

    # The same answer for all of them, so that probing learns nothing.
    detail = "This API key is not valid: check it for typing errors, or create a new one."
    challenge: ClassVar[dict[str, str]] = {"error": "invalid_token"}


class ScopeTooSmall(Unauthenticated):
    """The key is good, but not for this (RFC 6750 §3.1)."""

    status = 403

    def __init__(self, has: str, needs: str) -> None:
        super().__init__(has, needs)
        self.detail = f"This API key has the scope {has}; {needs} is needed."
        self.challenge = {"error": "insufficient_scope", "scope": needs}  # type: ignore[misc]


def checksum(body: str) -> str:
    """Return the CRC-32 of a key's random characters as six base62 digits."""
    number = crc32(body.encode())
    digits = ""
    for _place in range(6):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits


def new_key() -> str:
    """Return a new key: `cfk_`, 30 random base62 characters (178 bits) and their checksum."""
    body = "".join(secrets.choice(BASE62) for _place in range(30))
    return f"cfk_{body}{checksum(body)}"


def is_well_formed(key: str) -> bool:
    """Tell whether this can be a key; one that was mistyped can't, and costs no query."""
    return KEY.fullmatch(key) is not None and checksum(key[4:34]) == key[34:]


def redact(text: str) -> str:
    """Return the text without the keys in it, fit for a log or an error."""
    return re.sub("cfk_[0-9A-Za-z]+", "cfk_[redacted]", text) if "cfk_" in text else text


def create_key(name: str, scope: str, expires_at: datetime | None = None) -> tuple[ApiKey, str]:
    """Add a key to the session; return its record and the key itself, which is not kept anywhere."""
    key = new_key()
    record = ApiKey(
        name=name, scope=scope, expires_at=expires_at, prefix=key[:8], sha256=sha256(key.encode()).hexdigest()
    )
    db.session.add(record)
    return record, key


class KeyHolder(NamedTuple):
    """Who a request comes from: the id of the key's record, and what it may do."""

    id: str
    scope: str


def find_key(key: str) -> KeyHolder:
    """Return the holder of the key, by one query.

    Raises KeyRefused when the key is unknown, malformed, expired or deleted.
    """
    if is_well_formed(key):
        found = read(key_query, sha256=sha256(key.encode()).hexdigest()).fetchone()
        if found and not is_over(read_stored_time(found[2])):
            return KeyHolder(found[0], found[1])
    raise KeyRefused


def is_over(expires_at: datetime | None) -> bool:
    """Tell whether a time has come; no time never comes."""
    return expires_at is not None and expires_at <= now()


def key_query() -> Select[*tuple[Any, ...]]:
    """Return the query for the key of a hash: its id, its scope, and when it expires as the database shows it."""
    return select(ApiKey.id, ApiKey.scope, ApiKey.expires_at).where(ApiKey.sha256 == bindparam("sha256"))


def public(view: View) -> View:
    """Mark a view that needs no key."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def needs(scope: str) -> Callable[[View], View]:
    """Mark a view that needs this scope, whatever the method."""

    def mark(view: View) -> View:
        view.scope = scope  # type: ignore[attr-defined]
        return view

    return mark


def scope_needed(view: Any, method: str) -> str:
    """Return the scope that a view is marked to need, or else the method does."""
    return str(getattr(view, "scope", "read" if method in {"GET", "HEAD"} else "write"))


class LastUse:
    """The minute of each key's last use, written by a thread of its own: no request waits for it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.noted: dict[str, int] = {}
        self.writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="last-use")

    def note(self, key_id: str) -> None:
        """Have the current minute written, unless it was already."""
        minute = int(time.time()) // 60
        if self.noted.get(key_id) != minute:
            self.noted[key_id] = minute
            self.writer.submit(self.write, key_id, datetime.fromtimestamp(minute * 60, UTC))

    def write(self, key_id: str, minute: datetime) -> None:
        """Write one key's last use; a database that is locked or gone costs a line in the log and no more."""
        unseen = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < minute)
        try:
            with self.engine.connect().execution_options(begin="IMMEDIATE") as connection:
                connection.execute(update(ApiKey).where(ApiKey.id == key_id, unseen).values(last_used_at=minute))
                connection.commit()
        except SQLAlchemyError as error:
            log.warning("The last use of key %s was not written: %s", key_id, type(error).__name__)

    def stop(self) -> None:
        """Wait until everything that was noted is written."""
        self.writer.shutdown()


def init_auth(app: Flask) -> None:
    """Put the hook before every request of the app."""
    with app.app_context():
        app.extensions["last_use"] = LastUse(db.engine)
    app.before_request(require_key)


def require_key() -> None:
    """Let a request pass only with a key of enough scope, unless its view is marked public.

    Raises Unauthenticated, KeyRefused or ScopeTooSmall. It runs for unknown paths under /api/v1 too, so that nobody
    without a key learns which exist.
    """
    app, asked = unwrapped(current_app), unwrapped(request)
    view = app.view_functions.get(asked.endpoint or "")
    outside = view is None and not f"{asked.path}/".startswith(f"{API}/")
    if outside or asked.method == "OPTIONS" or getattr(view, "is_public", False):
        return
    scheme, _space, credentials = asked.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    g.key = key = find_key(credentials.strip())
    needed = scope_needed(view, asked.method)
    if view is not None and SCOPES.index(key.scope) < SCOPES.index(needed):
        raise ScopeTooSmall(key.scope, needed)
    app.extensions["last_use"].note(key.id)

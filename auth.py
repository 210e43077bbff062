"""API keys: their format, lookup and scopes, and the before_request hook that checks them."""

import re
import secrets
import string
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar, NamedTuple, TypeVar
from zlib import crc32

import sqlalchemy as sa
from flask import current_app, g, request

from database.columns import from_driver, now
from database.connection import execute
from database.statement import insert_statement
from formats.ids import new_id
from models import SCOPES, ApiKey, RolledKey

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
API = "/api/v1"
KEY = re.compile("cfk_[0-9A-Za-z]{36}")

# How long a key stays valid after it was rolled.
ROLL_LIFETIME = timedelta(hours=1)
KEY_COLUMNS = sa.select(ApiKey.id, ApiKey.scope, ApiKey.expires_at)
FIND_KEY = KEY_COLUMNS.where(ApiKey.sha256 == sa.bindparam("sha256"))
MAX_TIME = datetime.max.replace(tzinfo=UTC, microsecond=0)
UNTIL = sa.bindparam("until", type_=ApiKey.expires_at.type)
NOW = sa.bindparam("now", type_=ApiKey.expires_at.type)
FIND_ROLLED_KEY = KEY_COLUMNS.join(RolledKey, RolledKey.api_key_id == ApiKey.id).where(
    RolledKey.sha256 == sa.bindparam("sha256"), RolledKey.expires_at > NOW
)
FIND_ADMIN = sa.select(ApiKey.id).where(
    ApiKey.scope == "admin", sa.or_(ApiKey.expires_at.is_(None), ApiKey.expires_at >= UNTIL)
)
DELETE_KEY = sa.delete(ApiKey).where(ApiKey.id == sa.bindparam("id")).returning(ApiKey.scope, ApiKey.expires_at)
FIND_DIGEST = sa.select(ApiKey.sha256, ApiKey.expires_at).where(ApiKey.id == sa.bindparam("id"))
SET_DIGEST = (
    sa.update(ApiKey)
    .where(ApiKey.id == sa.bindparam("key_id"))
    .values(sha256=sa.bindparam("sha256"), prefix=sa.bindparam("prefix"))
)
View = TypeVar("View", bound=Callable[..., Any])


class Unauthenticated(Exception):
    """The request has no API key (RFC 6750 §3)."""

    status = 401
    detail = "This request needs an API key: send it as Authorization: Bearer YOUR_API_KEY."
    challenge: ClassVar[dict[str, str]] = {}


class InvalidKey(Unauthenticated):
    """The key is unknown, malformed, expired or deleted (RFC 6750 §3.1)."""

    # One response for all of them, so that a client can't find out which keys exist.
    detail = "This API key is not valid: check it for typing errors, or create a new one."
    challenge: ClassVar[dict[str, str]] = {"error": "invalid_token"}


class KeyConflict(Exception):
    """A key can't be deleted or rolled; the message says what to do."""


class InsufficientScope(Unauthenticated):
    """The key is valid but lacks the required scope (RFC 6750 §3.1)."""

    status = 403

    def __init__(self, scope: str, required: str) -> None:
        super().__init__(scope, required)
        self.detail = f"This API key lacks the required scope: it has {scope}, and {required} is needed."
        self.challenge = {"error": "insufficient_scope", "scope": required}  # type: ignore[misc]


def checksum(body: str) -> str:
    """Return the CRC-32 of a key's random characters as six base62 digits."""
    number = crc32(body.encode())
    digits = ""
    for _digit in range(6):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits


def new_key() -> str:
    """Return a new key: `cfk_`, 30 random base62 characters (178 bits) and their checksum."""
    body = "".join(secrets.choice(BASE62) for _digit in range(30))
    return f"cfk_{body}{checksum(body)}"


def sent_key(authorization: str) -> str | None:
    """Return the key in an Authorization header: of Bearer (RFC 6750 §2.1) or the user of Basic (RFC 7617); or None."""
    scheme, _space, token = authorization.partition(" ")
    if scheme.lower() == "basic":
        with suppress(ValueError):
            # The key is ASCII; clients don't agree on the encoding of the password (RFC 7617 §2).
            return b64decode(token.strip(), validate=True).decode("latin-1").partition(":")[0]
        return ""
    return token.strip() if scheme.lower() == "bearer" else None


def is_well_formed(key: str) -> bool:
    """Tell whether a key has the format and a right checksum: a mistyped key is refused without a query."""
    return KEY.fullmatch(key) is not None and checksum(key[4:34]) == key[34:]


def redact(text: str) -> str:
    """Return the text with API keys replaced, for logs and errors."""
    return re.sub("cfk_[0-9A-Za-z]+", "cfk_[redacted]", text) if "cfk_" in text else text


def create_key(name: str, scope: str, expires_at: datetime | None = None, key: str = "") -> tuple[str, str]:
    """Store a key, by default a new one, inside a writing transaction; return its id and the key itself."""
    key, key_id = key or new_key(), new_id()
    values = {"name": name, "scope": scope, "prefix": key[:8], "sha256": digest(key)}
    execute(insert_statement, ApiKey, id=key_id, created_at=now(), expires_at=expires_at, last_used_at=None, **values)
    return key_id, key


def delete_key(key_id: str) -> bool:
    """Delete a key, inside a writing transaction; tell whether it existed.

    Raises KeyConflict for the admin key that is valid longest.
    """
    row = execute(DELETE_KEY, id=key_id).fetchone()
    was_admin = row and row[0] == "admin" and not is_expired(from_driver(row[1]))
    if was_admin and not execute(FIND_ADMIN, until=from_driver(row[1]) or MAX_TIME).fetchone():
        raise KeyConflict("No other admin key lasts as long as this one: create one first.")
    return row is not None


def roll_key(key_id: str) -> str | None:
    """Replace a key, inside a writing transaction, and return the new one; the old one stays valid for an hour.

    Returns None if there is no key with this id. Raises KeyConflict for an expired key.
    """
    found = execute(FIND_DIGEST, id=key_id).fetchone()
    if found is None:
        return None
    if is_expired(from_driver(found[1])):
        raise KeyConflict("This key has expired, and a new secret would not change that: create another key.")
    key = new_key()
    execute(insert_statement, RolledKey, sha256=found[0], api_key_id=key_id, expires_at=now() + ROLL_LIFETIME)
    execute(SET_DIGEST, key_id=key_id, sha256=digest(key), prefix=key[:8])
    return key


def digest(secret: str) -> str:
    """Return the SHA-256 that is stored instead of a secret."""
    return sha256(secret.encode()).hexdigest()


class RequestKey(NamedTuple):
    """The API key of a request: the id of its record, and its scope."""

    id: str
    scope: str


def find_key(key: str) -> RequestKey:
    """Return the id and scope of a key, by one query, or two for a key that was rolled.

    Raises InvalidKey when the key is unknown, malformed, expired or deleted.
    """
    if is_well_formed(key):
        values = {"sha256": digest(key)}
        row = execute(FIND_KEY, **values).fetchone() or execute(FIND_ROLLED_KEY, now=now(), **values).fetchone()
        if row and not is_expired(from_driver(row[2])):
            return RequestKey(row[0], row[1])
    raise InvalidKey


def is_expired(expires_at: datetime | None) -> bool:
    """Tell whether a time of expiry has come; None never does."""
    return expires_at is not None and expires_at <= now()


def public(view: View) -> View:
    """Mark a view that needs no key."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def requires(scope: str) -> Callable[[View], View]:
    """Mark a view that requires this scope for every method."""

    def mark(view: View) -> View:
        view.scope = scope  # type: ignore[attr-defined]
        return view

    return mark


def required_scope(view: Any, method: str) -> str:
    """Return the scope that a view is marked to require, or else the one of the method."""
    return str(getattr(view, "scope", "read" if method in {"GET", "HEAD"} else "write"))


def require_key() -> None:
    """Refuse a request without a key of the required scope, unless its view is public.

    Raises Unauthenticated, InvalidKey or InsufficientScope. Unknown paths under /api/v1 need a key, too: without one,
    a response doesn't tell which paths exist.
    """
    view = current_app.view_functions.get(request.endpoint or "")
    method, token = request.method, sent_key(request.environ.get("HTTP_AUTHORIZATION", ""))
    is_outside = view is None and not f"{request.path}/".startswith(f"{API}/")
    if is_outside or method == "OPTIONS" or getattr(view, "is_public", False):
        return
    if token is None:
        raise Unauthenticated
    g.key = key = find_key(token)
    required = required_scope(view, method)
    if view is not None and SCOPES.index(key.scope) < SCOPES.index(required):
        raise InsufficientScope(key.scope, required)
    current_app.extensions["last_use"].note(key.id)

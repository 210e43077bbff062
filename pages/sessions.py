"""Who is signed in: sessions and one-time links, of which the database keeps the SHA-256 and nobody else the token."""

import hmac
import secrets
from datetime import timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from flask import g, request
from sqlalchemy import Delete, Select, and_, bindparam, delete, or_, select

from auth import digest, is_expired
from database import execute
from models import ApiKey, Session, from_driver, insert_statement, now

COOKIE = "cardfile_session"
LASTS = {"session": timedelta(hours=12), "link": timedelta(minutes=15)}


class SessionNeeded(Exception):
    """The page is for who is signed in: there is no session, it has ended, or its key is no longer good."""


class FormRefused(Exception):
    """The form isn't one of ours, filled in by who is signed in."""


class SignedIn(NamedTuple):
    """A session: its token, and the id of the key that it began with, which a link's has none of."""

    token: str
    key_id: str | None

    @property
    def form_token(self) -> str:
        """Return what every form of this session carries, and no other site can know."""
        return hmac.new(self.token.encode(), b"form", sha256).hexdigest()


def add_token(kind: str, key_id: str | None = None) -> str:
    """Return the token of a new session or link, inside a writing transaction; what has expired is removed."""
    execute(delete_expired, now=now())
    token, expires_at = secrets.token_urlsafe(32), now() + LASTS[kind]
    execute(insert_statement, Session, sha256=digest(token), kind=kind, api_key_id=key_id, expires_at=expires_at)
    return token


def delete_expired() -> Delete:
    """Return the statement that deletes expired sessions and links."""
    return delete(Session).where(Session.expires_at <= bindparam("now", type_=Session.expires_at.type))


def remove_token(kind: str, token: str) -> bool:
    """Remove a session or link, inside a writing transaction; tell whether it was still good."""
    row = execute(delete_token, sha256=digest(token), kind=kind).fetchone()
    return row is not None and not is_expired(from_driver(row[0]))


def delete_token() -> Delete:
    """Return the statement that deletes a session or link and returns its time of expiry."""
    found = delete(Session).where(Session.sha256 == bindparam("sha256"), Session.kind == bindparam("kind"))
    return found.returning(Session.expires_at)  # type: ignore[return-value]


def is_good_link(token: str) -> bool:
    """Tell whether a link still lets somebody in."""
    return execute(token_query, sha256=digest(token), kind="link", now=now()).fetchone() is not None


def token_query() -> Select[Any]:
    """Return the query for the key's id of a session or link that still lasts, as the admin key must that it is of."""
    moment = bindparam("now", type_=Session.expires_at.type)
    key_lasts = and_(ApiKey.scope == "admin", or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > moment))
    # Joined, not only trusted to be gone with its key: other programs may delete rows without the foreign keys' rules.
    found = select(Session.api_key_id).outerjoin(ApiKey, ApiKey.id == Session.api_key_id)
    return found.where(
        Session.sha256 == bindparam("sha256"),
        Session.kind == bindparam("kind"),
        Session.expires_at > moment,
        or_(Session.api_key_id.is_(None), key_lasts),
    )


def require_session() -> None:
    """Let a request pass only with a session, and with that session's form when it could change something.

    OPTIONS needs neither, as in the API. Raises SessionNeeded or FormRefused.
    """
    if request.method == "OPTIONS":
        return
    token = request.cookies.get(COOKIE, "")
    found = execute(token_query, sha256=digest(token), kind="session", now=now()).fetchone()
    if not found:
        raise SessionNeeded
    g.signed_in = SignedIn(token, found[0])
    given = request.form.get("token", "")
    if request.method not in {"GET", "HEAD"} and not hmac.compare_digest(
        given.encode(), g.signed_in.form_token.encode()
    ):
        raise FormRefused

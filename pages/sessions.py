"""Sessions, one-time sign-in links, and forms that work once. The database stores only digests of their tokens."""

import hmac
import secrets
from datetime import timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from flask import Flask, abort, g, redirect, request, url_for
from sqlalchemy import and_, bindparam, delete, or_, select

from auth import RequestKey, digest, is_expired
from database import backend
from database.columns import from_driver, now
from database.connection import execute
from database.statement import insert_statement
from formats.ids import new_id
from models import ApiKey, Session

HOME = "/settings/developer"
COOKIE = "cardfile_session"
# The paths of the cookie: browsers send it to the pages that need a session, never to the API.
PATHS = "/settings", "/data"
LIFETIMES = {"session": timedelta(hours=12), "link": timedelta(minutes=15)}
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
FORGED = "This form was not sent from this site. Reload the page and try again."
SENT_ALREADY = (
    "This form was sent already, and was carried out then: nothing was done again. Keys and secrets are shown only"
    " once; replace one that you lost."
)

NOW = bindparam("now", type_=Session.expires_at.type)
IS_TOKEN = and_(Session.sha256 == bindparam("sha256"), Session.kind == bindparam("kind"))
IS_ADMIN = and_(ApiKey.scope == "admin", or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > NOW))
# The id of the key that started a session, or null for a link. Neither the session nor its admin key has expired.
# The key is joined, because another program may have deleted it without SQLite's foreign keys.
FIND_TOKEN = (
    select(Session.api_key_id)
    .outerjoin(ApiKey, ApiKey.id == Session.api_key_id)
    .where(IS_TOKEN, Session.expires_at > NOW, or_(Session.api_key_id.is_(None), IS_ADMIN))
)
DELETE_TOKEN = delete(Session).where(IS_TOKEN).returning(Session.expires_at)


class SignedIn(NamedTuple):
    """The session of a request: its token, and the id of the key that started it, None for a link."""

    token: str
    key_id: str | None

    @property
    def form_token(self) -> str:
        """A new token for one form: its id, and the signature against forged requests."""
        form_id = new_id()
        return f"{form_id}.{self.sign(form_id)}"

    def sign(self, form_id: str) -> str:
        """Return the signature of a form of this session."""
        return hmac.new(self.token.encode(), form_id.encode(), sha256).hexdigest()

    def write_as_key(self) -> None:
        """Log the changes of this request as those of the session's key; a session by a link has no key."""
        if self.key_id:
            g.key = RequestKey(self.key_id, "admin")


def add_token(kind: str, key_id: str | None = None) -> str:
    """Create a session or a link, inside a writing transaction, and return its token."""
    token, expires_at = secrets.token_urlsafe(32), now() + LIFETIMES[kind]
    execute(insert_statement, Session, sha256=digest(token), kind=kind, api_key_id=key_id, expires_at=expires_at)
    return token


def remove_token(kind: str, token: str) -> bool:
    """Delete a session or a link, inside a writing transaction. Return whether it was still valid."""
    row = execute(DELETE_TOKEN, sha256=digest(token), kind=kind).fetchone()
    return row is not None and not is_expired(from_driver(row[0]))


def find_token(kind: str, token: str) -> Any:
    """Return a row with the key's id of a valid session or link, or None."""
    return execute(FIND_TOKEN, sha256=digest(token), kind=kind, now=now()).fetchone()


def has_session() -> bool:
    """Tell whether the request has a valid session, which is then in `g.signed_in`."""
    token = request.cookies.get(COOKIE, "")
    if found := find_token("session", token):
        g.signed_in = SignedIn(token, found[0])
    return found is not None


def require_session() -> Any:
    """Redirect a page without a session to the sign-in page, and refuse a form without a token of the session."""
    if request.method == "OPTIONS":
        return None
    # Read before the session is looked up, which may end while a client sends its form slowly.
    form_id, _dot, signature = request.form.get("token", "").partition(".")
    is_form, is_signed_in = request.method not in SAFE_METHODS, has_session()
    if is_form and not is_signed_in:
        abort(403, "You are not signed in. Sign in and try again.")
    if not is_signed_in:
        wanted = None if request.path == HOME else request.full_path.rstrip("?")
        return redirect(url_for("pages.sign_in.show_sign_in", next=wanted), 303)
    if is_form and not hmac.compare_digest(signature.encode(), g.signed_in.sign(form_id).encode()):
        abort(403, FORGED)
    if is_form:
        g.form = signature
    return None


def init_forms(app: Flask) -> None:
    """Let each form write once: the transaction of a form that has written already responds 409."""
    pool = app.extensions["connections"]
    log_write = pool.before_commit

    def before_commit(first: int) -> None:
        if form := g.pop("form", None):
            values = {"sha256": form, "kind": "link", "api_key_id": None, "expires_at": now() + LIFETIMES["session"]}
            if not execute(add_form, **values).rowcount:
                abort(409, SENT_ALREADY)
        log_write(first)

    pool.before_commit = before_commit


def add_form() -> Any:
    """Return the statement that stores a form, unless it is stored, as a link that no token leads to."""
    return insert_statement(Session, backend().insert).on_conflict_do_nothing()

"""Signing in, with an admin key or by a one-time link: the only pages that need no session."""

from typing import Any

from flask import Blueprint, Response, current_app, redirect, render_template, request, url_for

from auth import InvalidKey, find_key, public
from database import write_transaction
from pages.sessions import COOKIE, LASTS, FormRefused, add_token, is_good_link, remove_token

ATTEMPTS_A_MINUTE = 10

door = Blueprint("door", __name__)


class TooManyAttempts(Exception):
    """The client has tried to sign in too often; `seconds` says when it may again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@door.before_request
def refuse_other_sites() -> None:
    """Let a form pass only from a page of ours: without a session there is no token yet to tell by.

    Raises FormRefused.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin", "")
    # Browsers say the site only where they trust the connection, but always the origin of a POST.
    # Compared with what was sent: werkzeug knows no host with an underscore, and no host is what `null` has too.
    host = request.environ["HTTP_HOST"]
    ours = site == "same-origin" if site else origin in {f"http://{host}", f"https://{host}"}
    if request.method not in {"GET", "HEAD", "OPTIONS"} and not ours:
        raise FormRefused


@door.get("/sign-in")
@public
def show_sign_in() -> str:
    """Show the form that takes an admin key."""
    return render_template("sign_in.html")


@door.post("/sign-in")
@public
def sign_in() -> Any:
    """Begin a session with an admin key; any other is refused, all alike."""
    count_attempt()
    try:
        # Looked up where it can no longer be deleted before the session begins.
        with write_transaction():
            key = find_key(request.form.get("key", "").strip())
            if key.scope != "admin":
                raise InvalidKey
            token = begin_session(key.id)
    except InvalidKey:
        return render_template("sign_in.html", refused=True), 403
    current_app.extensions["last_use"].note(key.id)
    return let_in(token)


@door.get("/link")
@public
def show_link() -> Any:
    """Show a button: who only looks at a link, as a preview does, must not use it up."""
    token = request.args.get("token", "")
    good = is_good_link(token)
    return render_template("link.html", token=token if good else None), 200 if good else 403


@door.post("/link")
@public
def use_link() -> Any:
    """Begin a session by a link, once."""
    count_attempt()
    with write_transaction():
        good = remove_token("link", request.form.get("token", ""))
        token = begin_session() if good else ""
    return let_in(token) if good else (render_template("link.html"), 403)


def begin_session(key_id: str | None = None) -> str:
    """Return the token of a new session, inside a writing transaction; the browser's older one ends."""
    remove_token("session", request.cookies.get(COOKIE, ""))
    return add_token("session", key_id)


def let_in(token: str) -> Response:
    """Give the browser its session, and show the keys."""
    answer = redirect(url_for("pages.developer.show_keys"), 303)
    # Behind a proxy that ends TLS, only the browser knows that it came by https.
    secure = request.is_secure or request.headers.get("Origin", "").startswith("https:")
    answer.set_cookie(
        COOKIE, token, LASTS["session"], path="/settings", secure=secure, httponly=True, samesite="Strict"
    )
    return answer  # type: ignore[return-value]


def count_attempt() -> None:
    """Count an attempt to sign in, by this client in this process.

    Raises TooManyAttempts after ten in a minute.
    """
    # Imported here because few processes ever sign anybody in.
    from time import time

    from limits import RateLimitItemPerMinute
    from limits.storage import MemoryStorage
    from limits.strategies import MovingWindowRateLimiter

    kept = current_app.extensions
    limiter = kept.get("attempts") or kept.setdefault("attempts", MovingWindowRateLimiter(MemoryStorage()))
    most, client = RateLimitItemPerMinute(ATTEMPTS_A_MINUTE), request.remote_addr or ""
    if not limiter.hit(most, client):
        raise TooManyAttempts(max(1, round(limiter.get_window_stats(most, client).reset_time - time())))

"""The pages to sign in with an admin key or a one-time link: the only settings pages that need no session."""

from typing import Any

from flask import Blueprint, Response, abort, current_app, redirect, render_template, request, url_for

from api.rate_limits import TooManyRequests
from auth import InvalidKey, find_key, public
from database.connection import write_transaction
from pages.sessions import COOKIE, FORGED, HOME, LIFETIMES, PATHS, SAFE_METHODS, add_token, find_token, remove_token

ATTEMPTS_PER_MINUTE = 10
WRONG_ORIGIN = (
    "The Origin of this form is {origin}, but the address of the request is {address}. Reload the page and try again."
    " Behind a proxy, keep the Host header (nginx: proxy_set_header Host $http_host;), or set PROXIES=1 and let the"
    " proxy send X-Forwarded-Host and X-Forwarded-Proto."
)

blueprint = Blueprint("sign_in", __name__, url_prefix=HOME)


@blueprint.before_request
def refuse_other_sites() -> None:
    """Refuse a form from another site; before sign-in there is no form token to check."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin", "")
    if request.method in SAFE_METHODS or site == "same-origin":
        return
    if site:
        abort(403, FORGED)
    # Browsers send Sec-Fetch-Site only over trusted connections, but Origin with every POST. Origin is compared with
    # the raw Host header: werkzeug rejects host names with an underscore.
    host = request.environ["HTTP_HOST"]
    if origin not in {f"http://{host}", f"https://{host}"}:
        abort(403, WRONG_ORIGIN.format(origin=origin or "missing", address=f"{request.scheme}://{host}"))


@blueprint.get("/sign-in")
@public
def show_sign_in() -> str:
    """Show the sign-in form."""
    return render_template("sign_in.html")


@blueprint.post("/sign-in")
@public
def sign_in_with_key() -> Any:
    """Start a session with an admin key; refuse every other key with the same page."""
    count_attempt()
    text = request.form.get("key", "").strip()
    try:
        # In one transaction, so that the key can't be deleted before the session starts.
        with write_transaction():
            key = find_key(text)
            if key.scope != "admin":
                raise InvalidKey
            token = add_session(key.id)
    except InvalidKey:
        return render_template("sign_in.html", refused=True), 403
    current_app.extensions["last_use"].note(key.id)
    return start_browser_session(token)


@blueprint.get("/link")
@public
def show_link() -> Any:
    """Show a sign-in button; a link preview, which only sends GET, must not use the link up."""
    token = request.args.get("token", "")
    is_valid = find_token("link", token) is not None
    return render_template("link.html", token=token if is_valid else None), 200 if is_valid else 403


@blueprint.post("/link")
@public
def sign_in_with_link() -> Any:
    """Start a session with a link, which works once."""
    count_attempt()
    link = request.form.get("token", "")
    with write_transaction():
        is_valid = remove_token("link", link)
        token = add_session() if is_valid else ""
    return start_browser_session(token) if is_valid else (render_template("link.html"), 403)


def add_session(key_id: str | None = None) -> str:
    """Return the token of a new session, inside a writing transaction; the browser's previous session ends."""
    remove_token("session", request.cookies.get(COOKIE, ""))
    return add_token("session", key_id)


def start_browser_session(token: str) -> Response:
    """Set the session cookie, and redirect to the page `next`, if it is one of this server, or to the keys."""
    wanted = request.args.get("next", "")
    is_own = f"{wanted.partition('?')[0]}/".startswith(tuple(f"{path}/" for path in ("/docs", *PATHS)))
    response = redirect(request.root_path + wanted if is_own else url_for("pages.developer.show_keys"), 303)
    # Behind a proxy that terminates TLS, only the browser knows that the page was loaded over HTTPS.
    secure = request.is_secure or request.headers.get("Origin", "").startswith("https:")
    cookie: dict[str, Any] = {"secure": secure, "httponly": True, "samesite": "Strict"}
    for path in PATHS:
        response.set_cookie(COOKIE, token, LIFETIMES["session"], path=request.root_path + path, **cookie)
    return response  # type: ignore[return-value]


def count_attempt() -> None:
    """Count a sign-in attempt of this client in this process. Raises TooManyRequests after ten in a minute."""
    remaining, seconds = current_app.extensions["sign_in_attempts"].count(request.remote_addr or "")
    if remaining < 0:
        raise TooManyRequests("sign-in attempts", seconds)

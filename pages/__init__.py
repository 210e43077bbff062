"""The pages: their blueprints, templates and static files, and the headers that all pages share."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, g, redirect, render_template, request, send_from_directory, url_for

from api.problems import PROBLEM_TYPE
from api.rate_limits import RateLimit
from auth import API, public
from database.columns import now
from pages import activity, data, developer, docs, overview, sign_in
from pages.highlight import highlight
from pages.sessions import HOME, PATHS, add_token, init_forms, require_session

# The units of ages, each with the smallest count that is shown in it, and its length in seconds.
UNITS = {"year": (2, 31_536_000), "month": (4, 2_592_000), "day": (1, 86_400), "hour": (1, 3_600), "minute": (1, 60)}
STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def init_pages(app: Flask) -> None:
    """Register the pages and their static files; the extension "sign_in_link" creates a link for `serve`."""
    pages = Blueprint("pages", __name__, template_folder="templates")
    for part in docs, sign_in, developer, overview, activity, data:
        pages.register_blueprint(part.blueprint)
    pages.add_url_rule("/", "root", redirect_to("pages.docs.show_docs", 302))
    pages.add_url_rule("/settings", "settings", redirect_to("pages.developer.show_keys", 303), strict_slashes=False)
    # Static files have an ETag.
    pages.add_url_rule("/static/<path:path>", "static", public(partial(send_from_directory, STATIC)))
    pages.after_app_request(finish_page)
    app.register_blueprint(pages)
    app.jinja_env.filters |= {"moment": format_time, "ago": format_age, "highlight": highlight}
    app.jinja_env.filters |= {"markdown": docs.read_markdown, "link_operations": docs.link_operations}
    init_forms(app)
    # Other rooms use these to add settings pages, which check the session, and to which the layout links.
    app.extensions.update(sign_in_link=create_link, require_session=require_session)
    app.extensions["settings_pages"] = {
        "data": ("Data", "pages.data.show_data"),
        "settings": ("Developer", "pages.developer.show_keys"),
        "overview": ("Overview", "pages.overview.show_overview"),
        "activity": ("Activity", "pages.activity.show_writes"),
    }
    app.context_processor(lambda: {"settings_pages": app.extensions["settings_pages"]})
    app.extensions["sign_in_attempts"] = RateLimit(sign_in.ATTEMPTS_PER_MINUTE, 60)


def create_link() -> str:
    """Return the path of a new sign-in link, inside a writing transaction."""
    return f"{HOME}/link?token={add_token('link')}"


def redirect_to(endpoint: str, status: int) -> Callable[[], Any]:
    """Return a view that redirects to the page of another one."""
    return public(lambda: redirect(url_for(endpoint), status))


def format_time(time: str) -> str:
    """Return a time of the API as pages show it, as in `2024-01-15 10:30`."""
    return time[:16].replace("T", " ")


def format_age(time: str) -> str:
    """Return a time of the API relative to now, in words: `2 hours ago`, `in 30 days`."""
    seconds = round((datetime.fromisoformat(time) - now()).total_seconds())
    for unit, (least, length) in UNITS.items():
        if abs(seconds) >= least * length:
            count = round(abs(seconds) / length)
            words = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"in {words}" if seconds > 0 else f"{words} ago"
    return "now"


def finish_page(response: Response) -> Response:
    """Show problems to browsers, and under /settings, as pages; set the security headers of pages."""
    if f"{request.path}/".startswith(f"{API}/"):
        # The API returns no pages.
        return response
    is_setting = f"{request.path}/".startswith(tuple(f"{path}/" for path in PATHS))
    # A 400 before sign-in is for an invalid host or prefix, with which url_for() would fail or link to other sites.
    if response.mimetype == PROBLEM_TYPE and (response.status_code != 400 or "signed_in" in g):
        response.vary.add("Accept")
        if is_setting or request.accept_mimetypes.best_match((PROBLEM_TYPE, "text/html")) == "text/html":
            response.set_data(render_template("problem.html", problem=response.get_json(), is_setting=is_setting))
            response.mimetype = "text/html"
    if is_setting:
        response.headers["Cache-Control"] = "no-store"
    if response.mimetype == "text/html" and response.status_code != 204:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
    return response

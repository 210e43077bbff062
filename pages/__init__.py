"""The pages: one blueprint with their templates, their static files, and what every answer of theirs has."""

from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, redirect, render_template, request, send_from_directory, url_for

from api.problems import PROBLEM_TYPE, problem
from auth import API, public
from pages.developer import developer
from pages.docs import blueprint as docs
from pages.docs import read_markdown
from pages.sessions import FormRefused, SessionNeeded, add_token
from pages.sign_in import TooManyAttempts, door

HOME = "/settings/developer"
STATIC = Path(__file__).parent / "static"
POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("style", "script", "img", "connect")),
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


def init_pages(app: Flask) -> None:
    """Give the app the pages and their static files, and `serve` the link that signs in."""
    pages = Blueprint("pages", __name__, template_folder="templates")
    pages.register_blueprint(docs)
    pages.register_blueprint(door, url_prefix=HOME)
    pages.register_blueprint(developer, url_prefix=HOME)
    pages.add_url_rule("/static/<path:name>", "static", send_static)
    pages.app_errorhandler(SessionNeeded)(answer_signed_out)
    pages.app_errorhandler(FormRefused)(answer_form_refused)
    pages.app_errorhandler(TooManyAttempts)(answer_too_many)
    pages.add_app_template_filter(show_moment, "moment")
    pages.add_app_template_filter(read_markdown, "markdown")
    pages.after_app_request(finish_page)
    app.register_blueprint(pages)
    app.extensions["sign_in_link"] = create_link


def create_link() -> str:
    """Return the path of a new sign-in link, inside a writing transaction."""
    return f"{HOME}/link?token={add_token('link')}"


@public
def send_static(name: str) -> Response:
    """Answer a static file, which browsers keep and ask about: a 304 where it is what they have."""
    return send_from_directory(STATIC, name)


def show_moment(time: str) -> str:
    """Return a time of the API as people read it, in UTC."""
    return time[:16].replace("T", " ")


def answer_signed_out(_error: SessionNeeded) -> Any:
    """Show who isn't signed in where to do so; what was sent is not kept."""
    if request.method in {"GET", "HEAD"}:
        return redirect(url_for("pages.door.show_sign_in"), 303)
    return problem(403, "You are not signed in, or no longer: sign in and try again.")


def answer_form_refused(_error: FormRefused) -> Response:
    """Answer 403 to a form that another site may have sent."""
    return problem(403, "This form is not from a page of yours: open the page anew and try again.")


def answer_too_many(error: TooManyAttempts) -> Response:
    """Answer 429 and say how long to wait."""
    detail = f"Too many attempts to sign in: try again in {error.seconds} seconds."
    return problem(429, detail, headers={"Retry-After": str(error.seconds)})


def finish_page(response: Response) -> Response:
    """Show a problem as a page where a page was asked for; let no page be kept, nor load anything from elsewhere."""
    path = request.path
    if path.startswith(f"{API}/"):
        # No page is there, and to find that out from the answer's type takes longer.
        return response
    if f"{path}/".startswith("/settings/"):
        if response.mimetype == PROBLEM_TYPE:
            response.set_data(render_template("problem.html", problem=response.get_json()))
            response.mimetype = "text/html"
        response.headers["Cache-Control"] = "no-store"
    if response.mimetype == "text/html" and response.status_code != 204:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
    return response

"""Settings → Webhooks, with the layout and the sessions of the room of pages."""

from typing import Any

from flask import Blueprint, abort, current_app, redirect, render_template, request, url_for
from marshmallow import ValidationError

from auth import public
from formats.errors import pointers
from webhooks import records
from webhooks.schema import EVENTS, schema

blueprint = Blueprint("webhook_pages", __name__, template_folder="templates")


@blueprint.before_request
def require_session() -> Any:
    """Redirect to the sign-in page, or refuse a form that is not the session's."""
    return current_app.extensions["require_session"]()


@blueprint.get("")
@public
def show_webhooks(form: Any = None, errors: Any = ()) -> str:
    """Show all webhooks with their state and lag, and the form for a new one, as it was sent."""
    found, lags, form = records.all_webhooks(), records.find_lags(), form or {"events": ["*"]}
    return render_template("webhooks.html", webhooks=found, lags=lags, form=form, errors=errors, known=EVENTS)


@blueprint.post("")
@public
def add_webhook() -> Any:
    """Create a webhook and show its secret once, or show the form again with an error beside each invalid field."""
    form: dict[str, Any] = {name: request.form.get(name, "").strip() for name in ("url", "description")}
    form["events"] = request.form.getlist("events")
    try:
        values = schema.load({**form, "description": form["description"] or None})
    except ValidationError as error:
        return show_webhooks(form, list(pointers(error.messages))), 422
    return render_template("webhook_secret.html", hook=records.add_webhook(values)), 201


@blueprint.get("/<webhook_id>")
@public
def show_webhook(webhook_id: str, result: Any = None) -> str:
    """Show a webhook, its last attempts with the first lines of the answers, and the result of a test."""
    hook, attempts = records.find_webhook(webhook_id), records.find_attempts(webhook_id)
    lag = records.find_lags().get(webhook_id, 0)
    return render_template("webhook.html", hook=hook, lag=lag, attempts=attempts, result=result)


@blueprint.post("/<webhook_id>")
@public
def change_webhook(webhook_id: str) -> Any:
    """Carry out the action of the pressed button."""
    match request.form.get("action"):
        case "test":
            return show_webhook(webhook_id, records.send_test(webhook_id))
        case "rotate":
            return render_template("webhook_secret.html", hook=records.rotate_secret(webhook_id))
        case "delete":
            records.remove_webhook(webhook_id)
            return redirect(url_for("webhook_pages.show_webhooks"), 303)
        case "replay":
            # Python refuses to read numbers of thousands of digits.
            since = request.form.get("since", "")[:20]
            records.change_webhook(webhook_id, {"since": int(since) if since.isdecimal() else since})
        case "enable" | "disable" as action:
            records.change_webhook(webhook_id, {"active": action == "enable"})
        case _:
            abort(422, "Press one of the buttons of this page.")
    return redirect(url_for("webhook_pages.show_webhook", webhook_id=webhook_id), 303)

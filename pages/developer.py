"""Settings → Developer: the API keys, below an overview of the data."""

import re
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, abort, g, redirect, render_template, request, url_for
from marshmallow import ValidationError

import auth
from api.keys import all_records, find_record
from api.protocol import base_url
from auth import API, public
from database.columns import now
from database.connection import write_transaction
from formats.values import format_time
from models import SCOPES
from pages.overview import overview
from pages.sessions import COOKIE, remove_token, require_session
from schemas import KeySchema

MAX_DAYS = 36_500
NOT_FOUND = "This key does not exist. It may have been deleted already."

blueprint = Blueprint("developer", __name__)
blueprint.before_request(require_session)
schema = KeySchema()


@blueprint.get("")
@public
def show_keys() -> str:
    """Show the overview and all keys, newest first."""
    return render_template("developer.html", keys=all_records()[::-1], now=format_time(now()), **overview())


@blueprint.get("/keys/new")
@public
def show_form() -> str:
    """Show the form for a new key."""
    return render_template("new_key.html", scopes=SCOPES, form={"scope": "read"}, errors={})


@blueprint.post("/keys/new")
@public
def add_key() -> Any:
    """Create a key and show it once, or show the form again with an error beside each invalid field."""
    form = {name: request.form.get(name, "") for name in ("name", "scope", "days")}
    try:
        values = read_form(form)
    except ValidationError as error:
        return render_template("new_key.html", scopes=SCOPES, form=form, errors=error.messages), 422
    with write_transaction():
        key_id, key = auth.create_key(**values)
        page = render_template("created_key.html", record=find_record(key_id), key=key, url=f"{base_url()}{API}")
    return page, 201


def read_form(form: dict[str, str]) -> dict[str, Any]:
    """Return the values of a new key.

    Raises ValidationError with the errors of all fields.
    """
    body, errors, days = {"name": form["name"], "scope": form["scope"]}, {}, form["days"].strip()
    if re.fullmatch("[1-9][0-9]{0,4}", days) and int(days) <= MAX_DAYS:
        body["expiresAt"] = format_time(now() + timedelta(days=int(days)))
    elif days:
        errors["days"] = [f"Must be a whole number from 1 to {MAX_DAYS}, or empty."]
    errors |= schema.validate(body)
    if errors:
        raise ValidationError(errors)
    return dict(schema.load(body))


@blueprint.get("/keys/<key_id>/delete")
@public
def confirm_deletion(key_id: str) -> str:
    """Ask for confirmation before a key is deleted."""
    record = find_record(key_id)
    if record is None:
        abort(404, NOT_FOUND)
    return render_template("delete_key.html", record=record)


@blueprint.post("/keys/<key_id>/delete")
@public
def delete_key(key_id: str) -> Response:
    """Delete a key. It stops working at once, and its sessions end."""
    with write_transaction():
        if not auth.delete_key(key_id):
            abort(404, NOT_FOUND)
    return redirect(url_for("pages.developer.show_keys"), 303)  # type: ignore[return-value]


@blueprint.post("/sign-out")
@public
def sign_out() -> Response:
    """End the session."""
    with write_transaction():
        remove_token("session", g.signed_in.token)
    response = redirect(url_for("pages.sign_in.show_sign_in"), 303)
    response.delete_cookie(COOKIE, path=f"{request.root_path}/settings", httponly=True, samesite="Strict")
    return response  # type: ignore[return-value]

"""Settings → Developer: the keys, and what there is at a glance."""

import re
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, abort, g, redirect, render_template, request, url_for
from marshmallow import ValidationError

import auth
from api.keys import all_records, find_record
from api.protocol import base_url
from auth import API, public
from database import write_transaction
from formats.values import format_time
from models import SCOPES, now
from pages.overview import survey
from pages.sessions import COOKIE, remove_token, require_session
from schemas import KeySchema

MOST_DAYS = 36_500

developer = Blueprint("developer", __name__)
developer.before_request(require_session)
schema = KeySchema()


@developer.get("")
@public
def show_keys() -> str:
    """Show every key's record, newest first, below an overview of the data."""
    return render_template("developer.html", keys=all_records()[::-1], now=format_time(now()), **survey())


@developer.get("/keys/new")
@public
def show_form() -> str:
    """Show the form for a new key."""
    return render_template("new_key.html", scopes=SCOPES, typed={"scope": "read"}, errors={})


@developer.post("/keys/new")
@public
def add_key() -> Any:
    """Create a key and show it, this once; what can't be taken is said beside its field."""
    typed = {name: request.form.get(name, "").strip() for name in ("name", "scope", "days")}
    try:
        values = read_form(typed)
    except ValidationError as error:
        return render_template("new_key.html", scopes=SCOPES, typed=typed, errors=error.messages), 422
    with write_transaction():
        key_id, key = auth.create_key(**values)
        page = render_template("created_key.html", record=find_record(key_id), key=key, url=f"{base_url()}{API}")
    return page, 201


def read_form(typed: dict[str, str]) -> dict[str, Any]:
    """Return the values of a new key.

    Raises ValidationError with the sentences for each field, all at once.
    """
    sent, faults, days = {"name": typed["name"], "scope": typed["scope"]}, {}, typed["days"]
    if re.fullmatch("[1-9][0-9]{0,4}", days) and int(days) <= MOST_DAYS:
        sent["expiresAt"] = format_time(now() + timedelta(days=int(days)))
    elif days:
        faults["days"] = [f"Must be a whole number from 1 to {MOST_DAYS}, or nothing."]
    faults |= schema.validate(sent)
    if faults:
        raise ValidationError(faults)
    return dict(schema.load(sent))


@developer.get("/keys/<key_id>/delete")
@public
def confirm_deletion(key_id: str) -> str:
    """Ask whether the key shall be deleted."""
    record = find_record(key_id)
    if record is None:
        abort(404, "There is no such key: it may have been deleted already.")
    return render_template("delete_key.html", record=record)


@developer.post("/keys/<key_id>/delete")
@public
def delete_key(key_id: str) -> Response:
    """Delete a key; it is refused from the next request on, and so is who signed in with it."""
    with write_transaction():
        deleted = auth.delete_key(key_id)
    if not deleted:
        abort(404, "There is no such key: it may have been deleted already.")
    return redirect(url_for("pages.developer.show_keys"), 303)  # type: ignore[return-value]


@developer.post("/sign-out")
@public
def sign_out() -> Response:
    """End the session."""
    with write_transaction():
        remove_token("session", g.signed_in.token)
    answer = redirect(url_for("pages.door.show_sign_in"), 303)
    answer.delete_cookie(COOKIE, path="/settings", httponly=True, samesite="Strict")
    return answer  # type: ignore[return-value]

"""Settings → Developer: the keys, and what there is at a glance."""

import re
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, abort, g, redirect, render_template, request, url_for
from marshmallow import ValidationError
from sqlalchemy import delete, select

from api.protocol import address_asked
from auth import API, create_key, public
from database import db, write_transaction
from models import SCOPES, ApiKey, now, show_time
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
    keys = db.session.scalars(select(ApiKey).order_by(ApiKey.created_at.desc(), ApiKey.number.desc())).all()
    return render_template("developer.html", keys=keys, now=now(), **survey())


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
        record, key = create_key(**values)
        db.session.flush()
        page = render_template("created_key.html", record=record, key=key, url=f"{address_asked()}{API}")
    return page, 201


def read_form(typed: dict[str, str]) -> dict[str, Any]:
    """Return the values of a new key.

    Raises ValidationError with the sentences for each field, all at once.
    """
    sent, faults, days = {"name": typed["name"], "scope": typed["scope"]}, {}, typed["days"]
    if re.fullmatch("[1-9][0-9]{0,4}", days) and int(days) <= MOST_DAYS:
        sent["expiresAt"] = show_time(now() + timedelta(days=int(days)))
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
    record = db.session.scalar(select(ApiKey).where(ApiKey.id == key_id))
    if record is None:
        abort(404, "There is no such key: it may have been deleted already.")
    return render_template("delete_key.html", record=record)


@developer.post("/keys/<key_id>/delete")
@public
def delete_key(key_id: str) -> Response:
    """Delete a key; it is refused from the next request on, and so is who signed in with it."""
    with write_transaction():
        deleted = db.session.scalar(delete(ApiKey).where(ApiKey.id == key_id).returning(ApiKey.id))
    if deleted is None:
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

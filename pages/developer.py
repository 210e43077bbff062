"""Settings → Developer: the API keys, how they are used, and their creation, rolling and deletion."""

import re
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Response, abort, g, redirect, render_template, request, url_for
from marshmallow import ValidationError

import auth
from api.keys import all_records, find_record
from api.protocol import base_url
from auth import API, public
from database.columns import now
from database.connection import execute, write_transaction
from formats.values import format_time
from models import SCOPES, KeyUse
from pages.overview import has_rows
from pages.sessions import COOKIE, HOME, PATHS, remove_token, require_session
from schemas import KeySchema

MAX_DAYS = 36_500
LIFETIMES = {"30": "30 days", "90": "90 days", "365": "a year", "": "never"}
LAST_DAY = sa.bindparam("since", type_=KeyUse.hour.type)
COUNT_USES = (
    sa.select(KeyUse.api_key_id, sa.func.sum(KeyUse.requests), sa.func.sum(KeyUse.errors))
    .where(KeyUse.hour > LAST_DAY)
    .group_by(KeyUse.api_key_id)
)
NOT_FOUND = "This key does not exist. It may have been deleted already."

blueprint = Blueprint("developer", __name__, url_prefix=HOME)
blueprint.before_request(require_session)
schema = KeySchema()


@blueprint.get("")
@public
def show_keys() -> str:
    """Show the keys, newest first; with `q` or `scope`, those with this text in the name, or with this scope."""
    keys, q, scope = with_uses(all_records())[::-1], request.args.get("q", ""), request.args.get("scope", "")
    found = [key for key in keys if q.casefold() in key["name"].casefold() and scope in {"", key["scope"]}]
    shown = {"keys": found, "count": len(keys), "q": q, "scope": scope, "now": format_time(now())}
    return render_template("developer.html", **shown, scopes=SCOPES, is_empty=not has_rows())


def with_uses(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to the records of keys the `requests` and `errors` of the last 24 hours that are stored."""
    uses = {key_id: counts for key_id, *counts in execute(COUNT_USES, since=now() - timedelta(hours=24))}
    for record in records:
        record["requests"], record["errors"] = uses.get(record["id"], (0, 0))
    return records


@blueprint.get("/keys/new")
@public
def show_form() -> str:
    """Show the form for a new key."""
    form = {"scope": "read", "days": "90"}
    return render_template("new_key.html", scopes=SCOPES, lifetimes=LIFETIMES, form=form, errors={})


@blueprint.post("/keys/new")
@public
def add_key() -> Any:
    """Create a key and show it once, or show the form again with an error beside each invalid field."""
    form = {name: request.form.get(name, "") for name in ("name", "scope", "days")}
    try:
        values = read_form(form)
    except ValidationError as error:
        shown = {"scopes": SCOPES, "lifetimes": LIFETIMES, "form": form, "errors": error.messages}
        return render_template("new_key.html", **shown), 422
    with write_transaction():
        key_id, key = auth.create_key(**values)
        return show_new_key(key_id, key), 201


def show_new_key(key_id: str, key: str, is_rolled: bool = False) -> str:
    """Show a key once."""
    shown = {"record": find_record(key_id), "key": key, "url": f"{base_url()}{API}", "is_rolled": is_rolled}
    return render_template("created_key.html", **shown)


def read_form(form: dict[str, str]) -> dict[str, Any]:
    """Return the values of a new key. Raises ValidationError with the errors of all fields."""
    body, errors, days = {"name": form["name"], "scope": form["scope"]}, {}, form["days"].strip()
    if re.fullmatch("[1-9][0-9]{0,4}", days) and int(days) <= MAX_DAYS:
        body["expiresAt"] = format_time(now() + timedelta(days=int(days)))
    elif days:
        errors["days"] = [f"Must be a whole number from 1 to {MAX_DAYS}, or empty."]
    errors |= schema.validate(body)
    if errors:
        raise ValidationError(errors)
    return dict(schema.load(body))


@blueprint.get("/keys/<key_id>")
@public
def show_key(key_id: str) -> str:
    """Show a key, with the buttons that roll and delete it."""
    record = find_record(key_id) or abort(404, NOT_FOUND)
    return render_template("key.html", record=with_uses([record])[0], is_last=is_last_admin_key(record))


def is_last_admin_key(record: dict[str, Any]) -> bool:
    """Tell whether a key can't be deleted, because no other admin key lasts as long."""
    expires_at = datetime.fromisoformat(record["expiresAt"]) if record["expiresAt"] else None
    if record["scope"] != "admin" or auth.is_expired(expires_at):
        return False
    return all(key_id == record["id"] for [key_id] in execute(auth.FIND_ADMIN, until=expires_at or auth.MAX_TIME))


@blueprint.post("/keys/<key_id>/roll")
@public
def roll_key(key_id: str) -> str:
    """Replace a key and show the new one once. The old one stays valid for an hour."""
    with write_transaction():
        key = auth.roll_key(key_id) or abort(404, NOT_FOUND)
        return show_new_key(key_id, key, is_rolled=True)


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
    """End the session; a form that was sent already does that, too."""
    del g.form
    with write_transaction():
        remove_token("session", g.signed_in.token)
    response = redirect(url_for("pages.sign_in.show_sign_in"), 303)
    for path in PATHS:
        response.delete_cookie(COOKIE, path=request.root_path + path, httponly=True, samesite="Strict")
    return response  # type: ignore[return-value]

"""`/api/v1/keys`: the records of the API keys, for admin keys."""

from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Response, abort, g
from marshmallow import ValidationError

from api.json_sql import json_object, schema_fields
from api.parameters import Parameters, parse_body, refuse_body
from api.problems import Conflict
from api.responses import JSONResponse
from auth import InvalidKey, create_key, delete_key, requires, roll_key
from database.columns import now
from database.connection import execute, write_transaction
from formats.json_text import encode_json, parse_json
from models import ApiKey
from schemas import KeySchema

keys = Blueprint("keys", __name__)
schema = KeySchema()


@keys.get("/keys")
@requires("admin")
def list_keys() -> Response:
    """Return the records of all keys, oldest first."""
    Parameters()
    return JSONResponse(f"[{','.join(row for [row] in execute(keys_query))}]")


@keys.get("/keys/me", endpoint="get_key")
def show_own_key() -> Response:
    """Return the record of the request's own key, whatever its scope."""
    Parameters()
    row = execute(key_query, id=g.key.id).fetchone()
    if row is None:
        # The key was deleted after this request was authenticated.
        raise InvalidKey
    return JSONResponse(row[0])


@keys.post("/keys", endpoint="create_key")
@requires("admin")
def add_key() -> Response:
    """Create a key. The response has the record and the key itself, which is shown only once."""
    Parameters()
    values = schema.load(parse_body())
    if values["expires_at"] and values["expires_at"] <= now():
        raise ValidationError({"expiresAt": ["Must be in the future."]})
    with write_transaction():
        key_id, key = create_key(**values)
        return new_key_response(key_id, key, 201)


@keys.post("/keys/<key:key_id>/roll", endpoint="roll_key")
@requires("admin")
def replace_key(key_id: str) -> Response:
    """Replace a key by a new one, which is shown only once. The old key stays valid for an hour."""
    Parameters()
    refuse_body()
    with write_transaction():
        key = roll_key(key_id) or abort(404, f"There is no key with the id {key_id}.")
        return new_key_response(key_id, key, 200)


def new_key_response(key_id: str, key: str, status: int) -> Response:
    """Return the record of a key with the key itself."""
    record = find_record(key_id) or {}
    return JSONResponse(encode_json(record | {"key": key}), status, {"Cache-Control": "no-store"})


@keys.delete("/keys/<key:key_id>", endpoint="delete_key")
@requires("admin")
def remove_key(key_id: str) -> Response:
    """Delete a key. It is refused from the next request on. The request's own key is deleted only with `self=true`."""
    is_confirmed = Parameters("self").boolean("self")
    if key_id == g.key.id and not is_confirmed:
        raise Conflict("This is the key of this request: add self=true to delete it.")
    with write_transaction():
        if not delete_key(key_id):
            abort(404, f"There is no key with the id {key_id}.")
    return Response(status=204)


def all_records() -> list[dict[str, Any]]:
    """Return the records of all keys in the public JSON, oldest first."""
    return [parse_json(row.encode()) for [row] in execute(keys_query)]


def find_record(key_id: str) -> dict[str, Any] | None:
    """Return the record of a key in the public JSON, if it exists."""
    row = execute(key_query, id=key_id).fetchone()
    return None if row is None else parse_json(row[0].encode())


def keys_query() -> sa.Select[Any]:
    """Return the query for the records of all keys as JSON."""
    table: Any = ApiKey.__table__
    return sa.select(json_object(schema_fields(schema, table))).order_by(table.c.created_at, table.c.number)


def key_query() -> sa.Select[Any]:
    """Return the query for the record of the key with the id to bind."""
    return keys_query().where(ApiKey.id == sa.bindparam("id"))

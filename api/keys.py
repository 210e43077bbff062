"""`/api/v1/keys`: the keys' records, for who holds an admin key."""

from typing import Any

from flask import Blueprint, Response, abort, request
from marshmallow import ValidationError
from sqlalchemy import delete, select

from api.encoding import answer
from api.listing import refuse_unknown_parameters
from auth import create_key, needs
from database import db, write_transaction
from models import ApiKey, now
from schemas import KeySchema, read_json

keys = Blueprint("keys", __name__)
schema = KeySchema()


@keys.get("/keys")
@needs("admin")
def list_keys() -> Response:
    """Answer every key's record, oldest first."""
    refuse_unknown_parameters(())
    return answer(schema.dump(db.session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)), many=True))


@keys.post("/keys")
@needs("admin")
def add_key() -> Response:
    """Create a key and answer its record with the key itself, which is shown this once."""
    refuse_unknown_parameters(())
    values = schema.load(read_body())
    if values["expires_at"] and values["expires_at"] <= now():
        raise ValidationError({"expiresAt": ["Must be in the future."]})
    with write_transaction():
        record, key = create_key(**values)
        db.session.flush()
        shown = {**schema.dump(record), "key": key}
    return answer(shown, 201, {"Cache-Control": "no-store"})


@keys.delete("/keys/<key_id>")
@needs("admin")
def delete_key(key_id: str) -> Response:
    """Delete a key; whoever uses it is refused from the next request on."""
    refuse_unknown_parameters(())
    with write_transaction():
        deleted = db.session.scalar(delete(ApiKey).where(ApiKey.id == key_id).returning(ApiKey.id))
    if deleted is None:
        abort(404, f"There is no key with the id {key_id}.")
    return Response(status=204)


def read_body() -> Any:
    """Return the value of the request's JSON body.

    Raises JSONRefused for one that isn't JSON, and answers 415 for one that doesn't say it is.
    """
    if request.mimetype != "application/json":
        abort(415, "Send the body as Content-Type: application/json.")
    return read_json(request.get_data())

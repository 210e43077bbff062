"""`/api/v1/keys`: the keys' records, for who holds an admin key."""

from flask import Blueprint, Response, abort
from marshmallow import ValidationError
from sqlalchemy import delete, select

from api.bodies import read_body
from api.encoding import answer
from api.parameters import Parameters
from auth import create_key, needs
from database import db, write_transaction
from models import ApiKey, now
from schemas import KeySchema

keys = Blueprint("keys", __name__)
schema = KeySchema()


@keys.get("/keys")
@needs("admin")
def list_keys() -> Response:
    """Answer every key's record, oldest first."""
    Parameters()
    return answer(schema.dump(db.session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)), many=True))


@keys.post("/keys", endpoint="create_key")
@needs("admin")
def add_key() -> Response:
    """Create a key and answer its record with the key itself, which is shown this once."""
    Parameters()
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
    Parameters()
    with write_transaction():
        deleted = db.session.scalar(delete(ApiKey).where(ApiKey.id == key_id).returning(ApiKey.id))
    if deleted is None:
        abort(404, f"There is no key with the id {key_id}.")
    return Response(status=204)

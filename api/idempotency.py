"""Idempotency-Key: a request that is sent twice is carried out once."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import NamedTuple

import sqlalchemy as sa
from flask import Response, abort, g, request

from api.key_uses import delete_expired
from api.problems import Conflict
from api.responses import JSONResponse
from database.columns import now
from database.connection import execute
from database.statement import insert_statement
from models import Replay

running: set[tuple[str, str]] = set()
running_lock = threading.Lock()


class StoredResponse(NamedTuple):
    """A stored response."""

    fingerprint: str
    status: int
    location: str | None
    etag: str | None
    body: str


FIND_STORED = sa.select(*(getattr(Replay, name) for name in StoredResponse._fields)).where(
    Replay.api_key_id == sa.bindparam("api_key_id"), Replay.idempotency_key == sa.bindparam("idempotency_key")
)


@contextmanager
def exclusive_key() -> Iterator[str | None]:
    """Run the block with the request's Idempotency-Key, or None; no other request with the key runs meanwhile.

    Raises Conflict while another one runs.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        yield None
        return
    if not re.fullmatch("[!-~]{1,255}", key):
        abort(400, "Idempotency-Key must have 1 to 255 visible ASCII characters.")
    pair = (g.key.id, key)
    with running_lock:
        is_running = pair in running
        running.add(pair)
    # A response that is stored already can be replayed at once.
    if is_running and not find_stored(key):
        raise Conflict("The first request with this Idempotency-Key is still running: wait, then try again.")
    try:
        yield key
    finally:
        running.discard(pair)


def replay_or_run(key: str | None, run: Callable[[], Response]) -> Response:
    """Return the response stored for the key in the last 24 hours, or else run the request and store its response.

    The response is stored in the transaction of the request itself. Responds 422 if another request used the key, and
    410 after an erasure.
    """
    if key is None:
        return run()
    delete_expired(Replay.created_at)
    stored = find_stored(key)
    fingerprint = sha256(b"\n".join((request.method.encode(), request.full_path.encode(), request.get_data())))
    if stored:
        if stored.fingerprint != fingerprint.hexdigest():
            abort(422, "This Idempotency-Key was used for another request: use a new one.")
        if not stored.body:
            abort(410, "The data in the first response was erased.")
        g.etag = stored.etag
        headers = {"Idempotent-Replayed": "true"} | ({"Location": stored.location} if stored.location else {})
        return JSONResponse(stored.body, stored.status, headers)
    response = run()
    location, body = response.headers.get("Location"), response.get_data(as_text=True)
    new = StoredResponse(fingerprint.hexdigest(), response.status_code, location, g.etag, body)
    execute(insert_statement, Replay, api_key_id=g.key.id, idempotency_key=key, created_at=now(), **new._asdict())
    return response


def find_stored(key: str) -> StoredResponse | None:
    """Return the response stored for the key, if there is one."""
    row = execute(FIND_STORED, api_key_id=g.key.id, idempotency_key=key).fetchone()
    return StoredResponse(*row) if row else None

"""Idempotency-Key: a request that is sent twice is carried out once."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

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
FIND_STORED = sa.select(Replay.fingerprint, Replay.status, Replay.location, Replay.etag, Replay.body).where(
    Replay.api_key_id == sa.bindparam("api_key_id"), Replay.idempotency_key == sa.bindparam("idempotency_key")
)


@contextmanager
def exclusive_key() -> Iterator[str | None]:
    """Run the block with the request's Idempotency-Key, or None. Raises Conflict while another request with it runs."""
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
    """Return the response stored for the key in the last 24 hours, or run the request and store its response.

    It is stored in the transaction of the request itself. Responds 422 if another request used the key, and 410 after
    an erasure.
    """
    if key is None:
        return run()
    delete_expired(Replay.created_at)
    sent = b"\n".join((request.method.encode(), request.full_path.encode(), request.get_data()))
    if stored := find_stored(key):
        fingerprint, status, location, g.etag, body = stored
        if fingerprint != sha256(sent).hexdigest():
            abort(422, "This Idempotency-Key was used for another request: use a new one.")
        if not body:
            abort(410, "The data in the first response was erased.")
        headers = {"Idempotent-Replayed": "true"} | ({"Location": location} if location else {})
        return JSONResponse(body, status, headers)
    response = run()
    values = {"fingerprint": sha256(sent).hexdigest(), "status": response.status_code, "etag": g.etag}
    values |= {"location": response.headers.get("Location"), "body": response.get_data(as_text=True)}
    execute(insert_statement, Replay, api_key_id=g.key.id, idempotency_key=key, created_at=now(), **values)
    return response


def find_stored(key: str) -> Any:
    """Return the row of FIND_STORED for the key, or None."""
    return execute(FIND_STORED, api_key_id=g.key.id, idempotency_key=key).fetchone()

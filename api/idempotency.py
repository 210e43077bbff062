"""Idempotency-Key: a request that is sent twice is carried out once."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256

import sqlalchemy as sa
from flask import Response, abort, g, request

from api.encoding import answer_row
from api.problems import Conflict
from database import db
from models import Replay, now

LIFETIME = timedelta(hours=24)

under_way: set[tuple[str, str]] = set()
under_way_lock = threading.Lock()


@contextmanager
def one_at_a_time() -> Iterator[str | None]:
    """Give the request's Idempotency-Key, or None; no other request with it runs until the block's end.

    Raises Conflict while another does.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        yield None
        return
    if not re.fullmatch("[!-~]{1,255}", key):
        abort(400, "Idempotency-Key must have 1 to 255 visible ASCII characters.")
    mine = (g.key.id, key)
    with under_way_lock:
        is_running = mine in under_way
        under_way.add(mine)
    # One that is only being answered once more holds up no other.
    if is_running and db.session.get(Replay, mine) is None:
        raise Conflict("The first request with this Idempotency-Key is still running: wait, then ask again.")
    try:
        yield key
    finally:
        under_way.discard(mine)


def answer_once(key: str | None, write: Callable[[], Response]) -> Response:
    """Return the answer of writing, or the one that was given to the same request before, within 24 hours.

    It is kept by the transaction that writes. Answers 422 where the key was used for another request.
    """
    if key is None:
        return write()
    db.session.execute(sa.delete(Replay).where(Replay.created_at < now() - LIFETIME))
    kept = db.session.get(Replay, (g.key.id, key))
    fingerprint = sha256(b"\n".join((request.method.encode(), request.full_path.encode(), request.get_data())))
    if kept:
        if kept.fingerprint != fingerprint.hexdigest():
            abort(422, "This Idempotency-Key was used for another request: use a new one.")
        g.etag = kept.etag
        headers = {"Idempotent-Replayed": "true"} | ({"Location": kept.location} if kept.location else {})
        return answer_row(kept.body, kept.status, headers)
    response = write()
    db.session.add(
        Replay(
            api_key_id=g.key.id,
            idempotency_key=key,
            fingerprint=fingerprint.hexdigest(),
            status=response.status_code,
            location=response.headers.get("Location"),
            etag=g.etag,
            body=response.get_data(as_text=True),
            created_at=now(),
        )
    )
    return response

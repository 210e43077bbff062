"""Idempotency-Key: a request that is sent twice is carried out once."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from flask import Response, abort, g, request

from api.encoding import Answer
from api.problems import Conflict
from api.storing import places
from database import read, write
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
    if is_running and not find_replay(key):
        raise Conflict("The first request with this Idempotency-Key is still running: wait, then ask again.")
    try:
        yield key
    finally:
        under_way.discard(mine)


def answer_once(key: str | None, carry_out: Callable[[], Response]) -> Response:
    """Return the answer of writing, or the one that was given to the same request before, within 24 hours.

    It is kept by the transaction that writes. Answers 422 where the key was used for another request.
    """
    if key is None:
        return carry_out()
    write(forget_statement, before=now() - LIFETIME)
    kept = find_replay(key)
    fingerprint = sha256(b"\n".join((request.method.encode(), request.full_path.encode(), request.get_data())))
    if kept:
        first, status, location, g.etag, body = kept
        if first != fingerprint.hexdigest():
            abort(422, "This Idempotency-Key was used for another request: use a new one.")
        headers = {"Idempotent-Replayed": "true"} | ({"Location": location} if location else {})
        return Answer(body, status, headers)
    response = carry_out()
    write(
        keep_statement,
        api_key_id=g.key.id,
        idempotency_key=key,
        fingerprint=fingerprint.hexdigest(),
        status=response.status_code,
        location=response.headers.get("Location"),
        etag=g.etag,
        body=response.get_data(as_text=True),
        created_at=now(),
    )
    return response


def find_replay(key: str) -> tuple[str, int, str | None, str | None, str] | None:
    """Return what was answered under the key, if anything was: fingerprint, status, location, ETag, body."""
    found: tuple[str, int, str | None, str | None, str] | None
    found = read(replay_query, api_key_id=g.key.id, idempotency_key=key).fetchone()
    return found


def replay_query() -> sa.Select[*tuple[Any, ...]]:
    """Return the query for what is kept under a key of a client."""
    kept = sa.select(Replay.fingerprint, Replay.status, Replay.location, Replay.etag, Replay.body)
    return kept.where(
        Replay.api_key_id == sa.bindparam("api_key_id"), Replay.idempotency_key == sa.bindparam("idempotency_key")
    )


def keep_statement() -> sa.Insert:
    """Return the statement that keeps an answer."""
    table: Any = Replay.__table__
    return sa.insert(table).values(places(table.c))


def forget_statement() -> sa.Delete:
    """Return the statement that deletes the answers from before a time."""
    return sa.delete(Replay).where(Replay.created_at < sa.bindparam("before"))

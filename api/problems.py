"""Every error as `application/problem+json` (RFC 9457): status, a sentence that tells what to do, what is at fault."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g
from marshmallow import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from api.encoding import Answer
from auth import Unauthenticated, redact
from database import TakesLong, backend, db, drop_reader, haste
from schemas import JSONRefused, pointers

log = logging.getLogger("cardfile")

PROBLEM_TYPE = "application/problem+json"
SENTENCES = {
    404: "There is nothing at this address.",
    413: "The body is larger than 1 MiB: send less at once.",
    415: "Send the body as it is, in UTF-8, with Content-Type: application/json.",
    422: "Some of what was sent can't be taken: see errors.",
    431: "The headers are too large: send fewer or shorter ones.",
    500: "An error occurred on our end; the log tells more under this request's id.",
    503: "The database is busy or out of reach: try again.",
    507: "The disk that holds the database is full.",
}


# Who made more mistakes made one many times.
MOST_ERRORS = 100


class Conflict(Exception):
    """The request contradicts what is stored; the message names the rows, `faults` the members of an array by place."""

    def __init__(self, message: str, faults: Mapping[int, Any] | None = None) -> None:
        super().__init__(message)
        self.faults = faults or {}


class QueryRefused(Exception):
    """The query string asks for something that isn't known; the message says what is."""


def describe(status: int, detail: str, request_id: str, errors: list[dict[str, str]] | None = None) -> str:
    """Return the JSON that tells of a problem, with the request's id to find it in the log by."""
    members: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "requestId": request_id,
    }
    if errors:
        members["errors"] = errors[:MOST_ERRORS]
    # Escaped, so that input that isn't proper text can be named all the same.
    return redact(json.dumps(members, separators=(",", ":")))


def problem(
    status: int,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer that tells of a problem."""
    return Answer(describe(status, detail, g.request_id, errors), status, headers, PROBLEM_TYPE)


def init_problems(app: Flask) -> None:
    """Have every exception answered here and nowhere else."""
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(Unauthenticated, answer_unauthenticated)
    app.register_error_handler(QueryRefused, lambda error: problem(400, str(error)))
    app.register_error_handler(Conflict, lambda error: problem(409, str(error), list(pointers(error.faults))))
    app.register_error_handler(JSONRefused, lambda error: problem(400, str(error)))
    app.register_error_handler(ValidationError, answer_invalid)
    app.register_error_handler(DBAPIError, answer_database_error)
    with app.app_context():
        # What is read past SQLAlchemy's execution raises the driver's own errors.
        app.register_error_handler(db.engine.dialect.loaded_dbapi.Error, answer_database_error)
    app.register_error_handler(PoolTimeout, answer_unavailable)
    app.register_error_handler(Exception, answer_bug)


def answer_http_error(error: HTTPException) -> Response:
    """Answer what Flask and Werkzeug raise."""
    status = error.code or 500
    headers = {}
    own_words = error.description not in {None, type(error).description}
    detail = str(error.description) if own_words else SENTENCES.get(status, str(error.description))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        allowed = headers["Allow"] = ", ".join(sorted(error.valid_methods))
        detail = f"This address takes {allowed}."
    return problem(status, detail, headers=headers)


def answer_unauthenticated(error: Unauthenticated) -> Response:
    """Answer 401 or 403 with a challenge (RFC 6750 §3)."""
    members = {"realm": "cardfile"} | error.challenge
    challenge = ", ".join(f'{name}="{value}"' for name, value in members.items())
    return problem(error.status, error.detail, headers={"WWW-Authenticate": f"Bearer {challenge}"})


def answer_invalid(error: ValidationError) -> Response:
    """Answer 422 with a pointer to every member at fault."""
    faults = list(pointers(error.messages))
    part = f" The first {MOST_ERRORS} of {len(faults)} are there." if len(faults) > MOST_ERRORS else ""
    return problem(422, f"{SENTENCES[422]}{part}", faults)


def answer_database_error(error: Exception) -> Response:
    """Answer 507 for a full disk, 503 for a database that is locked or gone, 500 for the rest.

    Raises TakesLong in haste: then the statement may have been broken off, or whoever has the time finds out the rest.
    """
    if haste.is_on:
        raise TakesLong from error
    drop_reader()
    cause = getattr(error, "orig", error)
    if backend().is_full(cause):
        log.error("The disk is full")
        return problem(507, SENTENCES[507])
    if backend().is_unavailable(cause):
        return answer_unavailable(error)
    return answer_bug(error)


def answer_unavailable(error: Exception) -> Response:
    """Answer 503: the same request may well succeed a moment later."""
    log.warning("The database is unavailable: %s", getattr(error, "orig", error))
    return problem(503, SENTENCES[503], headers={"Retry-After": "1"})


def answer_bug(error: Exception) -> Response:
    """Answer 500 without internals; they go to the log."""
    log.error("Request %s failed", g.request_id, exc_info=error)
    return problem(500, SENTENCES[500])

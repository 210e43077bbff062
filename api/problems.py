"""Every error as `application/problem+json` (RFC 9457)."""

import errno
import json
import logging
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, current_app, g, request
from marshmallow import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import ClientDisconnected, HTTPException, MethodNotAllowed
from werkzeug.http import HTTP_STATUS_CODES

from api.first_key import NO_KEYS, has_keys
from api.rate_limits import TooManyRequests
from api.responses import JSONResponse
from auth import API, KeyConflict, Unauthenticated, redact
from database import backend, db
from database.connection import MAX_READ_SECONDS, ReadTimeout, TooManyLongReads, connections, discard_connections
from database.identity import LostFile
from database.sqlite import READ_ONLY
from database.write_lock import WriteLockTimeout
from formats.errors import MAX_ERRORS, pointers, suggest
from formats.json_text import InvalidJSON

log = logging.getLogger("cardfile")

PROBLEM_TYPE = "application/problem+json"
DETAILS = {
    404: "There is nothing at this address.",
    413: "The body is larger than 1 MiB: send less at once.",
    415: "Send the body uncompressed, in UTF-8, with Content-Type: application/json.",
    422: "Some of the fields are not valid: see errors.",
    431: "The headers are larger than 16 KiB, or the URL is too long: send less.",
    500: "An internal error occurred. The log has details under this request's id.",
    503: "The database is busy or out of reach: try again.",
    507: "The disk that holds the database is full, or a quota is used up.",
}
SHORT_BODY = "The body ended before the number of bytes in Content-Length: send it again."
ASK_FOR_LESS = "ask for less by limit, by a filter that has an index, by longer words in q, or without include."
TOO_LONG_READ = f"This takes more than {MAX_READ_SECONDS} seconds: {ASK_FOR_LESS}"
TOO_MANY_LONG_READS = f"Too many requests that take long are running: try again, or {ASK_FOR_LESS}"


class Conflict(Exception):
    """The request conflicts with stored rows, which the message names; `errors` has a message for each of several."""

    def __init__(self, message: str, errors: Mapping[Any, Any] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or {}


class InvalidQuery(Exception):
    """The query string isn't valid; the message says what to send instead."""


class Interrupted(Exception):
    """A response can't be completed; `problem` is the one to send instead if its status hasn't been sent yet."""

    def __init__(self, problem: Response) -> None:
        super().__init__(problem.status)
        self.problem = problem


def problem_json(status: int, detail: str, request_id: str, errors: list[dict[str, str]] | None = None) -> str:
    """Return the JSON of a problem."""
    fields: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTP_STATUS_CODES[status],
        "status": status,
        "detail": detail,
        "requestId": request_id,
    }
    if errors:
        fields["errors"] = errors[:MAX_ERRORS]
    # Escaped: a name in the input may have lone surrogates.
    return redact(json.dumps(fields, separators=(",", ":")))


def problem(
    status: int,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the response for a problem."""
    return JSONResponse(problem_json(status, detail, g.request_id, errors), status, headers, PROBLEM_TYPE)


def init_problems(app: Flask) -> None:
    """Turn every exception into a response."""
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(ClientDisconnected, lambda _error: problem(400, SHORT_BODY))
    app.register_error_handler(Unauthenticated, unauthenticated)
    app.register_error_handler(InvalidQuery, lambda error: problem(400, str(error)))
    app.register_error_handler(Conflict, lambda error: problem(409, str(error), list(pointers(error.errors))))
    app.register_error_handler(KeyConflict, lambda error: problem(409, str(error)))
    app.register_error_handler(InvalidJSON, lambda error: problem(400, str(error)))
    app.register_error_handler(ValidationError, validation_error)
    app.register_error_handler(DBAPIError, database_error)
    with app.app_context():
        # database.connection.execute() raises the driver's own errors.
        app.register_error_handler(db.engine.dialect.loaded_dbapi.Error, database_error)
    app.register_error_handler(OSError, system_error)
    app.register_error_handler(PoolTimeout, unavailable)
    app.register_error_handler(WriteLockTimeout, unavailable)
    app.register_error_handler(TooManyLongReads, lambda _error: try_later(TOO_MANY_LONG_READS, 5))
    app.register_error_handler(ReadTimeout, lambda _error: problem(400, TOO_LONG_READ))
    app.register_error_handler(TooManyRequests, lambda error: try_later(str(error), error.seconds, 429))
    app.register_error_handler(LostFile, unusable_database)
    app.register_error_handler(Exception, internal_error)


def http_error(error: HTTPException) -> Response:
    """Return the response for an exception of Flask or Werkzeug."""
    status = error.code or 500
    headers = {}
    is_custom = error.description not in {None, type(error).description}
    detail = str(error.description) if is_custom else DETAILS.get(status, str(error.description))
    if status == 404 and not is_custom:
        detail += path_hint()
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        allowed = headers["Allow"] = ", ".join(sorted(error.valid_methods))
        detail = f"This address takes {allowed}."
    return problem(status, detail, headers=headers)


def path_hint() -> str:
    """Return a hint, with a space before it, for a path that the API doesn't have."""
    start, _api, path = request.path.partition(f"{API}/")
    if start or not path:
        return ""
    rules = [rule.rule for rule in current_app.url_map.iter_rules() if rule.rule.startswith(f"{API}/")]
    known, name = dict.fromkeys(rule.split("/")[3] for rule in rules), path.partition("/")[0]
    if name in known:
        return " Leave out the slash at its end." if path.endswith("/") else ""
    return f" {suggest(name, tuple(known))}"


def unauthenticated(error: Unauthenticated) -> Response:
    """Return 401 or 403 with a challenge (RFC 6750 §3)."""
    parameters = {"realm": "cardfile"} | error.challenge
    challenge = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
    detail = error.detail if error.status == 403 or has_keys() else NO_KEYS
    return problem(error.status, detail, headers={"WWW-Authenticate": f"Bearer {challenge}"})


def validation_error(error: ValidationError) -> Response:
    """Return 422 with a pointer to every field at fault."""
    errors = list(pointers(error.messages))
    note = f" The first {MAX_ERRORS} are listed." if len(errors) >= MAX_ERRORS else ""
    return problem(422, f"{DETAILS[422]}{note}", errors)


def database_error(error: Exception) -> Response:
    """Return 507 for a full disk, 503 for a database that is locked, gone or damaged, 500 otherwise."""
    discard_connections(error)
    file, cause = connections().file, getattr(error, "orig", error)
    if file and file.fault:
        return unusable_database(file.fault)
    if connections().is_disk_full(error):
        log.error("The disk is full, or a quota is used up: %s", cause)
        return problem(507, DETAILS[507])
    if backend().is_unavailable(cause):
        return unavailable(error)
    if sentence := backend().fault(cause):
        log.error("%s (%s)", sentence, cause)
        return unusable_database(sentence)
    return internal_error(error)


def system_error(error: OSError) -> Response:
    """Return 507 if a file beside the database doesn't fit on the disk, 503 if it can't be written, 500 otherwise."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}:
        return internal_error(error)
    log.error("A file can't be written: %s", error)
    if error.errno in {errno.EACCES, errno.EROFS}:
        return unusable_database(READ_ONLY)
    return problem(507, DETAILS[507])


def try_later(detail: str, seconds: int, status: int = 503) -> Response:
    """Return a problem that says after how many seconds to try again (RFC 9110 §10.2.3)."""
    return problem(status, detail, headers={"Retry-After": str(seconds)})


def unavailable(error: Exception) -> Response:
    """Return 503: the same request may succeed a moment later."""
    log.warning("The database is unavailable: %s", getattr(error, "orig", error))
    return try_later(DETAILS[503], 1)


def unusable_database(fault: object) -> Response:
    """Return 503 for a fault of the database that the operator must fix; it is in the log already."""
    return try_later(str(fault), 10)


def internal_error(error: Exception) -> Response:
    """Return 500 without internals; they go to the log."""
    log.error("Request %s failed", g.request_id, exc_info=error)
    return problem(500, DETAILS[500])

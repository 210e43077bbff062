"""The responses, their headers, and the request bodies, as OpenAPI describes them, with examples."""

import json
from typing import Any

from werkzeug.http import HTTP_STATUS_CODES

from api.media_types import CSV, LIST_TYPES, not_acceptable
from api.problems import DETAILS, PROBLEM_TYPE, problem_json
from api.rate_limits import TooManyRequests
from api.revert import RevertSchema
from api.write_views import MAX_BATCH
from auth import InsufficientScope, Unauthenticated
from formats.csv_text import csv_line
from formats.json_text import encode_json
from openapi.json_schema import KEY, REQUEST_ID, SECRET, TEXT, JSONSchema, example_change, ref, request_fields, title_of
from openapi.operations import Operation

NUMBER: JSONSchema = {"type": "integer", "minimum": 0}
# Only X-Request-Id is always present.
HEADERS: dict[str, JSONSchema] = {
    name: {"description": text, "schema": schema, "required": name == "X-Request-Id"}
    for name, schema, text in (
        ("X-Request-Id", TEXT, "The id of the request in the log."),
        ("Dataset-Id", TEXT, "The id of the history of versions and ETags: a restored copy has another id."),
        ("Dataset-Version", NUMBER, "The number of the last change that the response reflects."),
        ("ETag", TEXT, "The version of the content, for `If-None-Match` and `If-Match`. Absent from a dry run."),
        ("Link", TEXT, 'The URL of the next page, as `<…>; rel="next"`. Absent on the last page.'),
        ("X-Total-Count", NUMBER, "The number of rows on all pages, with `Prefer: count=exact`."),
        ("Preference-Applied", TEXT, "`count=exact` if it was requested."),
        ("Location", TEXT | {"format": "uri-reference"}, "The path of what was created. Absent from a batch."),
        ("Idempotent-Replayed", TEXT | {"enum": ["true"]}, "Present if this is the response to an earlier request."),
        ("Content-Disposition", TEXT, "The name of the file, of a snapshot with the number of the version, or of CSV."),
        ("Cache-Control", TEXT, "`no-store` for new keys and secrets, `immutable` (a year) with a version in `asOf`."),
        ("WWW-Authenticate", TEXT, "The reason why the key was rejected (RFC 6750)."),
        ("Retry-After", NUMBER, "The number of seconds to wait before retrying."),
        ("RateLimit-Policy", TEXT, "The limit of requests, if this server has one: `q` requests in `w` seconds."),
        ("RateLimit", TEXT, "The requests that are left (`r`), and the seconds until all are allowed again (`t`)."),
    )
}
# Of responses to requests with a valid key.
VERSION = ("Dataset-Id", "Dataset-Version", "RateLimit-Policy", "RateLimit")
ERROR_HEADERS = dict.fromkeys((401, 403), ("WWW-Authenticate",)) | dict.fromkeys((429, 503), ("Retry-After",))
# The description of each error, and the detail of an example.
ERRORS = {status: (DETAILS[status], DETAILS[status]) for status in (413, 415, 422, 431, 500, 503, 507)} | {
    400: (
        "The request, a parameter or the JSON is malformed, or the request takes too long.",
        "There is no parameter limt here. Did you mean limit?",
    ),
    401: ("The key is missing or invalid.", Unauthenticated.detail),
    403: ("The key lacks the required scope.", InsufficientScope("read", "write").detail),
    404: (
        "The id or the path does not exist, or the request or key to revert changed nothing.",
        "There is no contact with the id nobody.",
    ),
    406: ("`Accept` names no media type of the list.", not_acceptable(LIST_TYPES)),
    409: (
        "Two rows match, rows to revert were changed afterwards, a request is still running, the key is in use, or "
        "webhooks lack their setting or are too many.",
        "More than one row has this name: acme-1 and acme-2.",
    ),
    410: (
        "`since` is beyond the last change, or the data of a past version or a stored response is no longer kept.",
        "The last change is 5, so 9 belongs to another history.",
    ),
    412: ("The row has changed, or exists already.", "The contact has changed since: read it again, then decide."),
    429: ("Too many requests, if this server limits them.", str(TooManyRequests("requests with this API key", 30))),
}
TEST_EXAMPLE = {"status": 503, "ms": 12, "error": "The answer was 503 Service Unavailable.", "answer": "Closed"}
ATTEMPT_EXAMPLE = {"seq": 409, "at": "2024-01-15T10:30:00Z", **TEST_EXAMPLE}
FIELD_ERRORS = [{"pointer": "/name", "detail": "Is required."}]


def header_refs(*names: str) -> JSONSchema:
    """Return references to response headers."""
    return {name: ref(name, "headers") for name in ("X-Request-Id", *names)}


def error_name(status: int) -> str:
    """Return the name of an error's response in the document, as in `NotFound`."""
    return HTTP_STATUS_CODES[status].title().replace("-", "").replace(" ", "")


def error_responses() -> dict[str, JSONSchema]:
    """Return the responses of all errors, and 304."""
    headers = header_refs(*VERSION, "ETag")
    found = {error_name(304): {"description": "Not modified since the last request.", "headers": headers}}
    for status, (text, detail) in sorted(ERRORS.items()):
        example = problem_json(status, detail, REQUEST_ID, FIELD_ERRORS if status == 422 else None)
        version = VERSION if status not in {401, 431} and status < 500 else ()
        content = {PROBLEM_TYPE: {"schema": ref("Problem"), "example": json.loads(example)}}
        headers = header_refs(*ERROR_HEADERS.get(status, ()), *version)
        found[error_name(status)] = {"description": text, "headers": headers, "content": content}
    return found


def content_of(row: JSONSchema, example: Any, batch: bool = False) -> JSONSchema:
    """Return JSON content with an example; with `batch`, a row or an array of rows with an example of each."""
    if not batch:
        return {"application/json": {"schema": row, "example": example}}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": MAX_BATCH}
    examples = {"one": {"summary": "One", "value": example}, "batch": {"summary": "A batch", "value": [example]}}
    return {"application/json": {"schema": {"oneOf": [row, rows]}, "examples": examples}}


def lines_of(operation: Operation, row: JSONSchema) -> JSONSchema:
    """Return the content of the other media types of a list: lines of text, with an example."""
    content = {}
    for each in operation.media_types[1:]:
        header = csv_line(row) if each is CSV else ""
        content[each.essence] = {"schema": TEXT, "example": header + each.write(encode_json(row))}
    return content


def request_body(operation: Operation) -> JSONSchema:
    """Return the request body of an operation."""
    if operation.verb == "revert":
        example = {"requestId": RevertSchema().example()["requestId"]}
        return {"required": True, "content": content_of(ref("Revert"), example)}
    schema, title = operation.schema, title_of(operation.tag)
    fields = request_fields(schema)
    row = {name: schema.example()[name] for name, field in fields.items() if "readOnly" not in field}
    content = content_of(ref(f"New{title}"), row, batch=operation.verb == "create" and operation.endpoint is not None)
    if operation.verb == "update":
        flags = {name: row[name] for name, field in fields.items() if field.get("type") == "boolean"}
        content = content_of(ref(f"{title}Patch"), flags)
        content["application/merge-patch+json"] = content["application/json"]
    return {"required": True, "content": content}


def successes(operation: Operation) -> dict[int, tuple[str, JSONSchema]]:
    """Return the successful responses of an operation: description and content by status code."""
    title, noun, endpoint = title_of(operation.tag), operation.noun, operation.endpoint
    row = example_change() if operation.tag == "changes" else operation.schema.example()
    if noun == "attempts" or operation.verb == "test":
        is_list = noun == "attempts"
        title, row, noun = ("Attempt", ATTEMPT_EXAMPLE, noun) if is_list else ("TestResult", TEST_EXAMPLE, "answer")
    shown = {"anyOf": [ref(title), ref(f"Partial{title}")]} if "fields" in operation.parameters else ref(title)
    content = content_of(shown, row, batch=operation.verb == "create")
    if noun == "snapshot":
        content = {"application/octet-stream": {"schema": TEXT | {"format": "binary"}}}
    if operation.verb == "revert":
        row, noun = row | {"seq": 2, "action": "deleted", "data": None}, "new changes"
    if operation.verb in {"list", "revert"}:
        content = content_of({"type": "array", "items": shown}, [row]) | lines_of(operation, row)
    if operation.verb == "forget":
        return {204: (f"The {noun} and its history were erased.", {})}
    if operation.verb == "delete":
        return {204: (f"The {noun} was deleted.", {})}
    if operation.verb == "create" and endpoint:
        updated = {200: (f"The updated {noun}, or an array of them; none was created.", content)}
        return {201: (f"The created {noun}, or an array of them.", content)} | (updated if endpoint.match_on else {})
    if operation.verb in {"create", "roll", "rotate"}:
        new = {"lastUsedAt": None, "key": KEY} if noun == "key" else {"secret": SECRET}
        created, once = content_of(ref(f"Created{title}"), row | new), "key" if noun == "key" else "secret"
        return {201 if operation.verb == "create" else 200: (f"The new {once}, shown only once.", created)}
    replaced = {201: (f"The created {noun}.", content)} if operation.verb == "replace" else {}
    return {200: (f"The {noun}.", content)} | replaced


def responses_of(operation: Operation) -> JSONSchema:
    """Return all responses of an operation."""
    found: JSONSchema = {}
    for status, (text, content) in successes(operation).items():
        names = [name for name in operation.response_headers if name != "Location" or status == 201]
        response = {"description": text, "headers": header_refs(*VERSION, *names)}
        found[str(status)] = response | ({"content": content} if content else {})
    return found | {str(status): ref(error_name(status), "responses") for status in operation.error_statuses()}

"""The answers, their headers and the bodies of requests, as OpenAPI describes them, each with an example."""

import json
from http import HTTPStatus
from typing import Any

from api.keys import add_key, list_keys
from api.problems import DETAILS, PROBLEM_TYPE, problem_json
from api.read_views import get_row, list_rows
from api.resources import ENDPOINTS, Endpoint
from api.write_views import MAX_BATCH, READ_ONLY, patch_row, post_rows, put_row
from auth import InsufficientScope, Unauthenticated
from formats.values import BOOLEAN
from openapi.json_schema import KEY, JSONSchema, example_of, ref, title_of
from openapi.operations import GIVES, Operation
from schemas import KeySchema

REQUEST_ID = "01a20ab0-9312-7b2b-8a41-e4d8666c29a4"
EARLY = "2024-01-01T08:00:00Z"

TEXT: JSONSchema = {"type": "string"}
NUMBER: JSONSchema = {"type": "integer", "minimum": 0}
HEADERS: dict[str, tuple[JSONSchema, str]] = {
    "X-Request-Id": (TEXT, "What the log has this request under."),
    "Dataset-Version": (NUMBER, "The number of the last change that the answer reflects."),
    "ETag": (TEXT, "The state of what is answered, for `If-None-Match` and `If-Match`. Missing from a dry run."),
    "Link": (TEXT, 'The next page, as `<…>; rel="next"`; missing on the last.'),
    "X-Total-Count": (NUMBER, "The number of rows of all pages, where `Prefer: count=exact` asks for it."),
    "Preference-Applied": (TEXT, "`count=exact` where it was."),
    "Location": (TEXT | {"format": "uri-reference"}, "The path of the one row that was created."),
    "Idempotent-Replayed": (TEXT | {"enum": ["true"]}, "There where this is the answer to an earlier request."),
    "Cache-Control": (TEXT | {"enum": ["no-store"]}, "Keeps the key out of caches."),
    "WWW-Authenticate": (TEXT, "What is wrong with the key (RFC 6750)."),
    "Retry-After": (NUMBER, "In how many seconds to try again."),
}
# What each failure means, and the detail of one.
PROBLEMS: dict[int, tuple[str, str]] = {
    400: ("The request, a parameter or the JSON is malformed.", "There is no parameter limt here. Did you mean limit?"),
    401: ("There is no key, or it isn't valid.", Unauthenticated.detail),
    403: ("The key's scope is too small.", InsufficientScope("read", "write").detail),
    404: ("There is nothing at this address.", "There is no contact with the id nobody."),
    409: (
        "Two rows match, or the same request is still running.",
        "More than one row has this name: acme-1 and acme-2.",
    ),
    412: (
        "The row has changed since, or exists already.",
        "The contact has changed since: read it again, then decide.",
    ),
    413: ("The body is larger than 1 MiB.", DETAILS[413]),
    415: ("The body isn't `application/json`.", DETAILS[415]),
    422: ("The JSON breaks a rule: see `errors`.", DETAILS[422]),
    431: ("The headers are larger than 64 KiB.", DETAILS[431]),
    500: ("An error on our end: the log tells more.", DETAILS[500]),
    503: ("The database is busy: see `Retry-After`.", DETAILS[503]),
    507: ("The disk is full.", DETAILS[507]),
}
FAULTS = [{"pointer": "/name", "detail": "Is required."}]


def header_refs(*names: str) -> JSONSchema:
    """Return references to headers of the document."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def headers() -> dict[str, JSONSchema]:
    """Return all headers of answers; only the first two are always there."""
    return {
        name: {"description": about, "schema": schema} | ({"required": True} if name == "X-Request-Id" else {})
        for name, (schema, about) in HEADERS.items()
    }


def failure_name(status: int) -> str:
    """Return the name under which the answer of a failure stands in the document."""
    return "".join(word.capitalize() for word in HTTPStatus(status).phrase.replace("-", " ").split())


def failures() -> dict[str, JSONSchema]:
    """Return the answers of all failures, and the one that has nothing new."""
    unchanged = header_refs("X-Request-Id", "Dataset-Version", "ETag")
    found = {failure_name(304): {"description": "You have it as it is.", "headers": unchanged}}
    for status, (meaning, detail) in PROBLEMS.items():
        example = json.loads(problem_json(status, detail, REQUEST_ID, FAULTS if status == 422 else None))
        more = {401: ["WWW-Authenticate"], 403: ["WWW-Authenticate"], 503: ["Retry-After"]}.get(status, [])
        given = [*more, *(["Dataset-Version"] if status not in {401, 431} and status < 500 else [])]
        content = {PROBLEM_TYPE: {"schema": ref("Problem"), "example": example}}
        given_headers = header_refs("X-Request-Id", *given)
        found[failure_name(status)] = {"description": meaning, "headers": given_headers, "content": content}
    return found


def one_or_several(row: JSONSchema) -> JSONSchema:
    """Return the schema of a row or an array of them."""
    return {"oneOf": [row, {"type": "array", "items": row, "minItems": 1, "maxItems": MAX_BATCH}]}


def content(schema: JSONSchema, *values: Any) -> JSONSchema:
    """Return JSON of a schema with one example, or a second of several at once."""
    names = [("one", "One"), ("several", "Several at once")]
    if len(values) == 1:
        return {"application/json": {"schema": schema, "example": values[0]}}
    examples = {name: {"summary": told, "value": value} for (name, told), value in zip(names, values, strict=True)}
    return {"application/json": {"schema": schema, "examples": examples}}


def new_row(endpoint: Endpoint) -> JSONSchema:
    """Return the example of a row that is sent."""
    fields = endpoint.schema.fields
    return example_of(endpoint.schema, [str(fields[name].data_key) for name in fields if name not in READ_ONLY])


def patch(endpoint: Endpoint) -> JSONSchema:
    """Return the example of a change: the row's flags."""
    fields = endpoint.schema.fields.values()
    flags = [str(field.data_key) for field in fields if getattr(field, "format", None) is BOOLEAN]
    return example_of(endpoint.schema, flags)


def body(operation: Operation) -> JSONSchema:
    """Return what an operation's request has to send."""
    if operation.endpoint is None:
        sent = content(ref("NewKey"), example_of(KeySchema(), ["name", "scope", "expiresAt"]))
        return {"required": True, "content": sent}
    title, row = title_of(operation.endpoint), new_row(operation.endpoint)
    if operation.view is patch_row:
        sent = content(ref(f"{title}Patch"), patch(operation.endpoint))
        sent |= {"application/merge-patch+json": sent["application/json"]}
    elif operation.view is post_rows:
        sent = content(one_or_several(ref(f"New{title}")), row, [row])
    else:
        sent = content(ref(f"New{title}"), row)
    return {"required": True, "content": sent}


def successes(operation: Operation) -> dict[int, tuple[str, JSONSchema]]:
    """Return what an operation answers when all is well: for each status what it means, and the content."""
    if operation.method == "DELETE":
        return {204: ("It is deleted.", {})}
    if operation.endpoint:
        return row_successes(operation, operation.endpoint)
    key = example_of(KeySchema())
    if operation.view is add_key:
        created = key | {"lastUsedAt": None, "key": KEY}
        return {201: ("The new key, shown this once.", content(ref("CreatedKey"), created))}
    if operation.view is list_keys:
        return {200: ("The records of all keys.", content({"type": "array", "items": ref("Key")}, [key]))}
    row = example_of(ENDPOINTS["companies"].schema)
    change = {"seq": 1, "resource": "companies", "id": row["id"], "action": "created", "at": EARLY, "data": row}
    return {200: ("The changes.", content({"type": "array", "items": ref("Change")}, [change]))}


def row_successes(operation: Operation, endpoint: Endpoint) -> dict[int, tuple[str, JSONSchema]]:
    """Return what an operation on rows answers when all is well."""
    title, row, name = title_of(endpoint), example_of(endpoint.schema), endpoint.singular
    part = {"anyOf": [ref(title), ref(f"Partial{title}")]}
    one = content(ref(title), row)
    if operation.view is list_rows:
        return {200: (f"The {endpoint.name}.", content({"type": "array", "items": part}, [row]))}
    if operation.view is get_row:
        return {200: (f"The {name}.", content(part, row))}
    if operation.view is post_rows:
        either = content(one_or_several(ref(title)), row, [row])
        updated = {200: (f"What matched was updated: no {name} is new.", either)} if endpoint.match_on else {}
        return {201: (f"The new {name}, or an array as it was sent.", either)} | updated
    created = {201: (f"The {name} is created.", one)} if operation.view is put_row else {}
    return {200: (f"The {name} as it is now.", one)} | created


def responses(operation: Operation) -> JSONSchema:
    """Return everything that an operation can answer."""
    found: JSONSchema = {}
    for status, (meaning, given) in successes(operation).items():
        names = [name for name in GIVES.get(operation.view, ()) if name != "Location" or status == 201]
        told = {"description": meaning, "headers": header_refs("X-Request-Id", "Dataset-Version", *names)}
        found[str(status)] = told | ({"content": given} if given else {})
    return found | {str(status): failure_name(status) for status in operation.statuses()}

"""The parameters and headers of requests, as OpenAPI describes them."""

from collections.abc import Iterable, Iterator
from typing import Any

from api.changes import ETAGS
from api.feed import MAX_CHANGES, NEWEST
from api.query import MAX_FILTER_VALUES, MAX_PAGE, MAX_SEARCH_LENGTH, OPERATORS
from api.resources import ENDPOINTS, Endpoint
from openapi.json_schema import KEY_ID, REQUEST_ID, TEXT, JSONSchema, pattern_of, ref, value_schema
from openapi.operations import Operation
from schemas import ID

SYMBOLS = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<", "ne": "!="}
ETAG = TEXT | {"pattern": f"^({ETAGS})$"}
CURSOR = "WyJjb21wYW5pZXMiLCJjcmVhdGVkQXQiLCIyMDI0LTAxLTAxVDA4OjAwOjAwWiIsImFjbWUiXQ"
PRINTABLE = TEXT | {"pattern": "^[!-~]{1,255}$"}
ANY_ID = TEXT | {"pattern": "^[!-~]{1,128}$"}
VERSION_OR_TIME = TEXT | {"pattern": "^([0-9]{1,19}|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt].+)$"}
WORDS = TEXT | {"minLength": 1, "maxLength": MAX_SEARCH_LENGTH, "pattern": r"\S"}


def integer(smallest: int, largest: int) -> JSONSchema:
    """Return the schema of an integer."""
    return {"type": "integer", "minimum": smallest, "maximum": largest}


def parameter(name: str, schema: JSONSchema, example: Any, description: str) -> JSONSchema:
    """Return an optional query parameter, or a header if the name begins with a capital letter."""
    place = "header" if name[0].isupper() else "query"
    return {"name": name, "in": place, "description": description, "schema": schema, "example": example}


REPEAT = f" Repeat it to match any of up to {MAX_FILTER_VALUES:,} values."
# The parameters that several operations share; a suffix after a dot distinguishes two with the same name.
SHARED: dict[str, JSONSchema] = {
    name: parameter(name.partition(".")[0], schema, example, description)
    for name, schema, example, description in (
        ("limit", integer(1, MAX_PAGE), 50, "The maximum number of rows. `Link` holds the URL of the next page."),
        ("limit.changes", integer(1, MAX_CHANGES), 50, f"How many changes at most: {MAX_CHANGES}, or all with `net`."),
        ("cursor", TEXT, CURSOR, "The start of the page, from the `Link` header of the previous page."),
        ("cursor.changes", integer(0, NEWEST), 50, "With `net=true`: the start of the page, from the `Link` header."),
        ("asOf", VERSION_OR_TIME, "2024-01-15T10:30:00Z", "Return the data as of a version, as in `406`, or a time."),
        ("q", WORDS, "acme", "Search that ignores case and accents; all words must match, at most ten different ones."),
        ("dryRun", {"type": "boolean"}, True, "Validate the request and return the response, but save nothing."),
        ("self", {"type": "boolean"}, True, "Required to delete the key of the request itself."),
        ("since", integer(0, NEWEST), 0, "Return the changes after this number; all changes by default."),
        ("until", integer(0, NEWEST), 0, "Return the changes up to this number; the last change by default."),
        ("resource", TEXT | {"enum": list(ENDPOINTS)}, "contacts", "Return the changes of this resource."),
        ("id", ANY_ID, "contact-123", "Return the changes of rows with this id."),
        ("keyId", ANY_ID, KEY_ID, "Return the changes by the API key with this id."),
        ("requestId", ANY_ID, REQUEST_ID, "Return the changes by the request with this id."),
        (
            "net",
            {"type": "boolean"},
            True,
            "Return one entry for each row, with its last change and the row `before` and after all these changes. "
            "Rows that are the same before and after are left out, so that the last of several pages may be empty.",
        ),
        ("Prefer", TEXT, "count=exact", "`count=exact` adds the `X-Total-Count` header."),
        ("If-None-Match", ETAG, '"6f1c2b7a-394"', "The last `ETag`. While it is current, the response is 304."),
        ("If-None-Match.create", ETAG, "*", "`*` creates the row; if it exists, the response is 412."),
        ("If-Match", ETAG, '"6f1c2b7a-394"', "The `ETag` of the row; if it has changed, the response is 412."),
        ("Idempotency-Key", PRINTABLE, "import-7", "Makes the request safe to repeat for 24 hours."),
        ("X-Request-Id", TEXT, "sync-42", "Its id in the log: 1 to 128 characters of `A-Za-z0-9._-`, not `.` or `..`."),
    )
}


def parameters_of(operation: Operation) -> Iterator[JSONSchema]:
    """Yield the parameters of an operation."""
    if "{id}" in operation.path:
        schema = TEXT | {"maxLength": 64, "pattern": pattern_of(ID)}
        identifier = parameter("id", schema, operation.schema.example()["id"], "The id.")
        yield identifier | {"in": "path", "required": True}
    for name in (*operation.parameters, "X-Request-Id"):
        if name in SHARED:
            yield ref(name, "parameters")
        elif operation.endpoint:
            yield from resource_parameters(name, operation.endpoint)


def resource_parameters(name: str, endpoint: Endpoint) -> Iterator[JSONSchema]:
    """Yield a parameter that differs between resources, or all filters."""
    names, includes = tuple(endpoint.attributes), endpoint.includes
    if name == "filters":
        for field in names:
            yield from filters(endpoint, field)
    elif name == "sort":
        text = "Sort by these fields, as in `-updatedAt,id`: `-` is descending. Nulls come last; ties sort by id."
        yield parameter(name, words(endpoint.scalars, "-?"), "-createdAt", text)
    elif name == "fields":
        yield parameter(name, words(names), ",".join(names[:2]), "Return only these fields.")
    elif name == "include":
        yield parameter(name, words(includes), ",".join(includes), f"Embed related rows: {', '.join(includes)}.")
    elif endpoint.match_on:
        text = "Update the row with the same value in this field; create one if none matches. Two matches are 409."
        yield parameter(name, TEXT | {"enum": list(endpoint.match_on)}, endpoint.match_on[0], text)


def words(known: Iterable[str], prefix: str = "") -> JSONSchema:
    """Return the schema of a comma-separated list; generated clients would repeat the parameter for an array."""
    word = f"{prefix}({'|'.join(known)})"
    return TEXT | {"pattern": f"^{word}(,{word})*$"}


def filters(endpoint: Endpoint, name: str) -> Iterator[JSONSchema]:
    """Yield the filters on a field: by its value and, for numbers and times, by comparison."""
    attribute = endpoint.attributes[name]
    column, value = endpoint.table.c[attribute], value_schema(endpoint.schema, attribute)
    comparison, value = ("contains", value["items"]) if value.get("type") == "array" else ("=", value)
    if value.get("type") in {"integer", "number"}:
        # A filter compares with all decimals of a number.
        value = {"type": "number", "minimum": value["minimum"], "maximum": value["maximum"]}
    example = endpoint.schema.example()[name]
    examples = example if isinstance(example, list) else [example]
    null = " `null` stands for no value." if column.nullable else ""
    # Text without a format already allows the word null.
    is_text = value.keys() <= {"type", "minLength", "maxLength"}
    nullable = {"anyOf": [value, {"enum": ["null"]}]} if column.nullable and not is_text else value
    text = f"Rows where `{name}` {comparison} this value.{null}{REPEAT}"
    yield parameter(name, {"type": "array", "items": nullable}, examples, text)
    if endpoint.is_comparable(name):
        for operator in OPERATORS:
            schema, suffix = (nullable, null) if operator == "ne" else (value, "")
            text = f"Rows where `{name}` {SYMBOLS[operator]} this value.{suffix}"
            yield parameter(f"{name}[{operator}]", schema, example, text)

"""The parameters and headers that requests take, as OpenAPI describes them."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from api.changes import MAX_CHANGES
from api.query import MAX_FILTER_VALUES, MAX_PAGE, MAX_SEARCH_LENGTH, OPERATORS
from api.resources import Endpoint
from api.write_views import ETAGS
from models import Time
from openapi.json_schema import JSONSchema, Shapes
from openapi.operations import TAKES, Operation

COMPARISONS = {"gte": "at least", "gt": "more than", "lte": "at most", "lt": "less than", "ne": "anything but"}
TEXT: JSONSchema = {"type": "string"}


def whole(smallest: int, largest: int) -> JSONSchema:
    """Return the schema of a whole number."""
    return {"type": "integer", "minimum": smallest, "maximum": largest}


# Those that are the same wherever they are taken: where, their schema, what they do.
SHARED: dict[str, tuple[str, JSONSchema, str]] = {
    "limit": ("query", whole(1, MAX_PAGE), "A page of so many rows; `Link` names the next one."),
    "cursor": ("query", TEXT, "Where a page begins: take it from the `Link` of the page before."),
    "q": (
        "query",
        TEXT | {"minLength": 1, "maxLength": MAX_SEARCH_LENGTH, "pattern": r"\S"},
        "Only rows in whose text every one of these words occurs, in any case.",
    ),
    "dryRun": ("query", {"type": "boolean"}, "Check and answer everything as it would be, and keep nothing."),
    "since": ("query", whole(0, 2**63 - 1), "The number of the last change that you have; 0 for none, the default."),
    "If-None-Match": ("header", TEXT, "The `ETag` that you have: while it still holds, the answer is 304 and empty."),
    "If-Match": (
        "header",
        TEXT | {"pattern": f"^({ETAGS})$", "examples": ['"394"']},
        'The `ETag` that the row must still have, as in `"394"`, or else the answer is 412.',
    ),
    "Idempotency-Key": (
        "header",
        TEXT | {"pattern": "^[!-~]{1,255}$"},
        "A name of your own for this request: sent again within 24 hours, it is answered as the first time.",
    ),
    "Prefer": ("header", TEXT | {"examples": ["count=exact"]}, "`count=exact` adds `X-Total-Count`."),
    "X-Request-Id": (
        "header",
        TEXT,
        "A name for this request in the log, 1-128 of `A-Za-z0-9._-`; others are replaced.",
    ),
}
# Two that mean something else elsewhere.
CHANGES_LIMIT = ("query", whole(1, MAX_CHANGES), f"At most so many changes; {MAX_CHANGES} unless it is given.")
CREATE_ONLY = (
    "header",
    TEXT | {"pattern": f"^({ETAGS})$", "examples": ["*"]},
    "`*` to create the row only where there is none; or else the answer is 412.",
)


def parameter(name: str, place: str, schema: JSONSchema, about: str) -> JSONSchema:
    """Return a parameter that may be left out."""
    return {"name": name, "in": place, "description": about, "schema": schema}


def taken_by(operation: Operation, shapes: Shapes) -> Iterator[JSONSchema | str]:
    """Yield what an operation takes; a name stands for what is shared."""
    for name in TAKES[operation.view]:
        if name == "limit" and operation.tag == "changes":
            yield parameter(name, *CHANGES_LIMIT)
        elif name == "If-None-Match" and operation.method != "GET":
            yield parameter(name, *CREATE_ONLY)
        elif name in SHARED:
            yield name
        elif operation.endpoint:
            yield from own(name, operation.endpoint, shapes)
    yield "X-Request-Id"


def own(name: str, endpoint: Endpoint, shapes: Shapes) -> Iterator[JSONSchema]:
    """Yield a parameter that differs between resources, or all filters."""
    names = list(endpoint.attributes)
    if name == "filters":
        for field in names:
            yield from filters(endpoint, field, shapes)
    elif name == "sort":
        about = (
            "Fields to sort by, as in `-updatedAt,id`, `-` for descending; nulls come last, ties are in order of id."
        )
        yield parameter(name, "query", some_of(endpoint.scalars, "-?", "-createdAt"), about)
    elif name == "fields":
        yield parameter(
            name, "query", some_of(names, "", "id,name" if "name" in names else "id,status"), "Only these members."
        )
    elif name == "include":
        yield parameter(
            name, "query", some_of(endpoint.includes), f"Embed what belongs to each: {', '.join(endpoint.includes)}."
        )
    elif name == "matchOn" and endpoint.match_on:
        about = "Update the row that has the same value in this field, and create one only where none has; two are 409."
        yield parameter(name, "query", {"type": "string", "enum": list(endpoint.match_on)}, about)


def some_of(words: Any, before: str = "", example: str = "") -> JSONSchema:
    """Return the schema of a list of words that commas part: generated clients would repeat an array's parameter."""
    word = f"{before}({'|'.join(words)})"
    return {"type": "string", "pattern": f"^{word}(,{word})*$", "examples": [example or ",".join(words)]}


def column(endpoint: Endpoint, name: str) -> Any:
    """Return the column of a public name."""
    return endpoint.table.c[endpoint.attributes[name]]


def filters(endpoint: Endpoint, name: str, shapes: Shapes) -> Iterator[JSONSchema]:
    """Yield the filters on one field: on its value, and where it has an order, on ranges of it."""
    said = shapes.value(endpoint.schema.fields[endpoint.attributes[name]])
    is_list, own_column = said.get("type") == "array", column(endpoint, name)
    one = {
        key: each
        for key, each in (said["items"] if is_list else said).items()
        if key not in {"description", "examples"}
    }
    nullable = or_word_null(one) if own_column.nullable else one
    null = "; `null` for none" if own_column.nullable else ""
    which = f"with this {'member in ' if is_list else ''}`{name}`{null}"
    about = f"Only rows {which}. Repeated, any of them, up to {MAX_FILTER_VALUES:,}."
    yield parameter(name, "query", {"type": "array", "items": nullable}, about)
    if isinstance(own_column.type, Time | sa.Numeric | sa.Integer):
        for operator in OPERATORS:
            about = f"Only rows whose `{name}` is {COMPARISONS[operator]} this{null if operator == 'ne' else ''}."
            yield parameter(f"{name}[{operator}]", "query", nullable if operator == "ne" else one, about)


def or_word_null(said: JSONSchema) -> JSONSchema:
    """Return the schema of the same value or the word null; plain text has it already."""
    if said.keys() <= {"type", "minLength", "maxLength"} and said["type"] == "string":
        return said
    return {"anyOf": [*said.get("anyOf", [said]), {"const": "null"}]}

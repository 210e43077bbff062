"""The operations of the API, from the app's routes: path, parameters, response headers, scope and status codes."""

import re
from collections.abc import Callable, Iterator
from inspect import cleandoc
from typing import Any, NamedTuple

from flask import Flask

from api.feed import FILTERS
from api.media_types import FEED_TYPES, LIST_TYPES, MediaType
from api.resources import ENDPOINTS, Endpoint
from auth import API, required_scope
from schemas import KeySchema, PublicSchema

# By verb for all resources, by name for other operations: query parameters and request headers besides X-Request-Id,
# then headers of successful responses besides X-Request-Id, Dataset-Id and Dataset-Version.
TABLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "list": (
        ("limit", "cursor", "sort", "q", "fields", "include", "asOf", "filters", "Prefer", "If-None-Match"),
        ("ETag", "Link", "X-Total-Count", "Preference-Applied", "Cache-Control", "Content-Disposition"),
    ),
    "get": (("fields", "include", "asOf", "If-None-Match"), ("ETag", "Cache-Control")),
    "create": (("matchOn", "dryRun", "Idempotency-Key"), ("ETag", "Location", "Idempotent-Replayed")),
    "replace": (("dryRun", "If-Match", "If-None-Match.create"), ("ETag", "Location")),
    "update": (("dryRun", "If-Match"), ("ETag",)),
    "delete": (("dryRun", "If-Match"), ()),
    "forget": (("dryRun",), ()),
    "list_changes": (
        ("since", "until", *FILTERS, "net", "limit.changes", "cursor.changes", "If-None-Match"),
        ("ETag", "Link"),
    ),
    "get_snapshot": (("asOf", "If-None-Match"), ("ETag", "Content-Disposition", "Cache-Control")),
    "revert_changes": (("dryRun", "Idempotency-Key"), ("Idempotent-Replayed",)),
    "delete_key": (("self",), ()),
    "create_webhook": ((), ("Cache-Control", "Location")),
    **dict.fromkeys(("create_key", "roll_key", "rotate_webhook"), ((), ("Cache-Control",))),
}
KEYS = KeySchema()
WITH_BODY = {"POST", "PUT", "PATCH"}
WITHOUT_BODY = {"roll", "forget", "rotate", "test"}
# Besides those with a parameter that can conflict.
CONFLICTING = {"roll_key", "create_webhook", "rotate_webhook", "test_webhook"}


class Operation(NamedTuple):
    """One method of one route: `list_companies` has the verb `list`, the noun and the tag `companies`."""

    name: str
    verb: str
    noun: str
    tag: str
    endpoint: Endpoint | None
    schema: PublicSchema
    path: str
    method: str
    scope: str
    description: str
    parameters: tuple[str, ...]
    response_headers: tuple[str, ...]

    @property
    def has_body(self) -> bool:
        """Tell whether requests have a body."""
        return self.method in WITH_BODY and self.verb not in WITHOUT_BODY

    @property
    def media_types(self) -> tuple[MediaType, ...]:
        """Return the media types that `Accept` chooses from; none if each response is JSON."""
        if self.verb == "list" and self.endpoint:
            return LIST_TYPES
        return FEED_TYPES if self.name == "list_changes" else ()

    def error_statuses(self) -> list[int]:
        """Return the status codes of all errors, and 304."""
        names, writes = {*self.parameters}, self.method != "GET"
        conditions = {
            304: "If-None-Match" in names,
            403: self.scope != "read",
            404: "{id}" in self.path or self.verb == "revert",
            406: self.media_types,
            409: {"Idempotency-Key", "self"} & names or self.name in CONFLICTING,
            410: {"since", "asOf", "Idempotency-Key"} & names,
            412: "If-Match" in names,
            413: writes,
            415: self.has_body,
            422: self.has_body,
            507: writes or self.noun == "snapshot",
        }
        return sorted([400, 401, 429, 431, 500, 503, *(status for status in conditions if conditions[status])])


def schemas_of(app: Flask) -> dict[str, PublicSchema]:
    """Return the schema of each tag: of the resources, of keys, and those of rooms."""
    resources = {each.name: each.schema for each in ENDPOINTS.values()}
    return {**resources, "keys": KEYS, **app.extensions.get("schemas", {})}


def operations_of(app: Flask) -> Iterator[Operation]:
    """Yield every operation of the API, from the app's routes."""
    for rule in filter(lambda rule: rule.rule.startswith(f"{API}/"), app.url_map.iter_rules()):
        view, path = app.view_functions[rule.endpoint], re.sub("<[^>]+>", "{id}", rule.rule)
        name, tag = rule.endpoint.rpartition(".")[2], path.split("/")[3]
        (verb, _, noun), endpoint = name.partition("_"), ENDPOINTS.get(tag)
        row = TABLE.get(verb if endpoint else name, ((), ()))
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            schema = schemas_of(app).get(tag, KEYS)
            head = name, verb, noun, tag, endpoint, schema, path, method, required_scope(view, method)
            yield Operation(*head, description_of(view, endpoint), *row)


def description_of(view: Callable[..., Any], endpoint: Endpoint | None) -> str:
    """Return the docstring of a view, with the name of the resource in place of `row`."""
    text = cleandoc(str(getattr(view, "func", view).__doc__)).partition("\n\nRaises")[0]
    if endpoint:
        text = re.sub(r"\brow\b", endpoint.singular, re.sub(r"\brows\b", endpoint.name, text))
    return " ".join(text.split())

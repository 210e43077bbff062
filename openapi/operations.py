"""The operations of the API, from the app's routes: path, parameters, response headers, scope and status codes."""

import re
from collections.abc import Callable, Iterator
from inspect import cleandoc
from typing import Any, NamedTuple

from flask import Flask

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
        (
            *("since", "until", "resource", "id", "keyId", "requestId", "net"),
            *("limit.changes", "cursor.changes", "If-None-Match"),
        ),
        ("ETag", "Link"),
    ),
    "get_snapshot": (("asOf", "If-None-Match"), ("ETag", "Content-Disposition", "Cache-Control")),
    "revert_changes": (("dryRun", "Idempotency-Key"), ("Idempotent-Replayed",)),
    "create_key": ((), ("Cache-Control",)),
    "roll_key": ((), ("Cache-Control",)),
    "delete_key": (("self",), ()),
    "create_webhook": ((), ("Cache-Control",)),
    "rotate_webhook": ((), ("Cache-Control",)),
}
KEYS = KeySchema()
WITH_BODY = {"POST", "PUT", "PATCH"}
WITHOUT_BODY = {"roll", "forget", "rotate", "test"}


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

    def error_statuses(self) -> Iterator[int]:
        """Yield the status codes of all errors, and 304."""
        yield from [304] if "If-None-Match" in self.parameters else []
        yield from (400, 401)
        yield from [403] if self.scope != "read" else []
        yield from [404] if "{id}" in self.path or self.verb == "revert" else []
        yield from [406] if self.media_types else []
        is_conflict = {"Idempotency-Key", "self"} & set(self.parameters) or self.name in {
            "create_webhook",
            "roll_key",
            "rotate_webhook",
            "test_webhook",
        }
        yield from [409] if is_conflict else []
        yield from [410] if {"since", "asOf", "Idempotency-Key"} & set(self.parameters) else []
        yield from [412] if "If-Match" in self.parameters else []
        yield from [413] if self.method != "GET" else []
        yield from (415, 422) if self.has_body else ()
        yield from (429, 431, 500, 503)
        yield from [507] if self.method != "GET" or self.noun == "snapshot" else []


def schemas_of(app: Flask) -> dict[str, PublicSchema]:
    """Return the schema of each tag: of the resources, of keys, and those of rooms."""
    return {
        **{each.name: each.schema for each in ENDPOINTS.values()},
        "keys": KEYS,
        **app.extensions.get("schemas", {}),
    }


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

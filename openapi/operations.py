"""Every operation of the API, from the app's routes: what it is called, takes, gives and can answer."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from api.changes import list_changes
from api.keys import add_key, list_keys, remove_key
from api.read_views import get_row, list_rows
from api.resources import Endpoint
from api.write_views import delete_row, patch_row, post_rows, put_row
from auth import API, required_scope
from formats import public_name
from openapi.json_schema import ID_PATTERN, example_of
from schemas import KeySchema

# The names of what each view takes beside the id: in the query, and in headers.
TAKES: dict[Callable[..., Any], tuple[str, ...]] = {
    list_rows: ("limit", "cursor", "sort", "q", "fields", "include", "filters", "Prefer", "If-None-Match"),
    get_row: ("fields", "include", "If-None-Match"),
    post_rows: ("matchOn", "dryRun", "Idempotency-Key"),
    put_row: ("dryRun", "If-Match", "If-None-Match"),
    patch_row: ("dryRun", "If-Match"),
    delete_row: ("dryRun", "If-Match"),
    list_changes: ("since", "limit", "If-None-Match"),
    list_keys: (),
    add_key: (),
    remove_key: (),
}
# What each view answers beside the headers that every answer has.
GIVES: dict[Callable[..., Any], tuple[str, ...]] = {
    list_rows: ("ETag", "Link", "X-Total-Count", "Preference-Applied"),
    get_row: ("ETag",),
    post_rows: ("ETag", "Location", "Idempotent-Replayed"),
    put_row: ("ETag", "Location"),
    patch_row: ("ETag",),
    list_changes: ("ETag", "Link"),
    add_key: ("Cache-Control",),
}


@dataclass(frozen=True)
class Operation:
    """One method of one route: the view that answers it, and for which resource."""

    rule: Rule
    method: str
    view: Callable[..., Any]
    scope: str
    endpoint: Endpoint | None

    @property
    def id(self) -> str:
        """Return the name of the method in a generated client."""
        return public_name(self.rule.endpoint.rpartition(".")[2])

    @property
    def path(self) -> str:
        """Return the path, its variable named as everywhere."""
        return re.sub("<[^>]+>", "{id}", self.rule.rule)

    @property
    def path_parameters(self) -> list[dict[str, Any]]:
        """Return the id, if it is in the path."""
        told = {"name": "id", "in": "path", "required": True, "description": "The id of the row or the key."}
        schema = self.endpoint.schema if self.endpoint else KeySchema()
        said = {"type": "string", "pattern": ID_PATTERN, "examples": [example_of(schema)["id"]]}
        return [told | {"schema": said}] if self.rule.arguments else []

    @property
    def tag(self) -> str:
        """Return the resource that the path begins with."""
        return self.path.split("/")[3]

    @property
    def has_body(self) -> bool:
        """Tell whether the request has a body."""
        return self.method in {"POST", "PUT", "PATCH"}

    @property
    def sentences(self) -> tuple[str, str]:
        """Return the view's promise as a summary and what follows it, about this resource."""
        told = " ".join(str(self.view.__doc__).split())
        if self.endpoint:
            for word, name in ("rows", self.endpoint.name), ("row", self.endpoint.singular):
                told = re.sub(rf"\b{word}\b", name, told)
        summary, _stop, more = told.partition(". ")
        return summary.removesuffix("."), more

    def statuses(self) -> Iterator[int]:
        """Yield the statuses of all the ways in which it can fail, or have nothing to answer."""
        takes = TAKES[self.view]
        if "If-None-Match" in takes and self.method == "GET":
            yield 304
        yield from (400, 401)
        yield from [403] if self.scope != "read" else []
        yield from [404] if self.rule.arguments else []
        yield from [409] if "Idempotency-Key" in takes else []
        yield from [412] if "If-Match" in takes else []
        yield from (413, 415, 422) if self.has_body else ()
        yield from (431, 500, 503)
        yield from [507] if self.method != "GET" else []


def operations_of(app: Flask) -> Iterator[Operation]:
    """Yield every operation of the API, from the app's own routes."""
    for rule in app.url_map.iter_rules():
        view: Any = app.view_functions[rule.endpoint]
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}) if rule.rule.startswith(f"{API}/") else ():
            endpoint = next(iter(getattr(view, "args", ())), None)
            yield Operation(rule, method, getattr(view, "func", view), required_scope(view, method), endpoint)

"""What a schema can't say of a valid request; Schemathesis reads this before it generates any."""

import os
from itertools import count
from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation

# What has to stay: the key that all requests are sent with, and a company to refer to.
KEPT = (os.environ["OWN_KEY"], "acme")

numbers = count()


@schemathesis.hook
def before_call(_context: Any, case: Any, _arguments: Any) -> None:
    """Keep the key that all requests are sent with, and make a request that the schema calls valid one that is."""
    if case.method == "DELETE" and case.path_parameters.get("id") in KEPT:
        case.path_parameters["id"] = "nobody"
    is_positive = case.meta.generation.mode.is_positive
    broken = None if is_positive else getattr(case.meta.phase.data, "parameter_location", None)
    for name in "If-Match", "If-None-Match":
        if case.headers.get(name) in {"0", ""} and broken != ParameterLocation.HEADER:
            # What Schemathesis puts in where it draws nothing of this pattern: all would be refused for it.
            del case.headers[name]
    matched = str((case.query or {}).get("matchOn"))
    if broken != ParameterLocation.QUERY and any(None in (row.get("name"), row.get(matched)) for row in rows_of(case)):
        # What matches may leave out what a new row needs.
        (case.query or {}).pop("matchOn", None)
    if is_positive:
        make_valid(case)


def rows_of(case: Any) -> list[dict[str, Any]]:
    """Return the objects that are sent."""
    return [row for row in (case.body if isinstance(case.body, list) else [case.body]) if isinstance(row, dict)]


def make_valid(case: Any) -> None:
    """Change what is only valid together with something else, or at some time."""
    query, headers = case.query or {}, case.headers or {}
    # A cursor is one that a list gave.
    query.pop("cursor", None)
    if "sort" in query:
        terms = {term.removeprefix("-"): term for term in query["sort"].split(",")}
        query["sort"] = ",".join(terms.values())
    if "Idempotency-Key" in headers:
        # A key is used for one request.
        headers["Idempotency-Key"] = f"{next(numbers):06}-{headers['Idempotency-Key']}"[:255]
    for row in rows_of(case):
        if row.get("companyId"):
            row["companyId"] = "acme"
        if row.get("expiresAt"):
            row["expiresAt"] = "2100-01-01T00:00:00Z"

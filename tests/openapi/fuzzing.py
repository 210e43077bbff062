"""Hooks for Schemathesis: rules of valid requests that a JSON Schema can't express."""

import os
from itertools import count
from typing import Any

import schemathesis
from schemathesis.core.parameters import ParameterLocation

# Rows that must not be deleted: the key of all requests, a webhook, and a company to refer to.
PROTECTED = (os.environ["OWN_KEY"], os.environ["OWN_WEBHOOK"], "acme")

numbers = count()


@schemathesis.hook
def before_call(_context: Any, case: Any, _arguments: Any) -> None:
    """Keep the protected rows, and make a request valid that only the schema considers valid."""
    removes = case.method == "DELETE" or case.path.endswith(("/forget", "/roll"))
    if removes and case.path_parameters.get("id") in PROTECTED:
        case.path_parameters["id"] = "nobody"
    is_positive = case.meta.generation.mode.is_positive
    invalid_location = None if is_positive else getattr(case.meta.phase.data, "parameter_location", None)
    if invalid_location == ParameterLocation.BODY and case.path.endswith("/webhooks/{id}"):
        # An unknown webhook is 404 before the body is validated.
        case.path_parameters["id"] = os.environ["OWN_WEBHOOK"]
    for name in "If-Match", "If-None-Match":
        if case.headers.get(name) in {"0", ""} and invalid_location != ParameterLocation.HEADER:
            # Schemathesis sends these placeholders if it can't generate a valid value; every request would be refused.
            del case.headers[name]
    matched = str((case.query or {}).get("matchOn"))
    if invalid_location != ParameterLocation.QUERY and any(
        None in (row.get("name"), row.get(matched)) for row in rows_of(case)
    ):
        # A row that matches may omit required fields, a new row may not.
        (case.query or {}).pop("matchOn", None)
    if case.path.endswith("/revert") and invalid_location != ParameterLocation.QUERY:
        # A revert would take back the rows that other requests refer to.
        case.query = (case.query or {}) | {"dryRun": "true"}
    if is_positive:
        make_valid(case)


def rows_of(case: Any) -> list[dict[str, Any]]:
    """Return the objects of the request body."""
    return [row for row in (case.body if isinstance(case.body, list) else [case.body]) if isinstance(row, dict)]


def make_valid(case: Any) -> None:
    """Change values that are valid only in combination with others, or at some time."""
    query, headers = case.query or {}, case.headers or {}
    # A valid cursor comes from a list.
    query.pop("cursor", None)
    if "asOf" in query:
        query["asOf"] = "2024-01-15T10:30:00Z"
    if "until" in query:
        query["until"] = query.get("since", 0)
    if case.path.endswith("/revert"):
        # The changes are named in one way.
        case.body = {name: value for name, value in case.body.items() if name == "conflicts"} | {"to": 0}
    if "sort" in query:
        terms = {term.removeprefix("-"): term for term in query["sort"].split(",")}
        query["sort"] = ",".join(terms.values())
    if "Idempotency-Key" in headers:
        # Each request needs its own key.
        headers["Idempotency-Key"] = f"{next(numbers):06}-{headers['Idempotency-Key']}"[:255]
    for row in rows_of(case):
        if "/webhooks" in case.path:
            # A URL in ASCII, without a user, and a change that was made already.
            row |= {name: value for name, value in {"url": "https://hooks.example/", "since": 0}.items() if name in row}
        if row.get("companyId"):
            row["companyId"] = "acme"
        if row.get("expiresAt"):
            row["expiresAt"] = "2100-01-01T00:00:00Z"

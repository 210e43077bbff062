"""The OpenAPI document: its components, and an operation for every method of every route."""

from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask

from api.resources import ENDPOINTS
from openapi.answered import body, failures, headers, responses
from openapi.guide import INTRODUCTION
from openapi.json_schema import Shapes
from openapi.operations import Operation, operations_of
from openapi.taken import SHARED, parameter, taken_by

VERSION = "1"
TAGS = {each.name: str(each.schema.__doc__) for each in ENDPOINTS.values()} | {
    "changes": "The log: every change of a row, numbered in the order in which they happened.",
    "keys": "The API keys' records; they need a key of the scope admin.",
}


def describe_api(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI document of the app's routes under /api/v1."""
    plugin = MarshmallowPlugin()
    about = {"description": INTRODUCTION, "license": {"name": "MIT", "identifier": "MIT"}}
    # Addresses are relative to where the document was read.
    spec = APISpec("Cardfile", VERSION, "3.1.0", [plugin], info=about, servers=[{"url": "/"}])
    for name, told in TAGS.items():
        spec.tag({"name": name, "description": told})
    add_components(spec)
    shapes = Shapes(spec, plugin)
    shapes.add_all()
    for operation in operations_of(app):
        add_operation(spec, operation, shapes)
    return spec.to_dict()


def add_components(spec: APISpec) -> None:
    """Add what operations share."""
    told = "A key, sent as `Authorization: Bearer YOUR_API_KEY`. Each operation names the scope that it needs."
    spec.components.security_scheme("key", {"type": "http", "scheme": "bearer", "description": told})
    for name, header in headers().items():
        spec.components.header(name, header)
    for name, response in failures().items():
        spec.components.response(name, response)
    for name, given in SHARED.items():
        spec.components.parameter(name, given[0], parameter(name, *given))


def add_operation(spec: APISpec, operation: Operation, shapes: Shapes) -> None:
    """Add one method of a path."""
    summary, more = operation.sentences
    told = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": summary,
        "description": f"{more} Needs a key of the scope `{operation.scope}`.".strip(),
        "security": [{"key": [operation.scope]}],
        "parameters": list(taken_by(operation, shapes)),
        **({"requestBody": body(operation)} if operation.has_body else {}),
        "responses": responses(operation),
    }
    spec.path(operation.path, operations={operation.method.lower(): told}, parameters=operation.path_parameters)

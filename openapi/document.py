"""The OpenAPI document: information, components, and an operation for every method of every route."""

from pathlib import Path
from typing import Any

from flask import Flask

from api.resources import ENDPOINTS
from formats import public_name
from openapi.json_schema import TEXT, JSONSchema, component_schemas, example_change, ref
from openapi.operations import Operation, operations_of, schemas_of
from openapi.parameters import SHARED, parameters_of
from openapi.responses import HEADERS, error_responses, request_body, responses_of
from settings import PROGRAM

TAGS = {each.name: str(each.schema.__doc__) for each in ENDPOINTS.values()} | {
    "changes": "The change log: every change of a row, numbered in commit order.",
    "snapshot": "All rows as a SQLite file, with the API's names, but without keys, sessions and the change log.",
    "keys": "The records of API keys. Requires a key with the `admin` scope.",
    "webhooks": "URLs that changes are sent to. Requires a key with the `admin` scope.",
}
# The server's address in the document. Responses have the address of their request instead.
ADDRESS = "http://127.0.0.1:8000"
# The headers of a message (Standard Webhooks 1.0.0).
MESSAGE_HEADERS = {
    "webhook-id": ("msg_6f1c2b7a_018ce0e9-3c98-7709_409", "The id of the message, the same in every attempt."),
    "webhook-timestamp": ("1705314600", "The time of this attempt, in seconds since 1970."),
    "webhook-signature": ("v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=", "One or two, separated by a space."),
}
AUTHENTICATION = "An API key, sent as `Authorization: Bearer YOUR_API_KEY`. Each operation names its required scope."
BASIC = "The API key as the user name, and any password, for programs that have only fields for these."
SECURITY = {
    "key": {"type": "http", "scheme": "bearer", "description": AUTHENTICATION},
    "basic": {"type": "http", "scheme": "basic", "description": BASIC},
}


def build_document(app: Flask) -> JSONSchema:
    """Return the OpenAPI document of the app's routes under /api/v1."""
    introduction = Path(__file__).with_name("introduction.md").read_text("utf-8")
    text = "\n".join([introduction, *app.extensions.get("guides", ())])
    text = text.replace("cardfile keys", f"{PROGRAM} keys").replace("cardfile mcp", f"{PROGRAM} mcp")
    about: JSONSchema = {"description": text, "contact": {"name": "The administrator of this server"}}
    about["license"] = {"name": "MIT", "url": "https://opensource.org/license/mit"}
    paths: dict[str, Any] = {}
    operations = [*operations_of(app)]
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = describe(operation)
    tags, declared = {each.tag for each in operations}, schemas_of(app)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Cardfile", "version": "1", **about},
        "servers": [{"url": ADDRESS}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items() if name in tags],
        "paths": paths,
        **({"webhooks": {"change": {"post": describe_message()}}} if "webhooks" in tags else {}),
        "components": {
            "securitySchemes": SECURITY,
            "parameters": SHARED,
            "headers": HEADERS,
            "responses": error_responses(),
            "schemas": component_schemas(declared),
        },
    }


def describe(operation: Operation) -> JSONSchema:
    """Return the OpenAPI object of an operation."""
    article = "" if operation.verb in {"list", "revert"} else "a "
    return {
        "operationId": public_name(operation.name),
        "tags": [operation.tag],
        "summary": f"{operation.verb.capitalize()} {article}{operation.noun}",
        "description": f"{operation.description} Requires a key with the `{operation.scope}` scope.",
        "security": [{name: []} for name in SECURITY],
        "x-scope": operation.scope,
        "parameters": list(parameters_of(operation)),
        **({"requestBody": request_body(operation)} if operation.has_body else {}),
        "responses": responses_of(operation),
    }


def describe_message() -> JSONSchema:
    """Return the OpenAPI object of the requests that webhooks send."""
    change = example_change()
    example = {"type": "company.created", "timestamp": change["at"], "data": change}
    fixed = {"in": "header", "required": True, "schema": TEXT}
    return {
        "operationId": "receiveChange",
        "tags": ["webhooks"],
        "summary": "Receive a change",
        "description": "Sent to the `url` of each webhook whose `events` include the change (Standard Webhooks 1.0.0).",
        "security": [],
        "parameters": [
            {"name": name, "description": about, "example": value, **fixed}
            for name, (value, about) in MESSAGE_HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref("Message"), "example": example}},
        },
        "responses": {
            "2XX": {"description": "The message was received. Any other answer is a failure, and it is sent again."},
            "410": {"description": "The receiver is gone: the webhook is disabled."},
        },
    }

"""The reference: the object and the operations of each resource, read from the OpenAPI description."""

from http import HTTPStatus
from typing import Any, NamedTuple

from api.protocol import base_url
from pages.samples import Example, Sample, write_json

Part = dict[str, Any]
# A field or a parameter: its name, its type in words, its description, and whether it is required.
Row = dict[str, Any]


class Operation(NamedTuple):
    """An operation by its id; `about` is its OpenAPI object, `parameters` has a list for each place in a request."""

    name: str
    path: str
    method: str
    about: Part
    parameters: dict[str, list[Row]]
    filters: list[Row]
    request_fields: list[Row]
    request_body: str
    response_fields: list[Row]
    example: Example


class Resource(NamedTuple):
    """The operations of a tag, and the object that they return: its name, fields and JSON, empty if there is none."""

    operations: list[Operation]
    name: str
    fields: list[Row]
    example: str


def read_resource(description: Any, tag: str) -> Resource:
    """Return the operations of a tag. The object is that of the first one."""
    operations = [read_operation(description, *each) for each in description.operations if tag in each[2]["tags"]]
    content = content_of(next(iter(operations[0].about["responses"].values())))
    name, _ = schema_of(description, content)
    value = example_in(content)
    value = value[0] if isinstance(value, list) else value
    return Resource(operations, name, fields_of(description, content), write_json(value) if name else "")


def read_operation(description: Any, path: str, method: str, about: Part) -> Operation:
    """Return an operation of the description as the page shows it."""
    rows: dict[str, list[Row]] = {"path": [], "query": [], "header": [], "filter": []}
    for each in about["parameters"]:
        is_filter = each["schema"].get("type") == "array" or "[" in each["name"]
        row = each | {"type": description.type_in_words(each["schema"])}
        rows["filter" if is_filter else each["in"]].append(row)
    address = base_url() + path.format(**{row["name"]: row["example"] for row in rows["path"]})
    status, answer = next(iter(about["responses"].items()))
    request, response = content_of(about.get("requestBody", {})), content_of(answer)
    body, value = example_in(request), example_in(response)
    is_file = response.get("schema", {}).get("format") == "binary"
    sample = Sample(method, address, body, {}, returns_json=value is not None, is_file=is_file)
    status = f"{status} {HTTPStatus(int(status)).phrase}"
    example = Example(sample.languages, status, "", write_json(value) if value is not None else "")
    fields = fields_of(description, request), write_json(body) if body is not None else ""
    head = about["operationId"], path, method, about, rows, rows.pop("filter")
    return Operation(*head, *fields, fields_of(description, response), example)


def content_of(part: Part) -> Part:
    """Return the content of a request body or a response; empty without one."""
    return next(iter(part.get("content", {}).values()), {})


def example_in(content: Part) -> Any:
    """Return the first example, or None."""
    return content.get("example", next((each["value"] for each in content.get("examples", {}).values()), None))


def schema_of(description: Any, content: Part) -> tuple[str, Part]:
    """Return the name and the schema of an object, of those in an array, or of the first of several alternatives."""
    name, schema = "", content.get("schema", {})
    while {"oneOf", "anyOf", "items", "$ref"} & {*schema}:
        name = schema.get("$ref", name).rpartition("/")[2]
        alternatives = schema.get("oneOf") or schema.get("anyOf")
        schema = alternatives[0] if alternatives else schema.get("items") or description.resolve(schema)
    return name, schema


def fields_of(description: Any, content: Part) -> list[Row]:
    """Return the fields of the object in a request or a response."""
    _, schema = schema_of(description, content)
    required = schema.get("required", [])
    return [
        each | {"name": name, "type": description.type_in_words(each), "required": name in required}
        for name, each in schema.get("properties", {}).items()
    ]

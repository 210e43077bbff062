"""The OpenAPI document as one page of Markdown: `/llms.txt`."""

import json

from openapi.description import Description
from openapi.json_schema import JSONSchema, title_of


def write_llms(description: Description) -> str:
    """Return the OpenAPI document as one page of Markdown."""
    document, operations = description.document, [*description.operations]
    responses = {status: each for _, _, operation in operations for status, each in operation["responses"].items()}
    lines = [f"# {document['info']['title']}\n", document["info"]["description"], "## Status codes\n"]
    lines += [f"- {status}: {responses[status]['description']}" for status in sorted(responses) if status >= "300"]
    for tag in document["tags"]:
        fields = fields_of(description, tag["name"])
        lines += [f"\n## {tag['name']}\n\n{tag['description']}{' Fields:' if fields else ''}\n", *fields]
        lines += [write_operation(description, *each) for each in operations if tag["name"] in each[2]["tags"]]
    return "\n".join(lines) + "\n"


def fields_of(description: Description, tag: str) -> list[str]:
    """Return a line for each field of a resource, and one for the fields that a new row needs."""
    schemas, title = description.document["components"]["schemas"], title_of(tag)
    new = schemas.get(f"New{title}", {"properties": {}})
    fields = (schemas.get(title, new)["properties"] | new["properties"]).items()
    lines = [f"- `{name}`: {description.type_in_words(field)}. {field['description']}" for name, field in fields]
    return lines + ([f"\nRequired in a new one: {', '.join(new['required'])}."] if "required" in new else [])


def write_operation(description: Description, path: str, method: str, operation: JSONSchema) -> str:
    """Return the section on one operation: parameters, request body, response and status codes."""
    lines = [f"\n### {method} {path}\n", f"{operation['summary']}. {operation['description']}\n"]
    lines += parameters_of(description, operation["parameters"])
    if operation["operationId"] == "revertChanges":
        lines += ["\nFields of the request body:\n", *fields_of(description, "revert")]
    status, response = next(iter(operation["responses"].items()))
    for heading, part in ("Request body", operation.get("requestBody", {})), (f"Response {status}", response):
        if content := part.get("content", {}).get("application/json"):
            value = content["example"] if "example" in content else content["examples"]["one"]["value"]
            types = ", ".join(part["content"])
            lines.append(f"\n{heading} ({types}):\n\n```json\n{json.dumps(value, ensure_ascii=False)}\n```")
    return "\n".join([*lines, f"\nStatus codes: {', '.join(sorted(operation['responses']))}."])


def parameters_of(description: Description, parameters: list[JSONSchema]) -> list[str]:
    """Return a line for each parameter, and one for all filters."""
    filters = [each["name"] for each in parameters if each["schema"].get("type") == "array"]
    ranges = {each["name"].partition("[")[0]: None for each in parameters if "[" in each["name"]}
    lines = [
        f"- `{each['name']}` ({each['in']}, {description.type_in_words(each['schema'])}): {each['description']}"
        for each in parameters
        if each["name"].partition("[")[0] not in {*filters, *ranges, "X-Request-Id"}
    ]
    operators = f"with [gte], [gt], [lte], [lt], [ne]: {', '.join(ranges)}"
    return lines + ([f"- filters (query): {', '.join(filters)}; {operators}"] if filters else [])

"""The document in OpenAPI 3.0 and without unions, which many generators of clients don't know."""

from typing import Any

from openapi.json_schema import NULL, JSONSchema


def convert(part: Any) -> Any:
    """Return a part of the document in OpenAPI 3.0. There, POST takes and returns an array."""
    match part:
        case {"schema": {"oneOf": [_, rows]}, "examples": {"batch": {"value": example}}}:
            return convert({"schema": rows, "example": example})
        case {"anyOf": [*alternatives], **rest}:
            return convert(merge(alternatives) | rest)
        case {"examples": [example], **rest}:
            return convert(rest | {"example": example})
        case {"type": "array", "items": {"enum": _}, **rest}:
            # The generator's Java for arrays of an enum doesn't compile.
            return convert(rest | {"type": "array", "items": {"type": "string"}})
        case dict():
            # OpenAPI 3.0 has no webhooks, and so no use for their message.
            return {name: convert(value) for name, value in part.items() if name not in {"webhooks", "Message"}}
    return [convert(each) for each in part] if isinstance(part, list) else part


def merge(alternatives: list[JSONSchema]) -> JSONSchema:
    """Return one schema for all alternatives: what they have in common, or else the last of two, or any object."""
    values = [each for each in alternatives if each not in (NULL, {"enum": ["null"]})]
    merged = {name: value for name, value in values[-1].items() if values[0].get(name) == value}
    merged = merged or (values[-1] if len(values) == 2 else {"type": "object", "additionalProperties": True})
    nullable = {"nullable": True} if NULL in alternatives else {}
    return ({"type": "object", "allOf": [merged]} if nullable and "$ref" in merged else merged) | nullable

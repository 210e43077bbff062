"""The arguments of tools, checked by the JSON Schema that declares them."""

from decimal import Decimal
from typing import Any

from marshmallow import ValidationError

from formats.errors import MAX_ERRORS, suggest

JSONSchema = dict[str, Any]
VALUES = "Must be a value or some values. Numbers and times have ranges, as in createdAt[gte]; to search texts, use q."
TYPES: dict[str, Any] = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}


def parse_arguments(arguments: dict[str, Any], schema: JSONSchema) -> dict[str, Any]:
    """Return the arguments without null: many models send it for what they leave out. Raises ValidationError."""
    known = schema["properties"]
    values = {name: convert(value, known.get(name, {})) for name, value in arguments.items() if value is not None}
    errors = {name: error_of(value, known[name]) for name, value in values.items() if name in known}
    # More errors are not listed, and suggestions take long.
    unknown = [name for name in arguments if name not in known][:MAX_ERRORS]
    errors |= {name: f"Is not known. {suggest(name, tuple(known))}" for name in unknown}
    errors |= {name: "Is required." for name in schema["required"] if name not in values}
    if any(errors.values()):
        raise ValidationError({name: [error] for name, error in errors.items() if error})
    return values


def convert(value: Any, schema: JSONSchema) -> Any:
    """Return 2.0 as 2 for an integer, and 406 as "406" for a string; any other value as it is."""
    # The limit comes first: int() would never return for 1e999999999.
    if schema.get("type") == "integer" and isinstance(value, Decimal) and -(2**63) < value < 2**63:
        return int(value) if value == int(value) else value
    return str(value) if schema.get("type") == "string" and type(value) is int else value


def error_of(value: Any, schema: JSONSchema) -> str:
    """Return the error of a value, or "". The API checks the members of arrays and objects."""
    kind = TYPES[schema["type"]]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        return f"Must be of the type {schema['type']}."
    if value == "" and "minLength" in schema:
        return "Must not be empty."
    if value not in schema.get("enum", [value]):
        return f"Must be one of {', '.join(schema['enum'])}."
    if "maxItems" in schema and not schema["minItems"] <= len(value) <= schema["maxItems"]:
        return f"Must have {schema['minItems']} to {schema['maxItems']} members."
    if "maximum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
        return f"Must be {schema['minimum']} to {schema['maximum']}."
    return ""


def check_filters(filters: dict[str, Any], fields: tuple[str, ...]) -> None:
    """Raise ValidationError for filters that are on no field, or have no value or an object."""
    errors: dict[str, list[str]] = {}
    for name, value in filters.items():
        field, values = name.partition("[")[0], value if isinstance(value, list) else [value]
        if field not in fields and len(errors) < MAX_ERRORS:
            errors[name] = [f"Is not a field. {suggest(field, fields)}"]
        elif not values or any(isinstance(each, dict | list) for each in values):
            errors[name] = [VALUES]
    if errors:
        raise ValidationError({"filters": errors})

"""The arguments of tools, checked by the JSON Schema that declares them."""

from typing import Any

from formats.errors import suggest

JSONSchema = dict[str, Any]
TYPES: dict[str, tuple[Any, str]] = {
    "string": (str, "a string"),
    "integer": (int, "an integer"),
    "boolean": (bool, "true or false"),
    "array": (list, "an array"),
    "object": (dict, "an object"),
}


def errors_of(arguments: dict[str, Any], schema: JSONSchema) -> dict[str, list[str]]:
    """Return the errors of arguments, by name. Many models send null for what they leave out."""
    known, given = schema["properties"], {name: value for name, value in arguments.items() if value is not None}
    found = {name: error_of(value, known[name]) for name, value in given.items() if name in known}
    found |= {name: f"Is not known. {suggest(name, tuple(known))}" for name in arguments if name not in known}
    found |= {name: "Is required." for name in schema["required"] if name not in given}
    found |= dict.fromkeys(getattr(arguments, "duplicates", ()), "Must not appear twice.")
    return {name: [error] for name, error in found.items() if error}


def error_of(value: Any, schema: JSONSchema) -> str:
    """Return what is wrong with a value, or nothing. What arrays and objects hold is left to the API."""
    kind, name = TYPES[schema["type"]]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        return f"Must be {name}."
    if value not in schema.get("enum", [value]):
        return f"Must be one of {', '.join(schema['enum'])}."
    if "maxItems" in schema and not schema["minItems"] <= len(value) <= schema["maxItems"]:
        return f"Must have {schema['minItems']} to {schema['maxItems']} members."
    if "maximum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
        return f"Must be {schema['minimum']} to {schema['maximum']}."
    return ""

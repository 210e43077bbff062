"""The arguments of tools, checked by the JSON Schema that declares them."""

from typing import Any

from formats.errors import suggest

JSONSchema = dict[str, Any]
TYPES: dict[str, tuple[type, str]] = {
    "string": (str, "a string"),
    "integer": (int, "an integer"),
    "boolean": (bool, "true or false"),
    "array": (list, "an array"),
    "object": (dict, "an object"),
}


def errors_of(arguments: dict[str, Any], schema: JSONSchema) -> dict[str, list[str]]:
    """Return the errors of arguments, by name. Many models send null for what they leave out."""
    known, errors = schema["properties"], {}
    for name, value in arguments.items():
        if name not in known:
            errors[name] = [f"Is not a known argument. {suggest(name, tuple(known))}"]
        elif value is not None and (error := error_of(value, known[name])):
            errors[name] = [error]
    errors |= {name: ["Is required."] for name in schema["required"] if arguments.get(name) is None}
    return errors | {name: ["Must not appear twice."] for name in getattr(arguments, "duplicates", ())}


def error_of(value: Any, schema: JSONSchema) -> str:
    """Return what is wrong with a value, or nothing. What arrays and objects hold is left to the API."""
    kind: Any
    kind, name = TYPES[schema["type"]]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        return f"Must be {name}."
    if value not in schema.get("enum", [value]):
        return f"Must be one of {', '.join(schema['enum'])}."
    size, least, most = (len(value), "minItems", "maxItems") if kind is list else (value, "minimum", "maximum")
    if most in schema and not schema[least] <= size <= schema[most]:
        return (
            f"Must {'have' if kind is list else 'be'} {schema[least]} to {schema[most]}{' members' * (kind is list)}."
        )
    return ""

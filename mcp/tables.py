"""Rows, changes and fields as tables in text, for agents."""

from collections.abc import Iterable
from typing import Any

from marshmallow import validate

from api.resources import Endpoint
from api.write_views import READ_ONLY
from formats.errors import HIDDEN
from formats.json_text import encode_json
from formats.values import AMOUNT, BOOLEAN, INTEGER, TAGS, TIME

# The most characters of a text in a table, and of each text in an error. Only `get` shows texts whole.
MAX_CELL, MAX_ERROR = 200, 500
CHANGE = ("seq", "at", "action", "resource", "id", "keyId", "requestId")
# Fields whose values other columns of a change have.
NOT_SHOWN = ("id", "createdAt", "updatedAt")
TYPES = {INTEGER: "integer", BOOLEAN: "boolean", AMOUNT: "number", TIME: "time", TAGS: "array of texts"}

Rows = list[dict[str, Any]]


def shorten(value: Any, max_length: int = MAX_CELL) -> Any:
    """Return a value with each text in it cut to a length."""
    if isinstance(value, dict):
        return {name: shorten(each, max_length) for name, each in value.items()}
    if isinstance(value, list):
        return [shorten(each, max_length) for each in value]
    is_long = isinstance(value, str) and len(value) > max_length
    return f"{value[:max_length]}… ({len(value)} characters)" if is_long else value


def cell(value: Any, max_length: int | None = None) -> str:
    """Return a value as text for one line, with bars and hidden characters escaped; "" for null."""
    if value is None:
        return ""
    text = value if isinstance(value, str) and value else encode_json(value)
    text = shorten(text, max_length or len(text)).replace("\\", "\\\\").replace("|", "\\|")
    return HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def table(rows: Rows, columns: Iterable[str] = ()) -> str:
    """Return a table with a line for each row. Without columns, it has those that are not null in every row."""
    names = [*columns] or [name for name in (rows or [{}])[0] if any(row[name] is not None for row in rows)]
    return "\n".join([" | ".join(names), *(" | ".join(cell(row[name], MAX_CELL) for name in names) for row in rows)])


def details(row: dict[str, Any]) -> str:
    """Return a whole row, a line for each field."""
    return "\n".join(f"{name}: {'null' if value is None else cell(value)}" for name, value in row.items())


def summaries(entries: Rows, *left_out: str) -> Rows:
    """Return changes as rows of a table, with a text in place of the data before and after."""
    names = [name for name in CHANGE if name not in left_out]
    return [{name: entry[name] for name in names} | {"content": content_of(entry)} for entry in entries]


def content_of(entry: dict[str, Any]) -> str | None:
    """Return the values of the row, or those that differ if the change has the row before and after it (`net`)."""
    before, after = entry.get("before"), entry["data"]
    if not (before and after):
        row = before or after or {}
        values = {name: value for name, value in row.items() if value is not None and name not in NOT_SHOWN}
        return encode_json(values) if values else None
    differing = [name for name in after if before[name] != after[name] and name not in NOT_SHOWN]
    return "; ".join(f"{name}: {encode_json(before[name])} → {encode_json(after[name])}" for name in differing)


def fields_of(endpoint: Endpoint) -> Rows:
    """Return the type, the limits and the meaning of each field of a resource."""
    rows: Rows = []
    for name, each in endpoint.schema.fields.items():
        field: Any = each
        choices = [choice for rule in field.validators if isinstance(rule, validate.OneOf) for choice in rule.choices]
        row = {"field": field.data_key, "type": " or ".join(choices) or TYPES.get(field.format, "text")}
        row |= {"maxLength": field.max_length, "null": field.allow_none, "readOnly": name in READ_ONLY}
        row |= {"required": field.required and name not in READ_ONLY}
        rows.append(row | {"description": field.metadata["description"]})
    return rows


def fields_in_words(endpoint: Endpoint) -> str:
    """Return the fields that can be written, each with its type unless it is text, in a sentence."""
    fields = [field for field in fields_of(endpoint) if not field["readOnly"]]
    notes = [" required" if field["required"] else f" {field['type']}".removesuffix(" text") for field in fields]
    return f"{endpoint.name}: {', '.join(field['field'] + note for field, note in zip(fields, notes, strict=True))}"

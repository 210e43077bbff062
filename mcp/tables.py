"""What agents read: rows, changes and fields as tables in text."""

from collections.abc import Iterable
from typing import Any

from marshmallow import validate

from api.resources import Endpoint
from api.write_views import READ_ONLY
from formats import values
from formats.errors import escape_control
from formats.json_text import encode_json

# Characters of a cell; `get` shows all.
MAX_CELL = 200
TYPES = {
    values.INTEGER: "integer",
    values.BOOLEAN: "boolean",
    values.AMOUNT: "number",
    values.TIME: "time",
    values.TAGS: "array of texts",
}

Rows = list[dict[str, Any]]


def cell(value: Any, most: int | None = MAX_CELL) -> str:
    """Return a value on one line, without the sign between cells; nothing for null."""
    if value is None:
        return ""
    text = value if isinstance(value, str) and value else encode_json(value)
    if most and len(text) > most:
        text = f"{text[:most]}… ({len(text)} characters)"
    return escape_control(text.replace("\\", "\\\\").replace("|", "\\|"))


def table(rows: Rows, columns: Iterable[str] = ()) -> str:
    """Return a table with a line for each row: of the columns, or of those that are not null in every row."""
    names = [*columns] or [name for name in (rows or [{}])[0] if any(row[name] is not None for row in rows)]
    return "\n".join([" | ".join(names), *(" | ".join(cell(row[name]) for name in names) for row in rows)])


def details(row: dict[str, Any]) -> str:
    """Return a whole row, a line for each field."""
    return "\n".join(f"{name}: {'null' if value is None else cell(value, None)}" for name, value in row.items())


def changes_table(entries: Rows) -> str:
    """Return a table of changes."""
    columns = "seq", "at", "action", "resource", "id", "keyId", "requestId", "content"
    return table([entry | {"content": content_of(entry)} for entry in entries], columns)


def content_of(entry: dict[str, Any]) -> Any:
    """Return what a change left or, with `net`, what differs, or the row that was deleted."""
    before, after = entry.get("before"), entry["data"]
    if not (before and after):
        return before or after
    differing = [name for name in after if before[name] != after[name] and name != "updatedAt"]
    return "; ".join(f"{name}: {encode_json(before[name])} → {encode_json(after[name])}" for name in differing)


def fields_of(endpoint: Endpoint) -> Rows:
    """Return what an agent should know about each field of a resource."""
    rows: Rows = []
    for name, each in endpoint.schema.fields.items():
        field: Any = each
        choices = [choice for rule in field.validators if isinstance(rule, validate.OneOf) for choice in rule.choices]
        about = {"field": field.data_key, "type": " or ".join(choices) or TYPES.get(field.format, "text")}
        about |= {"maxLength": field.max_length, "null": field.allow_none, "readOnly": name in READ_ONLY}
        about |= {"required": field.required and name not in READ_ONLY}
        rows.append(about | {"description": field.metadata["description"]})
    return rows


def fields_in_words(endpoint: Endpoint) -> str:
    """Return the fields that can be written, each with its type unless that is text."""
    fields = [field for field in fields_of(endpoint) if not field["readOnly"]]
    notes = [" required" if field["required"] else f" {field['type']}".removesuffix(" text") for field in fields]
    return f"{endpoint.name}: {', '.join(field['field'] + note for field, note in zip(fields, notes, strict=True))}"

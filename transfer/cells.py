"""The cells of a CSV file: text as it is, other values as JSON; an empty cell for null, a quoted one for empty text."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from marshmallow import ValidationError, missing

from formats.json_text import InvalidJSON, encode_json, parse_json
from formats.values import BOOLEAN, TEXT, TIME

BOOLEANS = dict.fromkeys(("true", "t", "yes", "y", "1"), True) | dict.fromkeys(("false", "f", "no", "n", "0"), False)


def format_cell(value: Any) -> str:
    """Return a JSON value as a cell, quoted where RFC 4180 requires it, and if it is empty text."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else encode_json(value)
    if text and not re.search('[",\r\n]', text):
        return text
    return '"' + text.replace('"', '""') + '"'


def cell_parser(field: Any) -> Callable[[str | None], Any]:
    """Return the function that parses a field's cells to JSON values; invalid cells are left to the field.

    A blank cell is null, or `missing` where the field can't be null.
    """
    is_text, is_boolean = field.format in {TEXT, TIME}, field.format is BOOLEAN

    def parse(cell: str | None) -> Any:
        if cell is None or (not cell.strip() and is_invalid(field, cell)):
            return None if field.allow_none else missing
        if is_text:
            return cell
        if is_boolean:
            return BOOLEANS.get(cell.strip().lower(), cell)
        with suppress(InvalidJSON):
            return parse_json(cell.encode())
        return cell

    return parse


def is_invalid(field: Any, value: Any) -> bool:
    """Return whether a field refuses a value."""
    try:
        field.deserialize(value)
    except ValidationError:
        return True
    return False

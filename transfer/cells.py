"""The cells of a CSV file: empty for null, JSON for values that aren't text."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from database.columns import format_of
from formats.json_text import InvalidJSON, encode_json, parse_json
from formats.values import TEXT, TIME


def format_cell(value: Any) -> str:
    """Return a JSON value as a cell; text that would be read as null or as JSON is itself written as JSON."""
    if isinstance(value, str) and value and value[0] != '"':
        return value
    return "" if value is None else encode_json(value)


def cell_parser(column: Any) -> Callable[[str], Any]:
    """Return the function that parses a column's cells to JSON values."""
    is_text = format_of(column) in {TEXT, TIME}

    def parse(cell: str) -> Any:
        if not cell:
            return None
        if not is_text or cell[0] == '"':
            # For invalid JSON, the schema's error is clearer than the parser's.
            with suppress(InvalidJSON):
                return parse_json(cell.encode())
        return cell

    return parse

"""CSV text (RFC 4180): text as it is, other values as JSON; an empty cell for null, a quoted one for empty text."""

import json
import re
from collections.abc import Iterable
from typing import Any

from formats.json_text import encode_json


def csv_lines(rows: str) -> str:
    """Return comma-separated JSON objects as lines of CSV; numbers stay as they are written."""
    return "".join(csv_line(row.values()) for row in json.loads(f"[{rows}]", parse_float=str))


def csv_line(values: Iterable[Any]) -> str:
    """Return JSON values as a line of CSV. A line of one empty cell is `""`, because readers skip empty lines."""
    return (",".join(map(format_cell, values)) or '""') + "\n"


def format_cell(value: Any) -> str:
    """Return a JSON value as a cell, quoted where RFC 4180 requires it, and if it is empty text."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else encode_json(value)
    if text and not re.search('[",\r\n]', text):
        return text
    return '"' + text.replace('"', '""') + '"'

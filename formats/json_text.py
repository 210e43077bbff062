"""JSON text (RFC 8259): strict parsing, compact encoding, lines of objects."""

import json
from collections import Counter
from decimal import Decimal
from typing import Any


class InvalidJSON(Exception):
    """The text is not JSON; the message says where."""


class ParsedObject(dict[str, Any]):
    """A parsed JSON object, with the names that it had more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.duplicates = [name for name, count in Counter(name for name, _value in pairs).items() if count > 1]


# json.loads() and json.dumps() would make a new one for every call with these options.
DECODER = json.JSONDecoder(object_pairs_hook=ParsedObject, parse_float=Decimal)
# To find where an object ends, numbers needn't be exact.
PLAIN_DECODER = json.JSONDecoder()
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def parse_json(text: bytes) -> Any:
    """Return the value of a JSON text in UTF-8, also after a byte order mark: objects as ParsedObject, numbers exact.

    Raises InvalidJSON for what RFC 8259 doesn't allow, except NaN and infinities: the schemas' fields refuse those by
    name.
    """
    try:
        return DECODER.decode(text.decode().removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"The text is not UTF-8 at byte {error.start}.") from None
    except json.JSONDecodeError as error:
        if not error.doc.strip():
            raise InvalidJSON("There is no JSON: the text is empty.") from None
        reason = error.msg[0].lower() + error.msg[1:].removesuffix(" at")
        raise InvalidJSON(f"This is not JSON: {reason} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise InvalidJSON("The text is nested too deeply.") from None
    except (ValueError, ArithmeticError):
        raise InvalidJSON("A number in the text is too long.") from None


def json_lines(rows: str) -> str:
    """Return JSON objects, separated by commas without spaces, as lines (NDJSON)."""
    lines, end = [], 0
    while end < len(rows):
        start, (_row, end) = end, PLAIN_DECODER.raw_decode(rows, end)
        lines.append(f"{rows[start:end]}\n")
        end += 1
    return "".join(lines)


def encode_json(value: Any) -> str:
    """Return the value as compact JSON with its characters unescaped, as the databases' JSON functions write it."""
    return ENCODER.encode(value)

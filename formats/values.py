"""The kinds of values: how each is parsed from JSON, shown as JSON, and written as JSON by SQL."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from marshmallow import ValidationError

from formats.errors import VISIBLE

MAX_AMOUNT = Decimal("999999999999.99")
MAX_INTEGER = 2**31 - 1
MAX_TAGS = 50
MAX_TAG_LENGTH = 64
RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-5][0-9])",
    re.A,
)


@dataclass(frozen=True)
class Format:
    """A kind of value. In the SQL expressions, {0} stands for the column."""

    # Returns the Python value of a JSON value; raises ValidationError.
    parse: Callable[[Any], Any]
    # For a filter, whose value may be more precise than stored ones: returns the value rounded down to one that can be
    # stored, and whether the two are equal.
    floor: Callable[[Any], tuple[Any, bool]] | None = None
    # Returns the JSON value of a Python value.
    show: Callable[[Any], Any] = lambda value: value
    sqlite: str = "{0}"
    postgresql: str = "{0}"


def parse_text(value: Any, max_length: int = 255) -> str:
    """Return text that any database can store: at most max_length characters, no NUL, no lone surrogates."""
    if not isinstance(value, str):
        raise ValidationError("Must be text.")
    if len(value) > max_length:
        raise ValidationError(f"Must have at most {max_length} characters, not {len(value)}.")
    if "\0" in value:
        raise ValidationError("Must not contain the character NUL.")
    if not value.isascii() and re.search("[\ud800-\udfff]", value):
        raise ValidationError("Must not contain an unpaired surrogate.")
    return value


def parse_boolean(value: Any) -> bool:
    """Return a boolean; marshmallow's own field would accept "yes" and 1, too."""
    if not isinstance(value, bool):
        raise ValidationError("Must be true or false.")
    return value


def floor_integer(value: Any) -> tuple[int, bool]:
    """Return a number rounded down, and whether it is a whole number; 3.0 is one (JSON Schema, "integer")."""
    if type(value) not in {int, Decimal} or not 0 <= value <= MAX_INTEGER:
        raise ValidationError(f"Must be a whole number from 0 to {MAX_INTEGER}.")
    return int(value), value == int(value)


def parse_integer(value: Any) -> int:
    """Return a whole number from 0 to 2,147,483,647."""
    number, is_exact = floor_integer(value)
    if not is_exact:
        raise ValidationError(f"Must be a whole number from 0 to {MAX_INTEGER}.")
    return number


def parse_version(value: Any) -> int:
    """Return the number of a change, or 0."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValidationError("Must be the number of a change, or 0.")
    return value


def floor_amount(value: Any) -> tuple[Decimal, bool]:
    """Return an amount of money rounded down to two decimals, and whether rounding left it unchanged."""
    if type(value) not in {int, float, Decimal}:
        raise ValidationError("Must be a number.")
    # Written so that NaN is refused, too.
    if not 0 <= value <= MAX_AMOUNT:
        raise ValidationError(f"Must be a number from 0 to {MAX_AMOUNT}.")
    amount = Decimal(str(value))
    # Always rounded: PostgreSQL refuses zeros with large exponents.
    rounded = amount.quantize(Decimal("0.01"), ROUND_FLOOR)
    return rounded, amount == rounded


def parse_amount(value: Any) -> Decimal:
    """Return an exact amount of money with two decimals."""
    amount, is_exact = floor_amount(value)
    if not is_exact:
        raise ValidationError("Must have at most two decimals.")
    return amount


def format_amount(amount: Decimal | float) -> int | float:
    """Return the amount as a JSON number, without trailing zeros: 50000, 1999.5."""
    return int(amount) if amount == int(amount) else float(amount)


def floor_time(value: Any) -> tuple[datetime, bool]:
    """Return the time of an RFC 3339 text in UTC without a fraction, and whether it has none."""
    if not isinstance(value, str) or not (parts := RFC_3339.fullmatch(value)):
        raise ValidationError("Must be a time with an offset, as in 2024-01-15T10:30:00Z (RFC 3339).")
    day, minute, second, fraction, offset = parts.groups()
    # A leap second is the second after :59 (RFC 3339 §5.7).
    leap = timedelta(seconds=1 if second == "60" else 0)
    try:
        time = datetime.fromisoformat(f"{day}T{minute}:{'59' if leap else second}{offset.upper()}")
        return (time + leap).astimezone(UTC), not (fraction or "").strip("0")
    except (ValueError, OverflowError):
        raise ValidationError("Must be a time that exists, in the years 0001 to 9999.") from None


def parse_time(value: Any) -> datetime:
    """Return the time of an RFC 3339 text in UTC, in whole seconds; the text must have an offset."""
    return floor_time(value)[0]


def format_time(value: datetime) -> str:
    """Return the time as it is shown, and stored on SQLite: UTC in whole seconds, as in 2024-01-15T10:30:00Z."""
    return f"{value.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()}Z"


def parse_tags(value: Any) -> list[str]:
    """Return a list of up to 50 texts of 1 to 64 characters, without duplicates, in the order sent."""
    if not isinstance(value, list):
        raise ValidationError("Must be an array of texts.")
    if len(value) > MAX_TAGS:
        raise ValidationError(f"Must have at most {MAX_TAGS} members, not {len(value)}.")
    errors: dict[int, Any] = {}
    seen = set()
    for index, tag in enumerate(value):
        try:
            if parse_tag(tag) in seen:
                errors[index] = ["Must not repeat."]
            seen.add(tag)
        except ValidationError as error:
            errors[index] = error.messages
    if errors:
        raise ValidationError(errors)
    return value


def parse_tag(value: Any) -> str:
    """Return one tag."""
    if value is None:
        raise ValidationError("Must not be null.")
    if not VISIBLE.search(tag := parse_text(value, MAX_TAG_LENGTH)):
        raise ValidationError("Must not be blank.")
    return tag


TEXT = Format(parse_text)
INTEGER = Format(parse_integer, floor_integer)
BOOLEAN = Format(parse_boolean, sqlite="json(iif({0}, 'true', 'false'))")
AMOUNT = Format(
    parse_amount,
    floor_amount,
    format_amount,
    # Fifteen digits are what a double holds exactly, and as many as an amount can have.
    sqlite="json(iif({0} IS NULL, 'null', printf('%.15g', {0})))",
    postgresql="trim_scale({0})",
)
TIME = Format(
    parse_time,
    floor_time,
    format_time,
    postgresql="""to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')""",
)
TAGS = Format(
    parse_tags,
    sqlite="json({0})",
    # An array of texts, because jsonb itself is written with spaces.
    postgresql="array_to_json(ARRAY(SELECT jsonb_array_elements_text({0})))",
)

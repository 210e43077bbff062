"""The cells of a CSV file as JSON values: the reverse of formats/csv_text.py.

Texts of other programs can have more forms: local times, dates, lists of tags, domains, numbers with commas.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any

from marshmallow import ValidationError, missing

from formats.json_text import InvalidJSON, parse_json
from formats.values import AMOUNT, BOOLEAN, INTEGER, TAGS, TEXT, TIME, format_time
from schemas import ID, URL, is_email_address
from transfer.maps import EXAMPLE_TIME, InvalidFile

BOOLEANS = dict.fromkeys(("true", "t", "yes", "y", "1"), True) | dict.fromkeys(("false", "f", "no", "n", "0"), False)
# As Excel writes them in German, French, Spanish, Italian and Dutch.
BOOLEANS |= dict.fromkeys(("wahr", "vrai", "verdadero", "vero", "waar"), True)
BOOLEANS |= dict.fromkeys(("falsch", "faux", "falso", "onwaar"), False)

NUMERIC_DATE = re.compile(r"(\d{4}|\d\d?)([./-])(\d\d?)\2(\d{4}|\d\d?)(?:,? +(.+))?", re.A)
TIMES_OF_DAY = [f"%Y-%m-%d {time}" for time in ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p")]

Cells = Sequence[str | None]
# The public name of each field, and the function from a row's cells to its JSON value, or `missing`.
Columns = list[tuple[str, Callable[[Cells], Any]]]


class Default(str):
    """A text for new rows only, made of the columns of other fields."""


def cell_parser(field: Any, index: int) -> Callable[[Cells], Any]:
    """Return a function that returns the JSON value of a field's cell in a row, and invalid cells as they are.

    A blank cell is null, or `missing` if the field can't be null.
    """
    is_text, is_boolean = field.format in {TEXT, TIME}, field.format is BOOLEAN
    blank = None if field.allow_none else missing

    def parse(row: Cells) -> Any:
        cell = row[index]
        if cell is None or (not cell.strip() and is_invalid(field, cell)):
            return blank
        if is_text:
            return cell
        if is_boolean:
            return BOOLEANS.get(cell.strip().lower(), cell)
        with suppress(InvalidJSON):
            return parse_json(cell.encode())
        return cell

    return parse


def is_invalid(field: Any, value: Any) -> bool:
    """Tell whether a field refuses a value."""
    try:
        field.deserialize(value)
    except ValidationError:
        return True
    return False


def text_parser(
    field: Any, get: Callable[[Any], Any], meanings: Mapping[str, Any], parse_time: Callable[[str], str]
) -> Callable[[Any], Any]:
    """Return a function that returns a field's JSON value in a row, whose text, or a constant, `get` returns.

    A blank text is null, or `missing`. `meanings` has the values of texts in any letter case, and of all others as "*".
    The function raises what parse_time() raises, and returns other invalid texts as they are.
    """
    known = {text.casefold(): value for text, value in meanings.items()}
    parsers = {BOOLEAN: lambda text: BOOLEANS.get(text.lower(), text), TAGS: parse_tags, TIME: parse_time}
    parsers |= {AMOUNT: parse_number, INTEGER: parse_number}
    rules = {URL: first_url, ID: first_word, is_email_address: first_word}
    parse = parsers.get(field.format) or next(
        (rules[rule] for rule in rules if rule in field.validators), lambda text: text
    )
    blank = None if field.allow_none else missing

    def parse_row(row: Any) -> Any:
        text = get(row)
        if known and text != "":
            text = known.get(str(text).casefold(), known.get("*", text))
        return blank if text == "" else parse(text) if isinstance(text, str) else text

    return parse_row


def time_parser(dates: Sequence[str], day_first: bool | None, zone: tzinfo | None) -> Callable[[str], str]:
    """Return a function that parses times of ISO 8601 or of the formats `dates`, in the zone if they have no offset.

    Without formats, it parses numeric dates, as in 31/01/2024 10:30.
    """
    known = dates or ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M")
    # A date that begins with the year is unambiguous.
    unambiguous = [form for form in known if day_first is None or form.startswith("%Y") or "%m" not in form]
    forms = [form for form in known if form in unambiguous or (form.find("%d") < form.find("%m")) == day_first]
    expected = " or ".join(map(EXAMPLE_TIME.strftime, ["%Y-%m-%d %H:%M", *forms]))
    first, second = ("day", "month") if day_first else ("month", "day")
    order = f"The {first} is expected before the {second} (--{second}-first changes that)."
    hint = order if len(forms) < len(known) else "The map can name more formats (dates)."

    @lru_cache(10_000)
    def parse(text: str) -> str:
        time = single_time(text, parse_times(text, forms) if dates else parse_numeric_date(text, day_first))
        if not time:
            raise ValidationError(f"{text[:64]} is not a time as in {expected}. {hint}")
        if not (zone or time.tzinfo):
            needed = "choose a time zone (--timezone, as in Europe/Berlin)"
            raise InvalidFile(f"Times such as {text} have no offset from UTC: {needed}.")
        with suppress(OverflowError):
            return format_time(time.replace(tzinfo=time.tzinfo or zone))
        return text

    return parse


def single_time(text: str, times: Iterator[datetime]) -> datetime | None:
    """Return the only one of the times, or None. Raises InvalidFile if the day and the month are ambiguous."""
    found = set(times)
    if len(found) > 1:
        shown = f"{min(found):%Y-%m-%d} or {max(found):%Y-%m-%d}"
        raise InvalidFile(f"{text} can be {shown}: choose the order (--day-first or --month-first).")
    return found.pop() if found else None


def parse_times(text: str, forms: Sequence[str]) -> Iterator[datetime]:
    """Yield the time of an ISO 8601 text, or else the times of the formats that fit the text."""
    with suppress(ValueError):
        yield datetime.fromisoformat(re.sub(" ?UTC$", "+00:00", text))
        return
    for form in forms:
        with suppress(ValueError):
            yield datetime.strptime(text, form)


def parse_numeric_date(text: str, day_first: bool | None) -> Iterator[datetime]:
    """Yield the times that a numeric date, perhaps with a time of day, can mean; with dots, the day is first."""
    found = NUMERIC_DATE.fullmatch(text)
    if not found:
        yield from parse_times(text, ())
        return
    start, sign, middle, end, time = found.groups("")
    dates = [(start, middle, end)]
    if len(start) < 4:
        dates = [(end, middle, start)] * (sign == "." or day_first is not False)
        dates += [(end, start, middle)] * (sign != "." and day_first is not True)
    for year, month, day in dates:
        # A year of two digits is from 1969 to 2068, as in POSIX.
        century = "" if len(year) == 4 else "19" if year >= "69" else "20"
        yield from parse_times(f"{century}{year}-{month:0>2}-{day:0>2} {time}".strip(), TIMES_OF_DAY)


def parse_tags(text: str) -> Any:
    """Return the tags of a JSON array, or of a list with commas or semicolons, each once."""
    if text.startswith("["):
        with suppress(InvalidJSON):
            return parse_json(text.encode())
    return list(dict.fromkeys(tag for each in re.split("[,;]", text) if (tag := each.strip())))


def parse_number(text: str) -> Any:
    """Return a number, also with commas between thousands, as in 250,000.50, or with a decimal comma."""
    plain = text.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text) else text
    if re.fullmatch(r"(\d+|\d{1,3}(\.\d{3})+),\d{1,2}", text):
        plain = text.replace(".", "").replace(",", ".")
    with suppress(InvalidJSON):
        return parse_json(plain.encode())
    return text


def first_word(text: str) -> str:
    """Return the first of several ids or e-mail addresses, as in 9001;9002."""
    return text.replace(",", ";").partition(";")[0].strip()


def first_url(text: str) -> str:
    """Return the first of several URLs; a domain becomes one."""
    first = re.split(r"[;,]\s", text)[0]
    return first if "://" in first else f"https://{first}"

"""Maps: the fields that the columns of another program's file become. The folder maps/ has those of known programs.

The value of a field is a template, a text with columns as in "{First Name} {Last Name}"; or several templates, of which
the first that isn't blank is used; or a constant.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from formats.errors import suggest
from schemas import RESOURCES

FOLDER = Path(__file__).parent / "maps"
COLUMN = re.compile(r"\{([^{}]+)\}")
VALUE = "a text with {columns}, an array of such texts, true, false or a number"
TEXTS, TABLE, BOOLEAN, TEXT = "an array of texts", "a table", "true or false", "a text"
KINDS: dict[str, Any] = {VALUE: str | list | bool | int | float, TEXTS: list, TABLE: dict, BOOLEAN: bool, TEXT: str}
# The time that shows a format in errors.
EXAMPLE_TIME = datetime(2024, 1, 31, 10, 30, tzinfo=UTC)
# The fields that companies are found by, in this order.
COMPANY = ("id", "website", "name")

# A map as a dict: for each resource, a dict in which keys of inner tables are joined by dots, as in `company.id`.
Map = dict[str, Any]


class InvalidFile(Exception):
    """A file, or a choice for it, can't be imported; the message says why."""

    # The number of the line at fault.
    line = 0


@dataclass(frozen=True)
class Options:
    """How to import a file. By default, its name is a resource's, and its header has the names of fields."""

    resource: str | None = None
    column_map: Map | None = None
    match: str = ""
    timezone: str = ""
    day_first: bool | None = None
    notes_from: tuple[str, ...] = ()
    encoding: str = ""
    dry_run: bool = False


@cache
def presets() -> dict[str, Map]:
    """Return the maps of known programs, by name."""
    return {path.stem: read_map(path) for path in sorted(FOLDER.glob("*.toml"))}


def load_map(name: str) -> Map:
    """Return the map of a known program, or of a TOML file. Raises InvalidFile."""
    if name in presets():
        return presets()[name]
    if not Path(name).is_file():
        raise InvalidFile(f"There is no map {name}: name a TOML file, or one of {', '.join(presets())}.")
    try:
        return read_map(Path(name))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{name} is not TOML: {error}.") from None
    except RecursionError:
        raise InvalidFile(f"{name}: Has too many nested tables or arrays.") from None


def read_map(path: Path) -> Map:
    """Return the map of a TOML file. Raises InvalidFile for a key or a format of times that is wrong."""
    known, found = known_keys(), Map()
    for key, value in flatten(tomllib.loads(path.read_text(encoding="utf-8"))):
        if key not in known:
            hint = suggest(key, tuple(known))
            raise InvalidFile(f"{path}: {key}: Is not a known key.{f' {hint}' if '?' in hint else ''}")
        if not isinstance(value, KINDS[known[key]]) or (isinstance(value, list) and len(templates(value)) < len(value)):
            raise InvalidFile(f"{path}: {key}: Must be {known[key]}.")
        resource, _dot, name = key.partition(".")
        (found.setdefault(resource, {}) if name else found)[name or key] = value
    for form in found.get("dates", []):
        try:
            datetime.strptime(EXAMPLE_TIME.strftime(form), form)
        except (ValueError, re.error):
            raise InvalidFile(f"{path}: dates: {form} is not a format that strptime of Python knows.") from None
    return found


def known_keys() -> dict[str, str]:
    """Return each key that a map can have, with a description of its value."""
    known = {"name": TEXT, "dates": TEXTS, "footer": TEXTS}
    for resource, schema in RESOURCES.items():
        names = [str(field.data_key) for field in schema.fields.values()]
        known |= {f"{resource}.values.{name}": TABLE for name in names}
        if "companyId" in names:
            names += [f"company.{name}" for name in COMPANY]
            known[f"{resource}.company.create"] = BOOLEAN
        known |= {f"{resource}.{name}": VALUE for name in names}
    return known


def flatten(table: Map, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of nested tables, as in `contacts.company.id`, with their values; `values.FIELD` is one value."""
    for key, value in table.items():
        if isinstance(value, dict) and not prefix.endswith(".values."):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def templates(value: Any) -> list[str]:
    """Return the templates of a field's value; a constant has none."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def columns_of(*values: Any) -> list[str]:
    """Return the names of the columns in the templates of fields, each once."""
    return list(dict.fromkeys(name for value in values for text in templates(value) for name in COLUMN.findall(text)))

"""Maps: which columns of another program's file become which fields. Those of known programs are in the folder maps/.

A field's value is a template, a text with columns as in "{First Name} {Last Name}", or the first of several templates
that isn't blank, or a constant.
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
# Shown in each format of times.
EXAMPLE_TIME = datetime(2024, 1, 31, 10, 30, tzinfo=UTC)
# In the order in which companies are looked for.
COMPANY = ("id", "website", "name")

# The keys of a map; each resource's are a table, in which those of an inner table are as in `company.id`.
Map = dict[str, Any]


class InvalidMap(Exception):
    """A map, or another choice for a file, can't be used; the message says why."""


@dataclass(frozen=True)
class Options:
    """How a file is imported: by its name and the names of fields in its header, unless these say otherwise."""

    resource: str | None = None
    found: Map | None = None
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
    """Return the map of a known program, or of a TOML file. Raises InvalidMap."""
    if name in presets():
        return presets()[name]
    if not Path(name).is_file():
        raise InvalidMap(f"There is no map {name}: name a TOML file, or one of {', '.join(presets())}.")
    try:
        return read_map(Path(name))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidMap(f"{name} is not TOML: {error}.") from None
    except RecursionError:
        raise InvalidMap(f"{name}: Must not have so many tables or arrays within each other.") from None


def read_map(path: Path) -> Map:
    """Return the map of a TOML file. Raises InvalidMap for a key or a format of times that is wrong."""
    known, found = known_keys(), Map()
    for key, value in flatten(tomllib.loads(path.read_text(encoding="utf-8"))):
        if key not in known:
            hint = suggest(key, tuple(known))
            raise InvalidMap(f"{path}: {key}: Is not a known key.{f' {hint}' if '?' in hint else ''}")
        if not isinstance(value, KINDS[known[key]]) or (isinstance(value, list) and len(templates(value)) < len(value)):
            raise InvalidMap(f"{path}: {key}: Must be {known[key]}.")
        resource, _dot, name = key.partition(".")
        (found.setdefault(resource, {}) if name else found)[name or key] = value
    for form in found.get("dates", []):
        try:
            datetime.strptime(EXAMPLE_TIME.strftime(form), form)
        except (ValueError, re.error):
            raise InvalidMap(f"{path}: dates: {form} is not a format that strptime of Python knows.") from None
    return found


def known_keys() -> dict[str, str]:
    """Return each key that a map can have, with the kind of its value."""
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
    """Yield the keys of tables within tables, as in `contacts.company.id`; the meanings of a field's values are one."""
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

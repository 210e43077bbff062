"""The columns of a CSV file, and the fields that they become: by their names, or by a map."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from formats.errors import suggest
from formats.values import TIME
from schemas import MAX_SUGGESTIONS, RESOURCES, ResourceSchema
from transfer.cells import Cells, Columns, Default, cell_parser, text_parser, time_parser
from transfer.companies import Companies
from transfer.csv_rows import InvalidLine
from transfer.maps import COLUMN, COMPANY, InvalidFile, Map, Options, columns_of, presets, templates

# A text that spreadsheets would take for a formula is exported with an apostrophe in front.
GUARDED = ("'=", "'+", "'-", "'@")
# The columns of a program's map that a header must have to be recognized.
FEWEST_COLUMNS = 3
time_zones = cache(available_timezones)


class Header:
    """The names of a file's columns, which are found in any letter case, also without a suffix in parentheses.

    In `labels`, a name that is blank, or the same as an earlier one, has the number of its column.
    """

    def __init__(self, cells: Iterable[str | None]) -> None:
        self.names = [(cell or "").strip() for cell in cells]
        self.used, self.indexes = set[int](), dict[str, int]()
        self.add_names(self.names)
        numbered = [(index, name, f"{name} (column {index + 1})".strip()) for index, name in enumerate(self.names)]
        self.labels = [name if self.find(name) == index else label for index, name, label in numbered]
        self.add_names(self.labels)
        self.add_names(split_suffix(name)[0] for name in self.names)

    def add_names(self, names: Iterable[str]) -> None:
        """Add the name of each column, unless an earlier column has it."""
        for index, name in enumerate(names):
            self.indexes.setdefault(name.lower(), index)

    def find(self, name: str) -> int | None:
        """Return the index of the first column with a name, or None."""
        return self.indexes.get(name.lower()) if name else None

    def has(self, value: Any) -> bool:
        """Tell whether the header has a column of a field's value in a map."""
        names = [COLUMN.findall(text) for text in templates(value)] or [[]] * (value is not None)
        return any(not each or any(self.find(name) is not None for name in each) for each in names)

    def zone(self, value: Any, name: str) -> ZoneInfo | None:
        """Return the time zone that the first column of a field's value has in parentheses, or else the named one."""
        indexes = [self.find(column) for column in columns_of(value)]
        suffixes = [split_suffix(self.names[index])[1] for index in indexes if index is not None]
        found = next((suffix for suffix in suffixes if suffix in time_zones()), name)
        return ZoneInfo(found) if found else None

    def left_out(self) -> list[str]:
        """Return the labels of the columns that no field uses."""
        return [label for index, label in enumerate(self.labels) if index not in self.used]


def split_suffix(name: str) -> tuple[str, str]:
    """Return a column's name, and what programs write after it in parentheses, such as a time zone."""
    before, _parenthesis, suffix = name[:-1].rpartition("(") if name.endswith(")") else (name, "", "")
    return before.strip(), suffix


def guess_map(header: Header, maps: Mapping[str, Map]) -> tuple[int, str, str]:
    """Return the map and the resource that fit the header best, after the number of their columns in the header."""
    tables = [(name, resource) for name, found in maps.items() for resource in RESOURCES if resource in found]
    columns = {each: columns_of(*maps[each[0]][each[1]].values()) for each in tables}
    scores = [(sum(header.find(column) is not None for column in columns[each]), *each) for each in tables]
    return max(scores, key=lambda score: score[0], default=(0, "", ""))


def plain_columns(schema: ResourceSchema, line: int, header: Header) -> Columns:
    """Return the columns of a file whose header has the names of fields, in any letter case. Raises InvalidLine."""
    fields = {str(field.data_key): field for field in schema.fields.values()}
    in_lower_case = {name.lower(): name for name in fields}
    names = [in_lower_case.get(name.lower(), name) for name in header.names]
    if "" in names:
        raise InvalidLine(line, f"Column {names.index('') + 1} must have a name.")
    if unknown := [name for name in names if name not in fields]:
        score, program, _resource = guess_map(header, presets())
        hint = f" Perhaps it is a file of another program (--map {program})." if score >= FEWEST_COLUMNS else ""
        raise InvalidLine(line, unknown_columns(unknown, tuple(fields)) + hint)
    for name, number in Counter(names).items():
        if number > 1:
            raise InvalidLine(line, f"{name}: Must not appear twice.")
    for name, field in fields.items():
        if field.required and name not in names:
            raise InvalidLine(line, f"{name}: Is required, but the header does not have it.")
    return [(name, cell_parser(fields[name], index)) for index, name in enumerate(names)]


def unknown_columns(names: list[str], known: tuple[str, ...]) -> str:
    """Return the sentences about unknown columns: a suggestion for each, and all known names."""
    shown = []
    for name in names[:MAX_SUGGESTIONS]:
        hint = suggest(name, known)
        shown.append(name[:64] + (f" ({hint.replace('Did', 'did')})" if "?" in hint else ""))
    return f"Unknown columns: {join_first(shown, len(names))}. Known: {', '.join(known)}."


def join_first(names: list[str], number: int) -> str:
    """Return the first of a number of names, and how many more there are."""
    more = f" and {number - MAX_SUGGESTIONS} more" if number > MAX_SUGGESTIONS else ""
    return ", ".join(names[:MAX_SUGGESTIONS]) + more


def mapped_columns(resource: str, header: Header, options: Options, companies: Companies) -> Columns:
    """Return the columns of a file that a map describes. Raises InvalidFile."""
    table = (options.column_map or {}).get(resource, {})
    if options.timezone and options.timezone not in time_zones():
        raise InvalidFile(
            f"{options.timezone} is not a time zone that this system knows. Write it as in Europe/Berlin."
        )
    for name in options.notes_from:
        if header.find(name) is None:
            raise InvalidFile(f"The header has no column {name} (--notes-from). {suggest(name, tuple(header.names))}")
    columns = map_fields(resource, table, header, options)
    names = [name for name, _get in columns]
    if "id" in table and "id" not in names and options.match in {"", "id"}:
        hint = "Add one to the export, or match rows by another field (--match)."
        raise InvalidFile(f"id: The header has none of the columns {', '.join(columns_of(table['id']))}. {hint}")
    if "name" not in names and RESOURCES[resource].fields.get("name"):
        raise InvalidFile("name: Is required, but no column of the header is mapped to it.")
    fields: Any = RESOURCES[resource].fields.values()
    described = [field.data_key for field in fields if field.format is not TIME]
    telling = {*columns_of(*map(table.get, described))} - {*columns_of(table.get("id"))}
    if "id" in names and telling and all(header.find(name) is None for name in telling):
        hint = f"It has: {join_first(header.names, len(header.names))}."
        raise InvalidFile(f"The header has only ids and times of {resource}: is it a file of {resource}? {hint}")
    if options.notes_from and "notes" not in names:
        raise InvalidFile(f"{resource} have no notes that columns could be added to (--notes-from).")
    own = {name: table[f"company.{name}"] for name in COMPANY if f"company.{name}" in table}
    company = dict(map_fields("companies", own, header, Options(column_map=options.column_map)))
    if getters := [(name, company[name]) for name in COMPANY if name in company]:
        columns.append(("companyId", companies.finder(getters, create=table.get("company.create", True))))
    return columns


def map_fields(resource: str, table: Map, header: Header, options: Options) -> Columns:
    """Return the columns of the fields of a map's table for which the header has any."""
    columns = []
    for field in RESOURCES[resource].fields.values():
        name = str(field.data_key)
        value = table.get(name)
        notes = options.notes_from if name == "notes" else ()
        if header.has(value) or notes:
            dates = (options.column_map or {}).get("dates", [])
            zone = header.zone(value, options.timezone)
            others = columns_of(*(other for key, other in table.items() if key != name)) if field.required else None
            get, meanings = value_getter(value, header, notes, others), table.get(f"values.{name}", {})
            columns.append((name, text_parser(field, get, meanings, time_parser(dates, options.day_first, zone))))
    return columns


def value_getter(
    value: Any, header: Header, notes: Sequence[str] = (), others: list[str] | None = None
) -> Callable[[Cells], Any]:
    """Return a function that returns a field's text in a row, with the columns of `notes` added, or its constant.

    Texts made of `others` alone, the columns of other fields, are of the type Default.
    """
    found = [template_getter(text, header, others) for text in templates(value) if header.has(text)]
    added = [(header.names[index], index) for name in notes if (index := header.find(name)) is not None]
    header.used.update(index for _name, index in added)
    if not (found or added):
        return lambda _cells: value
    if len(found) == 1 and not added:
        return found[0]

    def get(cells: Cells) -> str:
        lines = [f"{name}: {text}" for name, index in added if (text := clean(cells[index]))]
        first = next((text for fill in found if (text := fill(cells))), "")
        return "\n".join(filter(None, [first, *lines])) if added else first

    return get


def template_getter(template: str, header: Header, others: list[str] | None) -> Callable[[Cells], str]:
    """Return a function that fills a template with the cells of a row; it returns "" if all of them are blank."""
    literals, names = COLUMN.split(template)[::2], COLUMN.findall(template)
    indexes = [header.find(name) for name in names]
    header.used.update(index for index in indexes if index is not None)
    if others is not None and {*names} <= {*others}:
        fill_default = template_getter(template, header, None)
        return lambda cells: Default(fill_default(cells))
    if len(indexes) == 1 and (index := indexes[0]) is not None:
        before, after = literals
        return lambda cells: f"{before}{text}{after}" if (text := clean(cells[index])) else ""

    def fill(cells: Cells) -> str:
        found = ["" if index is None else clean(cells[index]) for index in indexes]
        text = "".join([literal + cell for literal, cell in zip(literals, [*found, ""], strict=True)])
        return re.sub(" {2,}", " ", text).strip() if any(found) or not indexes else ""

    return fill


def clean(cell: str | None) -> str:
    """Return a cell's text without spaces around it, and without the apostrophe before what looks like a formula."""
    text = (cell or "").strip()
    return text[1:] if text.startswith(GUARDED) else text

"""The query string of a list becomes a Query, which determines the SELECT, and the values that are bound to it."""

import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from flask import request
from marshmallow import ValidationError

from api.as_of import requested_version
from api.parameters import PLUS_HINT, Parameters
from api.problems import InvalidQuery
from api.resources import ENDPOINTS, Endpoint
from database import db
from database.columns import format_of
from formats.errors import hidden_character, suggest
from formats.json_text import InvalidJSON, encode_json, parse_json
from formats.matching import fold_text
from formats.values import TAGS, TEXT, TIME, parse_tag, parse_text

MAX_PAGE = 1_000
MAX_SEARCH_LENGTH = 255
MAX_WORDS = 10
MAX_FILTER_VALUES = 2_000
# Matching compares the keys of a filter's values; SQLite binds at most 32,766 (SQLITE_MAX_VARIABLE_NUMBER).
MAX_KEYS = 16_384
OPERATORS = ("gte", "gt", "lte", "lt", "ne")
# The operators that replace these after a value was rounded down: no stored value is between the two values.
ROUNDED = {"lt": "lte", "gte": "gt"}
INDEXED_SORTS = ("createdAt", "updatedAt", "id")
COUNT_EXACT = re.compile(r'(^|,)\s*count\s*=\s*("exact"|exact)\s*($|[;,])', re.I)


class Filter(NamedTuple):
    """A filter on a field: its operator ("" for equality), the number of its values, whether it also matches null."""

    name: str
    operator: str
    values: int
    or_null: bool


class SortKey(NamedTuple):
    """A field that a list is sorted by."""

    name: str
    column: Any
    descending: bool
    nullable: bool


class Query(NamedTuple):
    """The shape of a list request, without values: requests that differ only in values share a compiled statement."""

    resource: str
    fields: tuple[str, ...]
    include: tuple[str, ...]
    filters: tuple[Filter, ...]
    # The number of words of `q`, and how many of them, the last ones, are searched by the index.
    words: int
    indexed_words: int
    sort: str
    # 0 to return the numbers of all rows first, and then read the rows by number.
    limit: int
    # Whether the rows are those of an earlier version.
    as_of: bool
    # For each sort key of the cursor, whether its value is null; empty without a cursor.
    cursor_nulls: tuple[bool, ...] = ()
    # Whether to return the rows with the numbers to bind.
    by_numbers: bool = False

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint of the resource."""
        return ENDPOINTS[self.resource]

    @property
    def sort_keys(self) -> list[SortKey]:
        """Return the sort keys; the last one is the id. A version may lack a field that was added later."""
        terms = self.sort.split(",")
        terms += ["id"] if {"id", "-id"}.isdisjoint(terms) else []
        columns = self.endpoint.columns
        return [
            SortKey(name, columns[name], term.startswith("-"), columns[name].nullable or (self.as_of and name != "id"))
            for term in terms
            for name in [term.removeprefix("-")]
        ]


class ListRequest:
    """A list request, parsed: its query, and the values to bind. Raises InvalidQuery."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        names = tuple(endpoint.attributes)
        self.parameters = Parameters("limit", "cursor", "sort", "q", "fields", "include", "asOf", fields=names)
        self.past = requested_version(self.parameters)
        self.bound: dict[str, Any] = {**self.past}
        self.limit = self.parameters.number("limit", 1, MAX_PAGE, 0)
        self.wants_count = COUNT_EXACT.search(request.environ.get("HTTP_PREFER", "")) is not None
        sort = self.parse_sort()
        self.query = Query(
            endpoint.name,
            self.parameters.words("fields", names),
            self.parameters.words("include", endpoint.includes),
            tuple(self.parse_filter(*each) for each in enumerate(self.parameters.filters.items())),
            *self.parse_search(),
            sort,
            # Without an index for the order, each page would sort all rows again; with asOf, build all past rows again.
            self.limit or (MAX_PAGE if sort in INDEXED_SORTS and not self.past else 0),
            bool(self.past),
        )
        # The cursors of other lists begin with other values.
        self.cursor_prefix = [endpoint.name, sort, *self.past.values()]
        if "cursor" in self.parameters.values:
            self.seek(self.parameters.values["cursor"])

    def parse_value(self, name: str, text: str) -> tuple[Any, bool]:
        """Return a filter's value, rounded down to one that can be stored, and whether it could itself be stored."""
        form, value = format_of(self.endpoint.columns[name]), text
        if form not in {TEXT, TAGS, TIME} and text == text.strip():
            # A number or a boolean; for any other text the schema's error is clearer than the parser's.
            with suppress(InvalidJSON):
                value = parse_json(text.encode())
        try:
            if form.floor and value is not None:
                return form.floor(value)
            return parse_tag(value) if form is TAGS else self.endpoint.field(name).deserialize(value), True
        except ValidationError as error:
            hint = PLUS_HINT if " " in text and "+" in self.parameters.query else ""
            raise InvalidQuery(f"{name} can't be {text!r}. {error.messages[0]}{hidden_character(text)}{hint}") from None

    def parse_filter(self, number: int, parameter: tuple[str, list[str]]) -> Filter:
        """Return the filter of a parameter, `field` or `field[operator]`, and bind its values."""
        name, bracket, operator = parameter[0].partition("[")
        operator, texts = operator.removesuffix("]"), parameter[1]
        column = self.endpoint.columns[name]
        if bracket:
            self.check_operator(name, operator, texts)
        elif "+" in self.parameters.query and format_of(column) in {TEXT, TAGS}:
            variants = self.parameters.plus_variants(name)
            # A request with more values is from a program, which escapes plus signs.
            texts = variants if len(variants) <= MAX_FILTER_VALUES else texts
        or_null = column.nullable and "null" in texts
        if or_null and operator not in {"", "ne"}:
            raise InvalidQuery(f"{name}[{operator}] can't be null: {name}=null and {name}[ne]=null can.")
        parsed = [self.parse_value(name, text) for text in texts if not (or_null and text == "null")]
        if operator in ROUNDED and not parsed[0][1]:
            operator = ROUNDED[operator]
        if matching := column.info.get("matching"):
            parsed = [(key, True) for value, _is_exact in parsed for key in matching.keys(value)]
        # A value that had to be rounded equals no stored one.
        values = [value for value, is_exact in parsed if is_exact or operator not in {"", "ne"}]
        if len(texts) > MAX_FILTER_VALUES or len(values) > MAX_KEYS:
            raise InvalidQuery(
                f"{name} can have at most {MAX_FILTER_VALUES} values, not {len(texts)}: send several requests."
            )
        # Repeat the last value up to a power of two, so that few statements are compiled for any number of values.
        values += values[-1:] * ((1 << len(values[1:]).bit_length()) - len(values))
        self.bound |= {f"filter{number}_{index}": value for index, value in enumerate(values)}
        return Filter(name, operator, len(values), or_null)

    def check_operator(self, name: str, operator: str, texts: list[str]) -> None:
        """Raise InvalidQuery unless the field has the operator, and it is used once."""
        if not operator or operator.isdigit():
            raise InvalidQuery(f"Send {name} without brackets, and repeat it to match any of several values.")
        if not self.endpoint.is_comparable(name):
            raise InvalidQuery(f"{name} has no operators: they are for numbers and times. To search texts, use q.")
        if operator not in OPERATORS:
            raise InvalidQuery(f"{name} has no operator {operator}. {suggest(operator, OPERATORS)}")
        if len(texts) > 1:
            raise InvalidQuery(f"{name}[{operator}] must be given once, not as {texts[0]!r} and {texts[1]!r}.")

    def parse_search(self) -> tuple[int, int]:
        """Bind the words of `q`; return their number, and how many of them are searched by the index."""
        if "q" not in self.parameters.values:
            return 0, 0
        text = self.parameters.values["q"]
        # Each word once, because each costs a search.
        words = list({fold_text(word): word for word in text.split()}.values())
        if not words or len(text) > MAX_SEARCH_LENGTH or "\0" in text:
            raise InvalidQuery(f"q must be one or more words, {MAX_SEARCH_LENGTH} characters in all.")
        if len(words) > MAX_WORDS:
            raise InvalidQuery(f"q can have at most {MAX_WORDS} different words, not {len(words)}.")
        # SQLite's index holds trigrams, so it can't find shorter words.
        has_index = db.engine.dialect.name == "sqlite" and not self.past
        indexed = [word for word in words if len(fold_text(word)) >= 3 and has_index]
        # The words that need a scan come first.
        words.sort(key=lambda word: word in indexed)
        self.bound |= {f"word{number}": like_pattern(fold_text(word)) for number, word in enumerate(words)}
        if indexed:
            self.bound["search"] = " AND ".join(map(search_phrases, indexed))
        return len(words), len(indexed)

    def parse_sort(self) -> str:
        """Return the sort parameter, which names fields with a single value, each once."""
        text = self.parameters.values.get("sort", "createdAt")
        names = [term.removeprefix("-") for term in text.split(",")]
        for name, term in zip(names, text.split(","), strict=True):
            if name not in self.endpoint.scalars:
                raise InvalidQuery(f"sort can't have {term!r}. {suggest(name, self.endpoint.scalars)}")
            if names.count(name) > 1:
                raise InvalidQuery(f"sort must name {name} once.")
        return text

    def encode_cursor(self, keys: Mapping[str, Any]) -> str:
        """Return the cursor of the rows after the one with these sort keys."""
        cursor = encode_json([*self.cursor_prefix, *keys.values()])
        return base64.urlsafe_b64encode(cursor.encode()).decode().rstrip("=")

    def seek(self, cursor: str) -> None:
        """Continue after a cursor. Raises InvalidQuery for one of another list or another sort."""
        length = len(self.cursor_prefix)
        try:
            parts = parse_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            if not isinstance(parts, list) or parts[:length] != self.cursor_prefix:
                raise ValueError
            for number, (key, value) in enumerate(zip(self.query.sort_keys, parts[length:], strict=True)):
                self.bound[f"cursor{number}"] = parse_cursor_value(key, value)
        except (ValueError, InvalidJSON, ValidationError):
            rule = "cursor must be one that this list gave, with the same sort and asOf: start again without it."
            raise InvalidQuery(rule) from None
        self.query = self.query._replace(cursor_nulls=tuple(value is None for value in parts[length:]))

    def seek_numbers(self, numbers: str) -> str:
        """Select the rows with the first MAX_PAGE of these comma-separated numbers; return the other numbers."""
        parts = numbers.split(",", MAX_PAGE)
        self.bound["numbers"] = ",".join(parts[:MAX_PAGE])
        self.query = self.query._replace(by_numbers=True)
        return "".join(parts[MAX_PAGE:])


def parse_cursor_value(key: SortKey, value: Any) -> Any:
    """Return a cursor's value; text can have any length, because another program may have stored a longer one."""
    if value is None and key.nullable:
        return None
    form = format_of(key.column)
    return parse_text(value, max_length=2**31) if form is TEXT else form.parse(value)


def search_phrases(word: str) -> str:
    """Return the search index's query for a word as it is and without accents (SQLite, FTS5, section 3)."""
    phrases = dict.fromkeys('"' + each.replace('"', '""') + '"' for each in (word, fold_text(word)))
    return f"({' OR '.join(phrases)})"


def like_pattern(word: str) -> str:
    """Return the LIKE pattern of a word, escaped by slashes."""
    return f"%{word.replace('/', '//').replace('%', '/%').replace('_', '/_')}%"

"""The tools of agents: each sends one request to a view of the API, and answers by text and the same as data."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flask import current_app, g, request
from marshmallow import ValidationError, validate

from api.feed import FILTERS
from api.resources import ENDPOINTS, Endpoint
from api.revert import RevertSchema
from formats.errors import suggest
from formats.values import parse_version
from mcp.arguments import JSONSchema, errors_of
from mcp.tables import changes_table, details, fields_in_words, fields_of, table
from mcp.views import next_page, send
from models import SCOPES

# Rows of a page, at most and by default, and rows that one call changes.
MAX_ROWS, DEFAULT_ROWS, MAX_WRITTEN = 50, 20, 100

Arguments = dict[str, Any]
# The text of an answer, and the same as data.
Answer = tuple[str, dict[str, Any]]
Run = Callable[[Arguments], Answer]


class Tool(NamedTuple):
    """A tool: what it does, the scope that it needs, and its description in `tools/list`."""

    run: Run
    scope: str
    about: JSONSchema


TOOLS: dict[str, Tool] = {}

TEXT: JSONSchema = {"type": "string"}
FLAG: JSONSchema = {"type": "boolean"}
VERSION: JSONSchema = {"type": "integer"}
RESOURCE = {"resource": TEXT | {"enum": list(ENDPOINTS)}}
ROW = RESOURCE | {"id": TEXT}
PAGE = {"limit": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS}, "cursor": TEXT}
AS_OF = {"asOf": TEXT | {"description": "A past version (number) or time (RFC 3339)."}}
DRY_RUN = {"dryRun": FLAG | {"description": "Check and show, store nothing."}}
IF_MATCH = {"ifMatch": TEXT | {"description": "The etag from get: fails if the row changed since."}}
MATCH_ON = sorted({field for endpoint in ENDPOINTS.values() for field in endpoint.match_on})
FILTERS_HELP = (
    'By field: {"status": "open", "dealValue[gte]": 5000}. An array matches any of its values, null none. '
    "[gte] [gt] [lte] [lt] [ne] for numbers and times."
)


def tool(
    properties: JSONSchema, *required: str, scope: str = "read", is_repeatable: bool = True
) -> Callable[[Run], Run]:
    """Declare a function as a tool, with its name and docstring."""

    def declare(run: Run) -> Run:
        schema = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
        hints = {"readOnlyHint": scope == "read", "destructiveHint": scope != "read", "idempotentHint": is_repeatable}
        about = {"name": run.__name__, "description": run.__doc__, "inputSchema": schema}
        TOOLS[run.__name__] = Tool(run, scope, about | {"annotations": hints | {"openWorldHint": False}})
        return run

    return declare


def allowed_tools() -> list[JSONSchema]:
    """Return the descriptions of the tools that the scope of the key allows, always in the same order."""
    return [each.about for each in TOOLS.values() if SCOPES.index(each.scope) <= SCOPES.index(g.key.scope)]


def call_tool(name: str, arguments: Arguments) -> dict[str, Any]:
    """Return the result of a tool: its answer, or a problem in words that say how to mend it."""
    g.log_path = f"{request.path}#{name}"
    try:
        if errors := errors_of(arguments, TOOLS[name].about["inputSchema"]):
            raise ValidationError(errors)
        text, content = TOOLS[name].run({key: value for key, value in arguments.items() if value is not None})
        is_error = False
        if "version" in g:
            text, content = f"{text}\nVersion {g.version[1]}.", content | {"version": g.version[1]}
    except Exception as error:
        response: Any = current_app.handle_user_exception(error)
        is_error, content = True, response.json
        faults = [f"{each['pointer']} {each['detail']}".lstrip() for each in content.get("errors", [])]
        text = "\n".join([f"{content['status']} {content['title']}: {content['detail']}", *faults])
    # It belongs to a row or a list, not to this response.
    g.pop("etag", None)
    return {"content": [{"type": "text", "text": text}], "structuredContent": content, "isError": is_error}


@tool(RESOURCE)
def describe(given: Arguments) -> Answer:
    """Fields of one or all resources: types, limits, meaning."""
    chosen = [ENDPOINTS[name] for name in ENDPOINTS if name == given.get("resource", name)]
    heads = [f"{each.name}: {each.schema.__doc__} matchOn: {', '.join(each.match_on)}." for each in chosen]
    fields = {each.name: fields_of(each) for each in chosen}
    tables = map(table, fields.values())
    return "\n\n".join(map("\n".join, zip(heads, tables, strict=True))), {"resources": fields}


@tool(
    {
        **RESOURCE,
        "filters": {"type": "object", "description": FILTERS_HELP},
        "q": TEXT | {"description": "Words to search for in all texts."},
        "sort": TEXT | {"description": "As in -updatedAt,name."},
        "fields": {"type": "array", "items": TEXT, "description": "Only these."},
        **PAGE,
        **AS_OF,
    },
    "resource",
)
def find(given: Arguments) -> Answer:
    """List rows as a table, by default 20, oldest first, with all fields."""
    endpoint, fields = ENDPOINTS[given["resource"]], [as_text(name) for name in given.get("fields", ())]
    given = {"limit": DEFAULT_ROWS} | given | ({"fields": ",".join(fields)} if fields else {})
    query = query_of(given, "q", "sort", "fields", "limit", "cursor", "asOf")
    response = send("GET", endpoint.name, query=[*query, *filter_pairs(endpoint, given.get("filters", {}))])
    # As the API names and orders the fields.
    columns = [*(response.json or [dict.fromkeys(fields)])[0]] if fields else []
    return page(response, given, table(response.json, columns), "rows")


@tool(ROW | AS_OF, "resource", "id")
def get(given: Arguments) -> Answer:
    """One whole row, with its etag."""
    row = send("GET", given["resource"], given["id"], query=query_of(given, "asOf")).json
    return details(row | {"etag": g.etag}), {"row": row, "etag": g.etag}


@tool(
    {
        "since": VERSION | {"description": "After this version; answers name the newest."},
        "until": VERSION,
        **{name: RESOURCE.get(name, TEXT) for name in FILTERS},
        "net": FLAG | {"description": "One entry a row: what differs between since and until."},
        **PAGE,
    }
)
def changes(given: Arguments) -> Answer:
    """Who changed what, oldest first: history of a row, of a key, of a request."""
    given = {"limit": DEFAULT_ROWS} | given
    response = send("GET", "changes", query=query_of(given, *given))
    return page(response, given, changes_table(response.json), "changes")


ROWS = {
    "type": "array",
    "items": {"type": "object"},
    "minItems": 1,
    "maxItems": MAX_WRITTEN,
    "description": f"Texts unless noted. {'. '.join(map(fields_in_words, ENDPOINTS.values()))}",
}
MATCH = TEXT | {"enum": MATCH_ON, "description": "Update the row that has the same value, if there is one."}


@tool({**RESOURCE, "rows": ROWS, "matchOn": MATCH, **DRY_RUN}, "resource", "rows", scope="write", is_repeatable=False)
def save(given: Arguments) -> Answer:
    """Create rows, or update those that match: all or none."""
    rows = send("POST", given["resource"], query=query_of(given, "matchOn", "dryRun"), body=given["rows"]).json
    sent = {"id"}.union(*given["rows"])
    return written(given, table(rows, [name for name in rows[0] if name in sent]), {"rows": rows})


@tool({**ROW, "fields": {"type": "object"}, **IF_MATCH, **DRY_RUN}, "resource", "id", "fields", scope="write")
def update(given: Arguments) -> Answer:
    """Change some fields of a row; null empties one."""
    path, if_match = (given["resource"], given["id"]), given.get("ifMatch", "")
    row = send("PATCH", *path, query=query_of(given, "dryRun"), body=given["fields"], if_match=if_match).json
    shown = {name: row[name] for name in row if name in {"id", "updatedAt", *given["fields"]}}
    # A dry run has none.
    etag = {"etag": g.etag} if "etag" in g else {}
    return written(given, details(shown | etag), {"row": row} | etag)


@tool(ROW | IF_MATCH | DRY_RUN, "resource", "id", scope="write")
def delete(given: Arguments) -> Answer:
    """Delete a row. Contacts and conversations of a company stay."""
    path = given["resource"], given["id"]
    send("DELETE", *path, query=query_of(given, "dryRun"), if_match=given.get("ifMatch", ""))
    return written(given, f"Deleted {'/'.join(path)}.", {"deleted": "/".join(path)})


def revert_properties() -> Iterator[tuple[str, JSONSchema]]:
    """Yield the properties of a revert, as its schema declares them."""
    for each in RevertSchema().fields.values():
        field: Any = each
        choices = [list(rule.choices) for rule in field.validators if isinstance(rule, validate.OneOf)]
        value = VERSION if field.parse is parse_version else TEXT | ({"enum": choices[0]} if choices else {})
        yield field.data_key, value | {"description": field.metadata["description"]}


@tool(dict(revert_properties()) | DRY_RUN, scope="write", is_repeatable=False)
def revert(given: Arguments) -> Answer:
    """Take changes back, by new ones: all or none, at most 100 rows."""
    g.max_reverted = MAX_WRITTEN
    body = {name: value for name, value in given.items() if name != "dryRun"}
    entries = send("POST", "changes", "revert", query=query_of(given, "dryRun"), body=body).json
    return written(given, changes_table(entries), {"changes": entries})


def as_text(value: Any) -> str:
    """Return a value as the query string has it."""
    return "null" if value is None else value if isinstance(value, str) else str(value).lower()


def query_of(given: Arguments, *names: str) -> list[tuple[str, str]]:
    """Return those of the named arguments that are given, as parameters of the query string."""
    return [(name, as_text(given[name])) for name in names if name in given]


def filter_pairs(endpoint: Endpoint, filters: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the filters as parameters of the query string. Raises ValidationError."""
    pairs, errors = [], {}
    for name, value in filters.items():
        each = value if isinstance(value, list) else [value]
        if (field := name.partition("[")[0]) not in endpoint.attributes:
            errors[name] = [f"Is not a field. {suggest(field, tuple(endpoint.attributes))}"]
        elif not each or any(isinstance(one, dict | list) for one in each):
            errors[name] = [f"Must be a value or some values; a range is {field}[gte]."]
        pairs += [(name, as_text(one)) for one in each]
    if errors:
        raise ValidationError({"filters": errors})
    return pairs


def page(response: Any, given: Arguments, text: str, name: str) -> Answer:
    """Return the answer with a page, and the arguments for the next one."""
    text, content = f"{text}\n{len(response.json)} found.".lstrip(), {name: response.json}
    if more := next_page(response, given):
        text += f" More: the same with {', '.join(f'{key} {value}' for key, value in more.items())}"
        content["more"] = more
    return text, content


def written(given: Arguments, text: str, content: dict[str, Any]) -> Answer:
    """Return the answer to a write, which says how to take it back."""
    note = f'To take this back: revert {{"requestId": "{g.request_id}"}}'
    if given.get("dryRun") or "has_written" not in g:
        note = "Dry run: nothing was stored." if given.get("dryRun") else "Nothing changed."
    return f"{text}\n{note}", content | {"requestId": g.request_id}

"""The tools of agents: each sends one request to a view of the API, and returns text and the same as data."""

from collections.abc import Callable
from inspect import signature
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import sqlalchemy as sa
from flask import current_app, g, request

from api.feed import FILTERS
from api.resources import ENDPOINTS
from api.revert import MAX_ROWS, RevertSchema
from database.connection import execute
from formats.ids import new_id
from formats.values import parse_version
from mcp.arguments import JSONSchema, check_filters, parse_arguments
from mcp.tables import MAX_ERROR, Rows, details, fields_in_words, fields_of, shorten, summaries, table
from mcp.views import send
from models import SCOPES, Write
from settings import PROGRAM

# The most rows of a page, their number by default, and the most rows that a call saves or reverts.
MAX_PAGE, DEFAULT_PAGE, MAX_WRITTEN = 50, 20, 100
# How changes of more rows are reverted.
ASK = f"ask a person to use `{PROGRAM} revert --request {{}}` or Settings → Activity"

# Text, and the same as data.
Answer = tuple[str, dict[str, Any]]
Function = Callable[..., Answer]

# Each tool by its name: its function, the scope that it needs, and its description for `tools/list`.
TOOLS: dict[str, tuple[Function, str, JSONSchema]] = {}

TEXT: JSONSchema = {"type": "string"}
NOT_EMPTY: JSONSchema = TEXT | {"minLength": 1}
FLAG: JSONSchema = {"type": "boolean"}
VERSION: JSONSchema = {"type": "integer"}
RESOURCE = {"resource": TEXT | {"enum": list(ENDPOINTS)}}
ROW = RESOURCE | {"id": NOT_EMPTY}
PAGE = {"limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}, "cursor": TEXT}
AS_OF = {"asOf": TEXT | {"description": "A past version (number) or time (RFC 3339)."}}
DRY_RUN = {"dryRun": FLAG | {"description": "Check and show, store nothing."}}
IF_MATCH = {"ifMatch": NOT_EMPTY | {"description": "The etag from get: fails if the row changed since."}}
MATCH_ON = sorted({field for endpoint in ENDPOINTS.values() for field in endpoint.match_on})
FILTERS_HELP = (
    'Equality by field: {"status": "open", "dealValue[gte]": 5000}. An array matches any of its values, null none. '
    "[gte] [gt] [lte] [lt] [ne] for numbers and times."
)


def tool(arguments: JSONSchema, scope: str = "read", is_idempotent: bool = True) -> Callable[[Function], Function]:
    """Declare a function as a tool: with its name, its docstring, and the schemas of its arguments."""

    def declare(function: Function) -> Function:
        parameters = signature(function).parameters.values()
        required = [
            each.name for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD
        ]
        schema = {"type": "object", "properties": arguments, "required": required, "additionalProperties": False}
        hints = {"readOnlyHint": scope == "read", "destructiveHint": scope != "read", "idempotentHint": is_idempotent}
        description = {"name": function.__name__, "description": function.__doc__, "inputSchema": schema}
        TOOLS[function.__name__] = function, scope, description | {"annotations": hints | {"openWorldHint": False}}
        return function

    return declare


def allowed_tools() -> list[JSONSchema]:
    """Return the descriptions of the tools that the scope of the key allows, always in the same order."""
    allowed = SCOPES[: SCOPES.index(g.key.scope) + 1]
    return [description for _function, scope, description in TOOLS.values() if scope in allowed]


def call_tool(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a tool: its answer, or a problem in sentences that say how to mend it."""
    g.log_path = f"{request.path}#{name}"
    # A client may send an X-Request-Id again, and a revert takes back all changes of a request.
    response_id, g.request_id = g.request_id, new_id() if "X-Request-Id" in request.headers else g.request_id
    try:
        function, scope, description = TOOLS[name]
        values = parse_arguments(arguments, description["inputSchema"])
        text, content = function(**values)
        if scope == "write":
            content |= write_note(values.get("dryRun", False))
        is_error, lines = False, [text, content.get("note")]
        if "version" in g:
            content["version"] = g.version[1]
            lines.append(f"Version {g.version[1]}.")
    except Exception as error:
        response: Any = current_app.handle_user_exception(error)
        is_error, content = True, shorten(response.json, MAX_ERROR)
        lines = [f"{content['status']} {content['title']}: {content['detail']}"]
        for each in content.get("errors", []):
            each["pointer"] = g.get("pointer", "") + each["pointer"]
            lines.append(f"{each['pointer']} {each['detail']}".lstrip())
    g.request_id = response_id
    # The ETag of the row or list is not that of this response.
    g.pop("etag", None)
    text = "\n".join(filter(None, lines))
    return {"content": [{"type": "text", "text": text}], "structuredContent": content, "isError": is_error}


def write_note(is_dry_run: bool) -> dict[str, str]:
    """Return a note whether the call stored changes, and if so, its requestId and how to take them back."""
    if is_dry_run or "has_written" not in g:
        return {"note": "Dry run: nothing was stored." if is_dry_run else "Nothing changed."}
    is_large = g.get("members", 0) >= MAX_ROWS
    revert = ASK.format(g.request_id) if is_large else f'revert {{"requestId": "{g.request_id}"}}'
    return {"note": f"To take this back: {revert}", "requestId": g.request_id}


@tool(RESOURCE)
def describe(resource: str | None = None) -> Answer:
    """Fields of one or all resources: types, limits, meaning."""
    chosen = [ENDPOINTS[resource]] if resource else ENDPOINTS.values()
    fields = {each.name: fields_of(each) for each in chosen}
    heads = [f"{each.name}: {each.schema.__doc__} matchOn: {', '.join(each.match_on)}." for each in chosen]
    return "\n\n".join(map("{}\n{}".format, heads, map(table, fields.values()))), {"resources": fields}


FIND = RESOURCE | {"filters": {"type": "object", "description": FILTERS_HELP}}
FIND |= {"q": TEXT | {"description": "Words to search for in all texts."}}
FIND |= {"sort": TEXT | {"description": "As in -updatedAt,name."}}
FIND |= {"fields": {"type": "array", "items": TEXT, "description": "Only these."}}


@tool(FIND | PAGE | AS_OF)
def find(resource: str, filters: dict[str, Any] | None = None, fields: Any = (), **options: Any) -> Answer:
    """List rows as a table, by default 20, oldest first, without empty columns. Only get shows long texts whole."""
    check_filters(filters or {}, tuple(ENDPOINTS[resource].attributes))
    options |= (filters or {}) | ({"fields": ",".join(map(str, fields))} if fields else {})
    response = send("GET", resource, options={"limit": DEFAULT_PAGE} | options)
    # The first row has the fields in the API's order.
    columns = response.json[0] if fields and response.json else ()
    return page(response, table(response.json, columns), "rows")


@tool(ROW | AS_OF)
def get(resource: str, id: str, **options: Any) -> Answer:
    """One whole row, with its etag."""
    row = send("GET", resource, id, options=options).json
    return details(row | {"etag": g.etag}), {"row": row, "etag": g.etag}


RANGE = {"since": VERSION | {"description": "After this version; answers name the newest."}, "until": VERSION}
NET = {"net": FLAG | {"description": "One entry a row: what differs between since and until."}}


@tool(RANGE | {name: RESOURCE.get(name, TEXT) for name in FILTERS} | NET | PAGE)
def changes(**options: Any) -> Answer:
    """Changes of a row, a key, a request or all, oldest first: the writer, and the row that each left."""
    response = send("GET", "changes", options={"limit": DEFAULT_PAGE} | options)
    return page(response, table(summaries(response.json)), "changes")


ROWS: JSONSchema = {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": MAX_WRITTEN}
ROWS |= {"description": f"Texts unless noted. {'. '.join(map(fields_in_words, ENDPOINTS.values()))}"}
MATCH = TEXT | {"enum": MATCH_ON, "description": "Update the row that has the same value, if there is one."}


@tool({**RESOURCE, "rows": ROWS, "matchOn": MATCH, **DRY_RUN}, scope="write", is_idempotent=False)
def save(resource: str, rows: Rows, **options: Any) -> Answer:
    """Create rows, or update those that match: all or none."""
    stored = send("POST", resource, options=options, body=rows, argument="rows").json
    sent = {"id"}.union(*rows)
    saved = shorten([{name: value for name, value in row.items() if name in sent} for row in stored])
    if "matchOn" in options:
        actions = ["created" if is_new else "updated" for _id, is_new in g.stored]
        saved = [row | {"action": action} for row, action in zip(saved, actions, strict=True)]
    return table(saved, saved[0]), {"rows": saved}


@tool({**ROW, "fields": {"type": "object"}, **IF_MATCH, **DRY_RUN}, scope="write")
def update(resource: str, id: str, fields: dict[str, Any], **options: Any) -> Answer:
    """Change some fields of a row; null empties one."""
    row = send("PATCH", resource, id, options=options, body=fields, argument="fields").json
    row = shorten({name: row[name] for name in row if name in {"id", "updatedAt", *fields}})
    # A dry run has none.
    etag = {"etag": g.etag} if "etag" in g else {}
    return details(row | etag), {"row": row} | etag


@tool(ROW | IF_MATCH | DRY_RUN, scope="write")
def delete(resource: str, id: str, **options: Any) -> Answer:
    """Delete a row. Contacts and conversations of a company stay."""
    send("DELETE", resource, id, options=options)
    note = f" Contacts and conversations that lose this company: {g.members}." if g.members else ""
    row = f"{resource}/{id}"
    if options.get("dryRun"):
        return f"{row} can be deleted.{note}", {"members": g.members}
    return f"Deleted {row}.{note}", {"deleted": row, "members": g.members}


REVERT_FIELDS: Any = RevertSchema().fields.values()
REVERT = {
    each.data_key: (VERSION if each.parse is parse_version else TEXT) | {"description": each.metadata["description"]}
    for each in REVERT_FIELDS
}
REVERT["conflicts"]["enum"] = ["skip", "overwrite"]
KEYS_OF_REQUEST = sa.select(Write.key_id).distinct().where(Write.request_id == sa.bindparam("request_id"))


@tool(REVERT | DRY_RUN, scope="write", is_idempotent=False)
def revert(**body: Any) -> Answer:
    """Take changes back by new ones, all or none: of at most 100 rows, or 10,000 of a request of your own key."""
    g.revert_limit = revert_limit
    options = {"dryRun": body.pop("dryRun", False)}
    entries = send("POST", "changes", "revert", options=options, body=body).json
    more = f", the first {MAX_PAGE} are shown" if len(entries) > MAX_PAGE else ""
    # All are by this key and this request.
    shown = shorten(summaries(entries[:MAX_PAGE], "keyId", "requestId"))
    left_out = [f"Left out: {row}" for row in g.left_out[:MAX_PAGE]]
    text = "\n".join([table(shown), f"Changes: {len(entries)}{more}.", *left_out])
    return text, {"changes": shown, "total": len(entries), "leftOut": g.left_out[:MAX_PAGE]}


def revert_limit(values: dict[str, Any]) -> tuple[int, str]:
    """Return the most rows that this revert may change, and what to do instead if it would change more."""
    request_id = values["requestId"]
    is_own = execute(KEYS_OF_REQUEST, request_id=request_id).fetchall() == [(g.key.id,)]
    ask = ASK.format(request_id or "ID")
    # Deleting a company changes its contacts, too: what one call did, one call takes back.
    return (MAX_ROWS, ask) if is_own else (MAX_WRITTEN, f"name a later version or a request of your own key, or {ask}")


def page(response: Any, text: str, name: str) -> Answer:
    """Return an answer with a page of rows or changes, and the arguments for the next page, if there is one."""
    count = len(response.json)
    content = {name: shorten(response.json), "note": f"{count} {name if count != 1 else name[:-1]}."}
    query = parse_qsl(urlsplit(response.headers.get("Link", "").partition(">")[0]).query)
    more = {key: int(text) for key, text in query if key in {"since", "until"}}
    if more := more | {key: text for key, text in query if key in {"cursor", "asOf"}}:
        content["note"] += f" More: the same with {', '.join(f'{key} {value}' for key, value in more.items())}"
        content["more"] = more
    return text, content

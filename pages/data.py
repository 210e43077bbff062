"""/data: companies, contacts and conversations as read-only tables, and each row with its related rows and history.

The pages take the parameters of the API's lists, and read rows by its own queries.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from flask import Blueprint, Response, abort, current_app, redirect, render_template, request, url_for
from marshmallow import validate

from api.as_of import requested_version
from api.feed import NEWEST, Selection, bind, read_changes
from api.json_sql import number
from api.keys import all_records
from api.parameters import Parameters
from api.protocol import base_url
from api.query import ListRequest
from api.read_views import first_page, list_rows, read_row
from api.resources import ENDPOINTS, Endpoint
from auth import API, public
from database.connection import begin_snapshot, execute
from formats.values import AMOUNT, BOOLEAN, INTEGER, TEXT, TIME
from models import Change
from pages.activity import changed_fields
from pages.sessions import require_session

MAX_ROWS = 25
# Rows of each related resource on the page of a row.
MAX_RELATED = 10
MAX_HISTORY = 100
# Longer values have a box of their own on the page of a row.
MAX_SHORT, MAX_LINES = 255, 5
# Parameters that the CSV file of all rows doesn't use.
PAGE_PARAMETERS = {"limit", "cursor", "include"}

blueprint = Blueprint("data", __name__, url_prefix="/data")
blueprint.before_request(require_session)


@blueprint.get("", strict_slashes=False)
@public
def show_data() -> Response:
    """Redirect to the first resource."""
    return redirect(url_for(".show_list", resource=next(iter(ENDPOINTS))))  # type: ignore[return-value]


@blueprint.get("/<resource>")
@public
def show_list(resource: str) -> Any:
    """Show a page of a list, by the API's parameters; redirect to remove those without a value, which forms send."""
    endpoint, sent = find_endpoint(resource), request.args.to_dict(flat=False)
    args = {name: [text for text in texts if text] for name, texts in sent.items()}
    if args != sent:
        return redirect(f"{url_for('.show_list', resource=resource)}?{urlencode(args, doseq=True)}")
    table, choices = read_table(endpoint, request.environ["QUERY_STRING"]), choices_of(endpoint)
    in_form = {"q", "sort", "cursor"} | {name for name in choices if len(args.get(name, ())) == 1}
    others = {name: texts for name, texts in args.items() if name not in in_form}
    query = {name: texts for name, texts in args.items() if name not in PAGE_PARAMETERS}
    shown = {"args": args, "choices": choices, "others": others, "query": query, "as_of": request.args.get("asOf")}
    return render_template("data_list.html", table=table, **shown, resources=ENDPOINTS, url=api_url(resource, query))


@blueprint.get("/<resource>.csv")
@public
def send_csv(resource: str) -> Response:
    """Send all rows of a list as CSV, as the API does for a key."""
    request.environ["HTTP_ACCEPT"] = "text/csv"
    return list_rows(find_endpoint(resource))


@blueprint.get("/<resource>/<row_id>")
@public
def show_row(resource: str, row_id: str) -> str:
    """Show a row, its related rows and its history; with `asOf`, as of that version."""
    endpoint, parameters = find_endpoint(resource), Parameters("asOf")
    begin_snapshot()
    past, query = requested_version(parameters), urlencode(parameters.values)
    lists = [name for name in endpoint.includes if name in ENDPOINTS]
    row = read_row(endpoint, row_id, (), tuple({*endpoint.includes} - {*lists}), **past)
    if row is None:
        abort(404, f"There is no {endpoint.singular} with the id {row_id}.")
    owner = f"{endpoint.singular}Id"
    tables = [read_table(ENDPOINTS[name], f"{owner}={row_id}&{query}", MAX_RELATED, without=owner) for name in lists]
    own = {"endpoint": endpoint, "row": json.loads(row), "title": title_of(endpoint), "times": times_of(endpoint)}
    texts = {name: str(own["row"][name]) for name in endpoint.attributes}
    own["long"] = [name for name in texts if len(texts[name]) > MAX_SHORT or texts[name].count("\n") >= MAX_LINES]
    history = read_history(resource, row_id, past.get("as_of", NEWEST))
    shown = {"tables": tables, "history": history, "limit": MAX_HISTORY, "as_of": parameters.values.get("asOf")}
    shown["keys"] = {key["id"]: key["name"] for key in all_records()}
    return render_template("data_row.html", **own, **shown, url=api_url(f"{resource}/{row_id}", parameters.values))


def find_endpoint(resource: str) -> Endpoint:
    """Return the endpoint of a resource, or respond 404."""
    return ENDPOINTS.get(resource) or abort(404)


def api_url(path: str, query: Mapping[str, str | list[str]]) -> str:
    """Return the URL of a request to the API, quoted for a shell."""
    return shlex.quote(f"{base_url()}{API}/{path}{'?' if query else ''}{urlencode(query, doseq=True)}")


def read_table(endpoint: Endpoint, query: str, limit: int = MAX_ROWS, without: str = "") -> dict[str, Any]:
    """Return the table for a query string of the API's list: one page, and the number of all rows."""
    named = {part.partition("=")[0] for part in query.split("&")}
    defaults = {"limit": limit} | ({"include": "company"} if "company" in endpoint.includes else {})
    added = [f"{name}={value}" for name, value in defaults.items() if name not in named]
    environ = {**request.environ, "QUERY_STRING": "&".join([query, *added]), "HTTP_PREFER": "count=exact"}
    with current_app.request_context(environ):
        listing = ListRequest(endpoint)
        page = first_page(listing)
    fields = listing.query.fields
    names = fields or [name for name in endpoint.attributes if is_column(endpoint, name) and name != without]
    columns = sorted(names, key=lambda name: name != title_of(endpoint))
    shown = {"endpoint": endpoint, "rows": json.loads(f"[{page.rows}]"), "columns": columns, "sort": listing.query.sort}
    numbers = {name for name in names if endpoint.field(name).format in {AMOUNT, INTEGER}}
    return {**shown, "times": times_of(endpoint), "numbers": numbers, "cursor": page.cursor, "total": page.total}


def is_column(endpoint: Endpoint, name: str) -> bool:
    """Tell whether tables show a field: text if it is short, and searchable or indexed; most values of other kinds."""
    column, field = endpoint.columns[name], endpoint.field(name)
    if field.format is not TEXT:
        return field.format is not INTEGER and name not in {"createdAt", "updatedAt"}
    is_short = field.max_length <= 255 or column.info.get("matching")
    return bool(is_short and (column.info.get("searchable") or column.info.get("indexed")))


def title_of(endpoint: Endpoint) -> str:
    """Return the field that names a row for people: the first searchable one."""
    return next((name for name, column in endpoint.columns.items() if column.info.get("searchable")), "id")


def times_of(endpoint: Endpoint) -> set[str]:
    """Return the fields that are times."""
    return {name for name in endpoint.attributes if endpoint.field(name).format is TIME}


def choices_of(endpoint: Endpoint) -> dict[str, tuple[str, ...]]:
    """Return the values of each field that has a few fixed ones."""
    fields = {name: endpoint.field(name) for name in endpoint.attributes}
    found = {name: ("true", "false") for name, field in fields.items() if field.format is BOOLEAN}
    rules = [(name, rule) for name, field in fields.items() for rule in field.validators]
    return found | {name: tuple(rule.choices) for name, rule in rules if isinstance(rule, validate.OneOf)}


def read_history(resource: str, row_id: str, until: int) -> list[dict[str, Any]]:
    """Return the last changes of a row up to a version, newest first, each with the fields that it changed.

    If there are more than MAX_HISTORY, it returns one more, without its fields.
    """
    row: dict[str, Any] = {"resource": resource, "id": row_id, "until": until}
    start = execute(earlier_change, MAX_HISTORY, **row).fetchone()
    page = read_changes(Selection(("resource", "id")), since=start[0] - 1 if start else 0, **row)
    before: Any = None
    history = []
    for entry in json.loads(f"[{page.rows}]"):
        # A new row, or one whose earlier data is no longer kept, is compared with nothing.
        is_known = before and entry["data"]
        history.append({**entry, "fields": [*changed_fields(before, entry["data"])] if is_known else []})
        before = entry["data"]
    return history[::-1]


def earlier_change(later: int) -> sa.Select[Any]:
    """Return the query for the number of the change of a row that is followed by `later` others."""
    is_of_row = Change.resource == bind("resource"), Change.row_id == bind("id")
    changes = sa.select(Change.seq).where(*is_of_row, Change.seq <= bind("until"))
    return changes.order_by(Change.seq.desc()).limit(number(1)).offset(number(later))

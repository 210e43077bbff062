"""Settings → Activity: the last requests that wrote, what each changed, field by field, and its revert."""

import json
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from flask import Blueprint, abort, g, redirect, render_template, request, url_for

from api.changes import VERSIONS
from api.feed import FILTERS, NEWEST, Selection, bind, filter_value, first_change, read_changes
from api.json_sql import number
from api.keys import all_records
from api.parameters import Parameters
from api.problems import Conflict
from api.revert import revert, schema
from auth import public
from database.connection import begin_snapshot, execute, execute_read, write_transaction
from formats.errors import pointers
from formats.json_text import encode_json
from formats.values import format_time
from models import ApiKey, Change, Write
from pages.sessions import require_session

MAX_WRITES = 20
# As many as an upload to Settings → Import has: their revert takes as long.
MAX_ROWS = 50_000
# The first changes of a transaction are counted by resource and action, up to this number.
MAX_COUNTED = 1_000
MAX_ENTRIES = 100
MAX_TEXT = 200

DELETED = sa.literal_column("' (deleted)'", sa.String())
NO_KEY: Any = sa.literal_column("'command or sign-in link'")
KEY = sa.func.coalesce(ApiKey.name, Write.key_id + DELETED, NO_KEY).label("key")

blueprint = Blueprint("activity", __name__, url_prefix="/settings/activity")
blueprint.before_request(require_session)


@blueprint.get("")
@public
def show_writes() -> str:
    """Show the last requests that wrote, newest first; with `keyId` those of a key, with `before` older ones."""
    parameters = Parameters("keyId", "before")
    values = {"keyId": filter_value(parameters, "keyId")} if parameters.values.get("keyId") else {}
    writes = read_writes(parameters.number("before", 0, NEWEST, NEWEST), **values)
    return render_template("activity.html", writes=writes, keys=all_records(), limit=MAX_WRITES, **values)


@blueprint.get("/<request_id>")
@public
def show_request(request_id: str) -> str:
    """Show the rows that a request changed, as they were before and after it."""
    Parameters("reverted")
    begin_snapshot()
    first = first_change(("requestId",), requestId=request_id) or abort(404, "No request with this id has written.")
    is_kept = first > execute(VERSIONS).fetchone()[1]
    entries = read_entries(first - 1, requestId=request_id) if is_kept else []
    writes = read_writes(NEWEST, requestId=request_id)
    return render_template("request.html", writes=writes, is_kept=is_kept, entries=entries, limit=MAX_ENTRIES)


@blueprint.route("/<request_id>/revert", methods=["GET", "POST"])
@public
def revert_request(request_id: str) -> Any:
    """Show what reverting a request would change, or the rows that others changed afterwards; on POST, revert it."""
    is_form = request.method == "POST"
    values = schema.load({**Parameters("conflicts").values, "requestId": request_id})
    entries, conflicts, digest = list[Any](), list[Any](), ""
    if is_form:
        g.signed_in.write_as_key()
    try:
        with write_transaction(keep=is_form):
            found = read_entries(revert(values, MAX_ROWS))
            digest = sha256(json.dumps([[each["id"], each["fields"]] for each in found]).encode()).hexdigest()
            if is_form and request.form.get("digest", digest) != digest:
                raise Conflict("", {"": ["These rows were changed after the preview."]})
            entries = found
    except Conflict as error:
        conflicts = list(pointers(error.errors))
    if is_form and entries:
        return redirect(url_for("pages.activity.show_request", request_id=g.request_id, reverted=request_id), 303)
    shown = {"writes": read_writes(NEWEST, requestId=request_id), "entries": entries, "conflicts": conflicts}
    return render_template("request.html", preview=True, digest=digest, **shown, limit=MAX_ENTRIES)


def read_writes(before: int, **values: str) -> list[dict[str, Any]]:
    """Return the transactions that wrote before a change, newest first, each with the number of its changes."""
    rows = execute_read(writes_query, tuple(values), before=before, **values).fetchall()
    writes = []
    for (first, last, key_id, key, request_id, at), found in groupby(rows, lambda row: tuple(row[:6])):
        counts = [tuple(row[6:]) for row in found]
        words = [f"{resource}: {count:,} {action}" for resource, action, count in counts]
        if rest := last - first + 1 - sum(count for *_names, count in counts):
            words.append(f"{rest:,} more changes")
        time = format_time(datetime.fromisoformat(str(at)))
        write = {"first": first, "keyId": key_id, "key": key, "requestId": request_id, "at": time}
        writes.append({**write, "summary": ", ".join(words)})
    return writes


def writes_query(filters: tuple[str, ...]) -> sa.Select[Any]:
    """Return the query for transactions, with the numbers of their first changes by resource and action."""
    # In the order of the filter's index.
    order = Write.last_seq if filters else Write.first_seq
    columns = Write.first_seq, Write.last_seq, Write.key_id, KEY, Write.request_id, Write.at
    writes = sa.select(*columns).outerjoin(ApiKey, ApiKey.id == Write.key_id)
    writes = writes.where(order < sa.bindparam("before"), *(FILTERS[name] == bind(name) for name in filters))
    page = writes.order_by(order.desc()).limit(number(MAX_WRITES)).offset(number(0)).subquery()
    first, last, most = page.c.first_seq, page.c.last_seq, page.c.first_seq + number(MAX_COUNTED - 1)
    counted = Change.seq.between(first, sa.case((last < most, last), else_=most))
    names = [*page.c, Change.resource, Change.action]
    found = sa.select(*names, sa.func.count()).join_from(page, Change, counted).group_by(*names)
    return found.order_by(first.desc(), Change.resource, Change.action)


def read_entries(since: int, **values: str) -> list[dict[str, Any]]:
    """Return one entry for each row that changed after a version, with the `fields` that differ."""
    page = read_changes(Selection(tuple(values), net=True), MAX_ENTRIES, execute_read, since=since, **values)
    entries: list[dict[str, Any]] = json.loads(f"[{page.rows}]")
    return [{**entry, "fields": [*changed_fields(entry["before"] or {}, entry["data"] or {})]} for entry in entries]


def changed_fields(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield the name of each field that differs, and its two values as text; long ones from where they differ."""
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old != new and name not in {"id", "createdAt", "updatedAt"}:
            yield name, *shorten(as_text(old), as_text(new))


def as_text(value: Any) -> str | None:
    """Return a value as text, or None for null."""
    return value if value is None or isinstance(value, str) else encode_json(value)


def shorten(old: str | None, new: str | None) -> tuple[str | None, str | None]:
    """Return a part of each of two different texts: where one is long, from shortly before their first difference."""
    texts = old or "", new or ""
    differences = (place for place, (one, other) in enumerate(zip(*texts, strict=False)) if one != other)
    same = next(differences, min(map(len, texts)))
    start = max(0, same - MAX_TEXT // 4) if max(map(len, texts)) > MAX_TEXT else 0
    end = start + MAX_TEXT
    before, after = (f"{'…' * (start > 0)}{text[start:end]}{'…' * (len(text) > end)}" for text in texts)
    return old and before, new and after

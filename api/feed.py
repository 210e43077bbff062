"""The change log as a feed: the changes of a range, or with `net=true` one entry for each row."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import Response, abort, g
from sqlalchemy.orm import aliased

from api.changes import UNINDEXED_SEQ, VERSIONS, is_not_modified, last_changes, require_kept, set_version
from api.json_sql import Template, for_database, joined, json_object, json_text, json_value, number
from api.media_types import FEED_TYPES, requested_type
from api.parameters import Parameters
from api.problems import InvalidQuery
from api.read_views import VARY, Page, page_response, stream_pages
from api.resources import ENDPOINTS
from database.connection import begin_snapshot, execute, execute_read
from formats.errors import suggest
from models import Change, Write

MAX_CHANGES = 1_000
# With a filter on the writer, each page groups all of the writer's changes: a whole list is read in larger pages.
MAX_GROUPED = 5_000
NEWEST = 2**63 - 1
# The filters, each with the column that it compares.
FILTERS: dict[str, Any] = {
    "resource": Change.resource,
    "id": Change.row_id,
    "keyId": Write.key_id,
    "requestId": Write.request_id,
}
# The filters on the transaction that wrote a change.
WRITER_FILTERS = tuple(name for name in FILTERS if FILTERS[name].class_ is Write)
# The last actions of rows that don't exist.
GONE: list[Any] = [sa.literal_column("'deleted'"), sa.literal_column("'forgotten'")]


class Selection(NamedTuple):
    """A selection of changes: those that match the filters; with net, one entry for each row."""

    filters: tuple[str, ...] = ()
    net: bool = False

    @property
    def by_writer(self) -> bool:
        """Tell whether a filter is on the transaction that wrote."""
        return not {*WRITER_FILTERS}.isdisjoint(self.filters)


def list_changes() -> Response:
    """Return the changes after the number `since`, in commit order, deletions included; 410 if it is in the future.

    With `net`, return one entry for each row, as it was before and after them. `Accept` chooses JSON or NDJSON.
    """
    parameters = Parameters("since", "until", "limit", "net", "cursor", *FILTERS)
    media_type = requested_type(FEED_TYPES)
    limit = parameters.number("limit", 1, MAX_CHANGES, 0)
    selection, bound = parse_selection(parameters)
    if is_not_modified("changes"):
        require_range(selection, g.version[1], **bound)
        return Response(status=304, headers=VARY)
    is_whole = selection.net and not limit
    if is_whole:
        begin_snapshot()
    length = limit or (MAX_GROUPED if is_whole and selection.by_writer else MAX_CHANGES)
    page = read_changes(selection, length, execute_read if selection.net else execute, **bound)
    if page.cursor and is_whole:
        return stream_pages(
            page, lambda last: read_changes(selection, length, **bound | {"after": int(last)}), VARY, media_type
        )
    changed = {"since": page.cursor}
    if selection.net:
        changed = {"until": str(min(bound["until"], g.version[1])), "cursor": page.cursor}
    link = parameters.next_link(**changed, limit=length) if page.cursor else {}
    return page_response(page, VARY | link, media_type)


def parse_selection(parameters: Parameters) -> tuple[Selection, dict[str, Any]]:
    """Return the selection of the parameters, and the values to bind. Raises InvalidQuery."""
    selection = Selection(tuple(name for name in FILTERS if name in parameters.values), parameters.boolean("net"))
    since, until = (parameters.number(name, 0, NEWEST, default) for name, default in (("since", 0), ("until", NEWEST)))
    if until < since:
        raise InvalidQuery(f"until must not be before since: {until} is before {since}.")
    if "cursor" in parameters.values and not selection.net:
        raise InvalidQuery("cursor is for net=true: without it, send since.")
    after = parameters.number("cursor", 0, NEWEST, since)
    values = {name: filter_value(parameters, name) for name in selection.filters}
    return selection, {**values, "since": since, "until": until, "after": after}


def filter_value(parameters: Parameters, name: str) -> str:
    """Return the value of a filter. Raises InvalidQuery unless it can be an id, or is the name of a resource."""
    value = parameters.values[name]
    if name == "resource" and value not in ENDPOINTS:
        raise InvalidQuery(f"resource can't be {value!r}. {suggest(value, tuple(ENDPOINTS))}")
    if not re.fullmatch("[!-~]{1,128}", value):
        raise InvalidQuery(f"{name} must be 1 to 128 visible ASCII characters.")
    return value


def read_changes(
    selection: Selection, limit: int = MAX_CHANGES, run: Callable[..., Any] = execute, *, since: int, **bound: Any
) -> Page:
    """Return a page of the selected changes in a range, and set the version that it reflects.

    The range is after `since`, until `until`; a later page begins after `after`. Raises InvalidQuery if `until` is in
    the future; responds 410 if `since` is, or if the data for net is blanked.
    """
    bound = {"since": since, "after": since, "until": NEWEST, **bound}
    *versions, text, last, count = run(feed_query, selection, limit, **bound).fetchone()
    set_version(*versions)
    version = versions[1]
    require_range(selection, version, **bound)
    rest = bound | {"since": last, "until": min(bound["until"], version)}
    has_more = count == limit and last < rest["until"]
    # Numbers have no gaps: without a filter, more changes follow.
    if has_more and selection.filters:
        has_more = first_change(selection.filters, **rest) > 0
    return Page(text or "", str(last) if has_more else "")


def require_range(selection: Selection, version: int, **bound: Any) -> None:
    """Raise InvalidQuery if `until` is in the future; respond 410 if `since` is, or if the data for net is blanked."""
    since, until = bound["since"], bound["until"]
    if since > version:
        abort(410, f"The last change is {version}, so {since} belongs to another history: load all data again.")
    if NEWEST > until > version:
        raise InvalidQuery(f"The last change is {version}: until can't be {until} yet.")
    if selection.net:
        require_rows_before(selection.filters, **bound)


def require_rows_before(filters: tuple[str, ...], **bound: Any) -> None:
    """Respond 410 if the rows from before the selected changes are no longer kept."""
    _newest, oldest = execute(VERSIONS).fetchone()
    early = bound | {"until": min(oldest, bound["until"])}
    if bound["since"] < oldest and (first := first_change(filters, **early)):
        require_kept(first - 1, oldest)


def first_change(filters: tuple[str, ...], **bound: Any) -> int:
    """Return the number of the first selected change, or 0; after `since` and until `until`, if these are bound."""
    row = execute(first_query, filters, **{"since": 0, "until": NEWEST, **bound}).fetchone()
    return int(row[0]) if row else 0


def first_query(filters: tuple[str, ...]) -> sa.Select[Any]:
    """Return the query for the number of the first selected change."""
    return selected(sa.select(Change.seq), filters, "since").limit(number(1)).offset(number(0))


def feed_query(selection: Selection, limit: int) -> sa.Select[Any]:
    """Return the query for a page: the arguments of set_version(), the entries' JSON, their last number and count."""
    changes = net_changes(selection) if selection.net else selected(sa.select(Change), selection.filters)
    # The JSON is made after sorting, for the changes of the page alone.
    page = changes.limit(number(limit)).offset(number(0)).subquery("page")
    data = {name: json_text(page.c[name]) for name in ("before", "data") if name in page.c}
    columns = joined(entry(page.c, data)), sa.func.max(page.c.seq), sa.func.count()
    return sa.select(*last_changes("changes"), *columns).select_from(page)


def entry(change: Any, data: dict[str, Any]) -> Any:
    """Return an entry of the feed as a JSON object."""
    names = {"seq": change.seq, "resource": change.resource, "id": change.row_id, "action": change.action}
    fields = {name: json_value(column) for name, column in {**names, "at": change.at}.items()}
    writer = {name: json_value(writer_of(change, FILTERS[name])) for name in WRITER_FILTERS}
    return json_object({**fields, **writer, **data})


def writer_of(change: Any, column: Any) -> sa.ScalarSelect[Any]:
    """Return a column of the transaction that made a change; null for a change by another program."""
    write = aliased(Write)
    value = sa.case((write.last_seq >= change.seq, getattr(write, column.key)))
    last = sa.select(value).where(write.first_seq <= change.seq).order_by(write.first_seq.desc())
    return last.limit(number(1)).offset(number(0)).scalar_subquery()


def bind(name: str) -> sa.BindParameter[Any]:
    """Return the bind parameter of a filter's value, or of a number such as `since`."""
    return sa.bindparam(name, type_=FILTERS[name].type if name in FILTERS else Change.seq.type)


def selected(statement: sa.Select[Any], filters: tuple[str, ...], start: str = "after") -> sa.Select[Any]:
    """Return the statement on Change, limited to the selected changes after the number `start`, in order."""
    own = [name for name in filters if name not in WRITER_FILTERS]
    writers = [FILTERS[name] == bind(name) for name in WRITER_FILTERS if name in filters]
    # The index on rows or writers reads fewer changes than the range has.
    seq = UNINDEXED_SEQ if writers or "id" in own else Change.seq
    resources: list[Any] = [sa.literal_column(f"'{name}'") for name in ENDPOINTS]
    resource = Change.resource.in_(resources) if own == ["id"] else sa.true()
    values = [FILTERS[name] == bind(name) for name in own]
    statement = statement.where(seq > bind(start), seq <= bind("until"), resource, *values)
    if not writers:
        return statement.order_by(Change.seq)
    is_by_writer = Write.last_seq > bind(start), Change.seq.between(Write.first_seq, Write.last_seq)
    return statement.where(*writers, *is_by_writer).order_by(Write.last_seq, Change.seq)


def net_changes(selection: Selection) -> sa.Select[Any]:
    """Return the query for the rows that the selected changes made different, in order.

    It has the columns of the row's last selected change, with the action of all of them together, and: `first`, the
    number of the first; `previous`, the number of the change before that; `before`, the data of the previous one.
    """
    earlier, previous = aliased(Change), aliased(Change)
    last = (last_by_writer if selection.by_writer else last_of_rows)(selection.filters)
    before = sa.select(sa.func.max(earlier.seq)).where(is_same_row(earlier, last), earlier.seq < last.first)
    # The earlier changes of a forgotten row have no data.
    was_deleted = sa.and_(last.action.in_(GONE), previous.action.not_in(GONE))
    differs = without_updated_at(previous.data).is_distinct_from(without_updated_at(last.data))
    action = sa.case((was_deleted, last.action), (previous.data.is_(None), "created"), else_="updated")
    columns = [each for each in last if each.name != "action"]
    net = sa.select(*columns, action.label("action"), previous.seq.label("previous"), previous.data.label("before"))
    return (
        net.select_from(last.seq.table.outerjoin(previous, previous.seq == before.scalar_subquery()))
        .where(sa.or_(was_deleted, differs))
        .order_by(last.seq)
    )


def last_of_rows(filters: tuple[str, ...]) -> Any:
    """Return the columns of each row's last selected change, and the number of the `first`, by the index on rows."""
    each = aliased(Change)
    first, newest = (
        sa.select(function(each.seq))
        .where(is_same_row(each, Change), each.seq > bind("since"), each.seq <= bind("until"))
        .scalar_subquery()
        for function in (sa.func.min, sa.func.max)
    )
    last = selected(sa.select(Change, first.label("first")).where(Change.seq == newest), filters)
    return last.subquery("last").c


def last_by_writer(filters: tuple[str, ...]) -> Any:
    """Return the columns of last_of_rows() for the changes by a key or a request.

    They are grouped by row, because the index on rows would also read all changes by other writers.
    """
    columns: list[Any] = [sa.func.min(Change.seq).label("first"), sa.func.max(Change.seq).label("seq")]
    rows = selected(sa.select(*columns), filters, "since").order_by(None).group_by(Change.resource, Change.row_id)
    group = rows.having(columns[1] > bind("after")).subquery("rows").c
    return sa.select(Change, group.first).join(group.seq.table, Change.seq == group.seq).subquery("last").c


def is_same_row(change: Any, other: Any) -> sa.ColumnElement[bool]:
    """Return the condition that two changes are of the same row."""
    return sa.and_(change.resource == other.resource, change.row_id == other.row_id)


def without_updated_at(data: Any) -> Template:
    """Return a row without the time of its last update, for comparison."""
    return Template(for_database("json_remove({0}, '$.updatedAt')", "({0}::jsonb - 'updatedAt')"), data)

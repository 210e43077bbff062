"""The change log: a row of `writes` for each transaction; Dataset-Id, Dataset-Version and ETag for each response."""

import re
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, abort, g, request

from api.json_sql import number
from database import backend
from database.columns import now
from database.connection import execute
from formats.ids import new_id
from models import FORGOTTEN, Change, Dataset, Write

LAST_CHANGE = sa.select(sa.func.coalesce(sa.func.max(Change.seq), sa.literal_column("0")))
# With a unary plus, SQLite can't use the index on numbers, and uses the one on rows.
UNINDEXED_SEQ = sa.literal_column("+changes.seq", Change.seq.type)
VERSIONS = sa.select(LAST_CHANGE.scalar_subquery(), Dataset.oldest_version)
# KEEP_CHANGES blanks data without a new change, but raises the oldest version. Neither number ever falls, so that their
# sum changes whenever the log does.
LOG_STATE = sa.select(LAST_CHANGE.scalar_subquery() + Dataset.oldest_version)
# RFC 9110 §8.8.3, in a list that may have empty elements (§5.6.1); werkzeug accepts more.
ETAGS = r'\*|[ \t,]*(W/)?"[!#-~]*"([ \t]*,[ \t,]*(W/)?"[!#-~]*")*[ \t,]*'
# How proxies that compress change an ETag: nginx makes it weak, Apache and others append the encoding.
CHANGED_BY_PROXY = re.compile(r'W/"|[-;:](gzip|deflate|br|zstd)"')


def init_changes(app: Flask) -> None:
    """Set Dataset-Id, Dataset-Version and ETag on the app's responses, and log its writes."""
    app.after_request(add_version_headers)
    app.extensions["connections"].before_commit = log_write


def add_version_headers(response: Response) -> Response:
    """Set Dataset-Id and Dataset-Version for requests with a key, and the ETag where the view has set one."""
    if "key" in g and response.status_code < 500:
        etag = g.get("etag")
        dataset, version = g.get("version") or execute(version_query).fetchone()
        response.headers.add("Dataset-Id", dataset)
        response.headers.add("Dataset-Version", str(version))
        if etag and response.status_code < 400:
            response.headers.add("ETag", f'"{etag}"')
    return response


def log_write(first: int) -> None:
    """Log the key and the request of the changes from the number `first` on, if any, inside their transaction."""
    key = g.get("key")
    # A command gets its request id here, unless it has one.
    request_id = g.setdefault("request_id", new_id())
    if execute(log_statement, first_seq=first, key_id=key and key.id, request_id=request_id, at=now()).rowcount:
        g.has_written = True


def log_statement() -> Any:
    """Return the statement that logs a transaction, once, if it has changed anything."""
    first = sa.bindparam("first_seq", type_=Change.seq.type)
    values = [sa.bindparam(name, type_=getattr(Write, name).type) for name in ("key_id", "request_id", "at")]
    last = sa.select(first, Change.seq, *values).where(Change.seq >= first).order_by(Change.seq.desc())
    last = last.limit(number(1)).offset(number(0))
    insert: Any = backend().insert(Write).from_select(["first_seq", "last_seq", "key_id", "request_id", "at"], last)
    return insert.on_conflict_do_nothing()


def set_version(dataset: str, version: int, *changes: int) -> None:
    """Set Dataset-Id, Dataset-Version and ETag by the last change of all, and the last `changes` to what is read."""
    g.version = dataset, version
    # A restored copy uses numbers again: its ETags must not match those from before.
    g.etag = f"{dataset[:8]}-{max(changes or [version])}{g.get('etag_suffix', '')}"


def last_changes(*resources: str, of_row: bool = False, as_of: bool = False) -> list[Any]:
    """Return the columns with the arguments of set_version(): Dataset-Id, last change, last change of each resource.

    With of_row, the first resource's is that of the row with the id to bind; with as_of, all are as of a version.
    """
    until = LAST_CHANGE.where(Change.seq <= sa.bindparam("as_of")) if as_of else LAST_CHANGE
    last = [until, *(LOG_STATE if name == "changes" else until.where(Change.resource == name) for name in resources)]
    if of_row:
        last[1] = last[1].where(Change.row_id == sa.bindparam("id"))
    if as_of:
        # `forget` changes past rows, too.
        last.append(LAST_CHANGE.where(FORGOTTEN))
    return [each.scalar_subquery() for each in (sa.select(Dataset.id), *last)]


def version_query(of_row: bool = False, as_of: bool = False, *resources: str) -> sa.Select[Any]:
    """Return the query for the arguments of set_version(); with of_row, the first column is whether the row exists."""
    columns = last_changes(*resources, of_row=of_row, as_of=as_of)
    if of_row:
        exists = sa.select(Change.data.is_not(None))
        exists = exists.where(Change.resource == resources[0], Change.row_id == sa.bindparam("id"))
        exists = exists.where(Change.seq <= sa.bindparam("as_of")) if as_of else exists
        last = exists.order_by(Change.seq.desc()).limit(number(1)).offset(number(0)).scalar_subquery()
        columns.insert(0, sa.func.coalesce(last, sa.false()))
    return sa.select(*columns)


def require_kept(version: int, oldest: int) -> None:
    """Respond 410 for a version from before the oldest one: the data of its rows may have been blanked."""
    if version < oldest:
        abort(410, f"The rows as of version {version} are no longer kept: the oldest version is {oldest}.")


def check_etags(name: str) -> None:
    """Respond 400 unless a header is *, ETags in quotes, or missing."""
    if not re.fullmatch(ETAGS, request.headers.get(name, "*")):
        abort(400, f'{name} must be * or an ETag in quotes, as in "6f1c2b7a-394".')


def is_not_modified(*resources: str, **values: Any) -> bool:
    """Tell whether If-None-Match has the ETag of these resources (RFC 9110 §13.1.2).

    With the value `id`, it is the ETag of a row of the first resource; with `as_of`, that of a past version.
    """
    if "HTTP_IF_NONE_MATCH" not in request.environ:
        return False
    check_etags("If-None-Match")
    of_row = "id" in values
    found = execute(version_query, of_row, "as_of" in values, *resources, **values).fetchone()
    # A deleted row has a last change, too, but is 404.
    exists, last = (found[0], found[1:]) if of_row else (True, found)
    set_version(*last)
    return bool(exists and (request.if_none_match.star_tag or request.if_none_match.contains_weak(g.etag)))

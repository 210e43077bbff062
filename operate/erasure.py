"""Erasure: a row is deleted, and its data is removed from the change log, stored responses and the file."""

import sqlalchemy as sa
from flask import Response, abort

from api.parameters import Parameters, refuse_body
from api.resources import Endpoint
from api.write_views import delete_statement
from database import backend
from database.columns import now
from database.connection import connection, execute, write_transaction
from models import Change, Replay, WebhookAttempt

OF_ROW = Change.resource == sa.bindparam("resource_"), Change.row_id == sa.bindparam("row_id_")
LAST_ACTION = sa.select(Change.action).where(*OF_ROW).order_by(Change.seq.desc()).limit(1)
NOW = sa.bindparam("at", type_=Change.at.type)
LOG_ERASURE = sa.insert(Change).from_select(
    ["seq", "resource", "row_id", "action", "at"],
    sa.select(
        Change.seq + 1,
        *(sa.bindparam(name, type_=sa.String()) for name in ("resource", "row_id", "action")),
        # The log's times never go back.
        sa.case((Change.at > NOW, Change.at), else_=NOW),
    )
    .order_by(Change.seq.desc())
    .limit(1),
)
BLANK_CHANGES = sa.update(Change).where(*OF_ROW, Change.data.is_not(None)).values(data=sa.null())
# The answers of webhooks' receivers may quote the row.
BLANK_ATTEMPTS = (
    sa.update(WebhookAttempt).where(WebhookAttempt.seq.in_(sa.select(Change.seq).where(*OF_ROW))).values(answer="")
)
# The bodies of responses that show the row.
BLANK_REPLAYS = (
    sa.update(Replay).where(sa.func.replace(Replay.body, sa.bindparam("id_field"), "") != Replay.body).values(body="")
)


def forget(endpoint: Endpoint, row_id: str) -> Response:
    """Delete the row, and erase its data from the change log, stored responses, the search index and the file."""
    keep = not Parameters("dryRun").boolean("dryRun")
    refuse_body()
    if not forget_row(endpoint.name, row_id, keep):
        abort(404, f"There never was a {endpoint.singular} with the id {row_id}.")
    return Response(status=204)


def forget_row(resource: str, row_id: str, keep: bool = True) -> bool:
    """Erase a row and its history, or nothing with keep=False; tell whether it ever existed.

    The numbers, actions and times of its changes stay, and the last one is `forgotten`. Repeat it if the last step, to
    overwrite the file's free pages, failed because other programs used the database.
    """
    row = {"resource_": resource, "row_id_": row_id}
    with write_transaction(keep):
        last = execute(LAST_ACTION, **row).fetchone()
        if last and last[0] != "forgotten":
            execute(delete_statement, resource, row_id=row_id)
            execute(LOG_ERASURE, resource=resource, row_id=row_id, action="forgotten", at=now())
            execute(BLANK_CHANGES, **row)
            execute(BLANK_ATTEMPTS, **row)
            execute(BLANK_REPLAYS, id_field=f'"id":"{row_id}"')
    if last and keep:
        backend().erase_free_pages(connection().execute, resource)
    return last is not None

"""`/healthz` and `/readyz`: probes for supervisors and load balancers, without a key and without a line in the log."""

from flask import Response, g

from api.problems import unusable_database
from api.responses import JSONResponse
from database.connection import connection
from database.schema import revisions


def healthz() -> Response:
    """Respond 200 while the process runs, without a query."""
    g.is_probe = True
    return JSONResponse('{"status":"ok"}', headers={"Cache-Control": "no-store"})


def readyz() -> Response:
    """Respond 200 if the database can be read, its schema is the newest, and its file is in place and complete."""
    g.is_probe = True
    current = connection()
    [revision] = current.execute("SELECT version_num FROM alembic_version").fetchone() or [None]
    if current.pool.file:
        current.pool.file.require_current(current)
    newest = revisions()[-1]
    if revision != newest:
        return unusable_database(f"The schema of the database is {revision}, not {newest}: restart the server.")
    return healthz()

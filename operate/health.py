"""`/healthz` and `/readyz`: probes for supervisors and load balancers, without a key and without a line in the log."""

from flask import Flask, Response, g

from api.problems import unusable_database
from api.responses import JSONResponse
from auth import public
from database.connection import connection
from database.schema import revisions


def init_health(app: Flask) -> None:
    """Add the probes."""
    app.add_url_rule("/healthz", view_func=public(healthz))
    app.add_url_rule("/readyz", view_func=public(readyz))


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

"""The first API key: it is stored from CARDFILE_ADMIN_KEY; without one, messages say how to create it."""

import logging
from contextlib import suppress

import sqlalchemy as sa
from flask import Flask, current_app

from auth import FIND_KEY, create_key, digest, is_well_formed
from database import backend, close_database, db
from database.connection import execute, write_transaction
from database.sqlite import has_wal_reset_bug
from models import ApiKey
from settings import PROGRAM, InvalidSetting, Settings

ANY_KEY = sa.select(ApiKey.id).limit(1)
# Also an expired one: the next start must not bring back a deleted key.
ANY_ADMIN = ANY_KEY.where(ApiKey.scope == "admin")
NO_KEYS = f"There is no API key yet: on the server, `{PROGRAM} keys create NAME --scope admin` creates one."
NOT_USED = (
    "CARDFILE_ADMIN_KEY is not used: the database has another admin key, or this key with another scope."
    " `keys list` shows them."
)

log = logging.getLogger("cardfile")


def has_keys() -> bool:
    """Tell whether there is an API key; once there is one, the database isn't queried again."""
    extensions = current_app.extensions
    # The caller refuses a request without a key, also if the database can't be read.
    with suppress(Exception):
        extensions["has_keys"] = extensions.get("has_keys") or execute(ANY_KEY).fetchone() is not None
    return bool(extensions.get("has_keys", True))


def store_admin_key(key: str | None) -> None:
    """Store the key of CARDFILE_ADMIN_KEY, if it is set and no key has the scope admin. Raises InvalidSetting."""
    if key is None:
        return
    if not is_well_formed(key):
        raise InvalidSetting("CARDFILE_ADMIN_KEY must be a complete API key, as `keys generate` prints it.")
    if find_scope(key) == "admin":
        return
    with write_transaction():
        # Several processes may start at once.
        if not find_scope(key) and not execute(ANY_ADMIN).fetchone():
            create_key("CARDFILE_ADMIN_KEY", "admin", key=key)
        elif find_scope(key) != "admin":
            log.warning(NOT_USED)


def find_scope(key: str) -> str | None:
    """Return the scope of a stored key."""
    row = execute(FIND_KEY, sha256=digest(key)).fetchone()
    return row and str(row[1])


def prepare_start(app: Flask, settings: Settings) -> None:
    """Store the key of CARDFILE_ADMIN_KEY; warn if there is no key, or if SQLite has the WAL-reset bug."""
    with app.app_context():
        try:
            store_admin_key(settings.cardfile_admin_key)
            if not has_keys():
                log.warning(NO_KEYS)
            if db.engine.dialect.name == "sqlite" and has_wal_reset_bug():
                log.warning("The database is opened by %s.", backend().version(execute))
        finally:
            # Processes that are forked must not share connections.
            close_database()

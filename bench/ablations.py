"""Cardfile's tricks for speed, and a function for each that removes it from the imported application.

`make bench ABLATE=name` shows how much slower Cardfile is without one, `ABLATE=name+name` without several at once,
`ABLATE=all` without each. bench.ablated calls the functions.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

CONTROL = "nothing"
# Removed before the application is imported, because importing it applies them.
AT_IMPORT = {"add-memory-status"}


def replace_everywhere(old: Any, new: Any) -> None:
    """Replace an object in every loaded module that has imported it by name."""
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)


def remove_nothing() -> None:
    """Change nothing: the difference that remains is chance."""


def add_memory_status() -> None:
    """Tell SQLite not to count its memory, which it does under one lock for all threads."""
    import ctypes

    import pysqlite3._sqlite3 as driver

    library = ctypes.CDLL(driver.__file__)
    library.sqlite3_shutdown()
    library.sqlite3_config(9, 0)
    library.sqlite3_initialize()


def remove_answer_headers() -> None:
    """Let Flask make and send the response's headers."""
    from flask import Response

    from api.responses import JSONResponse

    def initialize(self: Any, text: str, status: int = 200, headers: Any = None, content_type: str = "") -> None:
        Response.__init__(self, text, status, headers, content_type=content_type or "application/json")

    JSONResponse.__init__ = initialize
    remove_answer_list()


def remove_answer_list() -> None:
    """Let Flask send the response: as an iterator, which hides from servers that the body is complete."""
    from api.responses import JSONResponse

    del JSONResponse.__call__


def remove_access_log() -> None:
    """Write the access log by logging."""
    from server import log

    access_log = logging.getLogger("cardfile.access")
    replace_everywhere(log.write_line, lambda fields: access_log.info(" ".join(map(str, fields.values()))))


def remove_driver_connection() -> None:
    """Run compiled statements by SQLAlchemy's exec_driver_sql()."""
    from database.connection import Connection

    def execute(self: Any, sql: str, values: Any = ()) -> Any:
        # A list would stand for several sets of parameters.
        return core_connection(self).exec_driver_sql(sql, tuple(values)).cursor

    Connection.execute = execute


def remove_compiled_statements() -> None:
    """Run SQLAlchemy's own statements, still built once each, by its execute()."""
    from database import connection

    def compile_uncached(_self: Any, source: Any, *arguments: Any) -> Any:
        return source(*arguments) if callable(source) else source

    def execute(source: Any, *arguments: Any, **values: Any) -> Any:
        statement = connection.connections().compile(source, *arguments)
        return core_connection(connection.connection()).execute(statement, values).cursor

    connection.Connections.compile_uncached = compile_uncached
    replace_everywhere(connection.execute, execute)


def core_connection(own: Any) -> Any:
    """Return a SQLAlchemy connection on a request's connection."""
    from sqlalchemy import Connection

    from database import db

    if not hasattr(own, "core"):
        own.core = Connection(db.engine, own.pooled)
    return own.core


def remove_idle_connections() -> None:
    """Return each request's connection to SQLAlchemy's pool."""
    from database.connection import Connection

    def release(self: Any) -> None:
        self.end()
        self.release_slot()
        self.pooled.close()

    Connection.release = release


def remove_turns() -> None:
    """Let requests run at once, as many as there are threads."""
    import server

    server.Turns = lambda app: app


def remove_write_lock() -> None:
    """Leave the order of writers to SQLite."""
    from contextlib import nullcontext

    from database.write_lock import WriteLock

    WriteLock.hold = lambda _self: nullcontext()


def remove_log_write() -> None:
    """Log no request and key with the changes; webhooks still hear of them."""
    from flask import g

    from api import changes

    def note_write(_first: int) -> None:
        g.has_written = True

    replace_everywhere(changes.log_write, note_write)


ABLATIONS: dict[str, Callable[[], None]] = {
    CONTROL: remove_nothing,
    "answer-headers": remove_answer_headers,
    "answer-list": remove_answer_list,
    "access-log": remove_access_log,
    "driver-connection": remove_driver_connection,
    "compiled-statements": remove_compiled_statements,
    "idle-connections": remove_idle_connections,
    "turns": remove_turns,
    "write-lock": remove_write_lock,
    # Not a trick: the cost of logging the writer of each change.
    "log-write": remove_log_write,
    # Left out of the application: with it, lists could be faster.
    "add-memory-status": add_memory_status,
}


def remove_tricks(names: str, at_import: bool) -> None:
    """Remove those of the tricks, joined by +, that must be removed before or after the application is imported."""
    for name in names.split("+"):
        if (name in AT_IMPORT) is at_import:
            ABLATIONS[name]()

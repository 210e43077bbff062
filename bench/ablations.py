"""Cardfile's tricks for speed, and a function for each that removes it from the imported application.

`make bench ABLATE=name` shows how much slower Cardfile is without one, `ABLATE=name+name` without several at once,
`ABLATE=all` without each. bench.ablated calls the functions.
"""

import gc
import logging
import sys
from collections.abc import Callable
from typing import Any

CONTROL = "nothing"
GRANIAN_ONLY = {"granian-list"}
# Removed before the application is imported, because importing it applies them.
AT_IMPORT = {"memory-status"}


def replace_everywhere(old: Any, new: Any) -> None:
    """Replace an object in every loaded module that has imported it by name."""
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)


def remove_nothing() -> None:
    """Change nothing: the difference that remains is chance."""


def remove_url_adapter() -> None:
    """Bind the URL map to each request as Flask does."""
    import service

    del service.Cardfile.create_url_adapter


def remove_ensure_sync() -> None:
    """Ask for each view whether it is a coroutine, as Flask does."""
    import service

    del service.Cardfile.ensure_sync


def remove_unwrapped() -> None:
    """Use Flask's proxies for `g` and `request` themselves."""
    import database

    replace_everywhere(database.unwrapped, lambda proxy: proxy)


def remove_memory_status() -> None:
    """Let SQLite count its memory, by refusing to open the library through ctypes."""
    import ctypes

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise OSError

    original, ctypes.CDLL = ctypes.CDLL, refuse
    import database  # noqa: F401

    ctypes.CDLL = original


def remove_gc_freeze() -> None:
    """Let the garbage collector examine the objects that were made at start."""
    gc.freeze = lambda: None


def remove_answer_headers() -> None:
    """Let Flask make and send the response's headers."""
    from flask import Response

    from api.encoding import Answer

    def initialize(self: Any, text: str, status: int = 200, headers: Any = None, content_type: str = "") -> None:
        Response.__init__(self, text, status, headers, content_type=content_type or "application/json")

    Answer.__init__ = initialize
    remove_answer_list()


def remove_answer_list() -> None:
    """Let Flask send the response: as an iterator, which hides from servers that the body is complete."""
    from api.encoding import Answer

    del Answer.__call__


def remove_access_log() -> None:
    """Write the access log by logging."""
    from api import protocol

    log = logging.getLogger("cardfile.access")
    replace_everywhere(protocol.log_exchange, lambda fields: log.info(" ".join(map(str, fields.values()))))


def remove_driver_connection() -> None:
    """Run compiled statements by SQLAlchemy's exec_driver_sql()."""
    from database.reading import Reader

    def run(self: Any, statement: Any, values: Any) -> Any:
        # A list would stand for several sets of parameters.
        return core_connection(self).exec_driver_sql(statement.sql, tuple(statement.bind(values))).cursor

    Reader.run = run


def remove_compiled_statements() -> None:
    """Run SQLAlchemy's own statements, still built once each, by its execute()."""
    from database.reading import Reader, Reading

    Reading.compile = lambda _self, build, *arguments: build(*arguments)
    Reader.run = lambda self, statement, values: core_connection(self).execute(statement, values).cursor


def core_connection(reader: Any) -> Any:
    """Return a SQLAlchemy connection, which begins no transactions, on a reader's own connection."""
    from sqlalchemy import Connection

    if not hasattr(reader, "core"):
        reader.core = Connection(reader.reading.engine, reader.pooled).execution_options(begin=None)
    return reader.core


def remove_granian_list() -> None:
    """Give Granian the response's body as it is."""
    from server.granian_server import Granian

    Granian.answer = lambda self, environ, start_response: self.app(environ, start_response)


ABLATIONS: dict[str, Callable[[], None]] = {
    CONTROL: remove_nothing,
    "url-adapter": remove_url_adapter,
    "ensure-sync": remove_ensure_sync,
    "unwrapped": remove_unwrapped,
    "memory-status": remove_memory_status,
    "gc-freeze": remove_gc_freeze,
    "answer-headers": remove_answer_headers,
    "answer-list": remove_answer_list,
    "access-log": remove_access_log,
    "driver-connection": remove_driver_connection,
    "compiled-statements": remove_compiled_statements,
    "granian-list": remove_granian_list,
}


def remove_tricks(names: str, at_import: bool) -> None:
    """Remove those of the tricks, joined by +, that must be removed before or after the application is imported."""
    for name in names.split("+"):
        if (name in AT_IMPORT) is at_import:
            ABLATIONS[name]()

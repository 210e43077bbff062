"""The interface to the differences between databases, which sqlite.py and postgresql.py implement."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import URL, Connection

from database import postgresql, sqlite

LOCKED = re.compile("database is locked|canceling statement due to lock timeout")
WAIT = "another process is writing to it, perhaps to upgrade it: try again when that has ended"


class Backend(Protocol):
    """The names in both modules; their docstrings state the promises."""

    ENGINE_OPTIONS: dict[str, Any]
    INTERRUPTED: str
    BEGIN_SNAPSHOT: str
    BEGIN_WRITING: tuple[str, ...]
    insert: Any

    def version(self, _execute: Any, /) -> str: ...
    def is_full(self, error: Any) -> bool: ...
    def is_unavailable(self, error: Any) -> bool: ...
    def limit_reads(self, connection: Any, _is_overdue: Callable[[], bool], _seconds: float, /) -> bool: ...
    def fault(self, error: Any) -> str | None: ...
    def prepare(self, connection: Any, _record: object) -> None: ...
    def upgrading(self, connection: Connection) -> AbstractContextManager[None]: ...
    def bulk_indexing(self, _execute: Any, _table: Any, /) -> AbstractContextManager[None]: ...
    def without_trigger(self, _execute: Any, _table: str, _name: str, /) -> AbstractContextManager[None]: ...
    def erase_free_pages(self, _execute: Any, _resource: str, /) -> None: ...
    def broken_references(self, _connection: Connection, /) -> list[str]: ...
    def schema_of(self, connection: Connection) -> dict[str, str]: ...


def backend_of(url: URL) -> Backend:
    """Return the module for the database that the URL names."""
    return postgresql if url.get_backend_name() == "postgresql" else sqlite


def display_name(url: URL) -> str:
    """Return the database for a message: the file's path, or the URL without its password and options."""
    return str(url.database) if url.get_backend_name() == "sqlite" else str(url.set(query={}))


def reason(url: URL, error: Exception) -> str:
    """Return the driver's message for an error, with the parts of the URL that may be secrets replaced by ***."""
    text = LOCKED.sub(WAIT, str(getattr(error, "orig", error)).strip().removesuffix("."))
    for secret in filter(None, (url.password, *map(str, url.query.values()))):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text

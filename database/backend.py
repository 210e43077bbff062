"""What a database has to do its own way; sqlite.py and postgresql.py each say how."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Engine

from database import postgresql, sqlite


class Backend(Protocol):
    """The names that both modules have; their docstrings state the promises."""

    ENGINE_OPTIONS: dict[str, Any]
    insert: Any

    def version(self, _connection: Connection, /) -> str: ...
    def is_full(self, error: Any) -> bool: ...
    def is_unavailable(self, error: Any) -> bool: ...
    def prepare(self, connection: Any, _record: object) -> None: ...
    def begin(self, connection: Connection) -> None: ...
    def upgrading(self, connection: Connection) -> AbstractContextManager[None]: ...
    def bulk_search(self, _connection: Connection, _name: str, /) -> AbstractContextManager[None]: ...
    def broken_references(self, _connection: Connection, /) -> list[str]: ...
    def damages(self, _connection: Connection, /) -> list[str]: ...
    def schema_of(self, connection: Connection) -> dict[str, str]: ...
    def scratch(self, _engine: Engine, /) -> AbstractContextManager[Connection]: ...


def backend_of(url: URL) -> Backend:
    """Return how the database that the URL names does things."""
    return postgresql if url.get_backend_name() == "postgresql" else sqlite


def place_of(url: URL) -> str:
    """Return where the database is, for people to read: the file, or the URL without its password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else str(url)

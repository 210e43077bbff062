"""Helpers and fixtures for tests of history: writers, versions, and reverting."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert

from auth import create_key
from database import Base, close_database, db
from database.connection import write_transaction
from seed import Demo
from service import create_app
from settings import load_settings
from tests.conftest import Query, client_with_key
from tests.core.conftest import pages

RESOURCES = ("companies", "contacts", "conversations")
CHANGES = "/api/v1/changes"
Rows = dict[tuple[str, str], Any]


@pytest.fixture
def other(new_client: Any) -> FlaskClient:
    """Return a client with another key."""
    client: FlaskClient = new_client("write")
    return client


def key_id(client: FlaskClient) -> str:
    """Return the id of a client's key."""
    return str(client.get("/api/v1/keys/me").json["id"])


def version(client: FlaskClient) -> int:
    """Return the newest version."""
    return int(client.get("/api/v1/companies?limit=1").headers["Dataset-Version"])


def feed(client: FlaskClient, query_string: str = "") -> list[dict[str, Any]]:
    """Return the entries of the feed, of all pages."""
    return [entry for page in pages(client, f"{CHANGES}?{query_string}") for entry in page]


def numbers(client: FlaskClient, query_string: str) -> list[int]:
    """Return the numbers of the feed's entries."""
    return [entry["seq"] for entry in feed(client, query_string)]


def rows(client: FlaskClient, query_string: str = "") -> Rows:
    """Return the rows of all resources."""
    found = {}
    for name in RESOURCES:
        response = client.get(f"/api/v1/{name}?{query_string}")
        assert response.status_code == 200, response.text
        found |= {(name, row["id"]): row for row in response.json}
    return found


def timeless(found: Rows) -> Rows:
    """Return the rows without the time of their last update, which a revert changes."""
    return {name: {**row, "updatedAt": None} for name, row in found.items()}


def revert(client: FlaskClient, query_string: str = "", **body: Any) -> Any:
    """Revert, and return the response."""
    return client.post(f"{CHANGES}/revert{query_string}", json=body)


def table_sizes(query: Query) -> list[Any]:
    """Return the number of changes and of transactions in the log."""
    return query("SELECT (SELECT count(*) FROM changes), (SELECT count(*) FROM writes)")


@pytest.fixture(params=["0004", *(pytest.param(name, marks=pytest.mark.tools) for name in ("0005", "0006"))])
def upgraded(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end_migrations: Callable[[str], None],
    kind: str,
) -> Iterator[FlaskClient]:
    """Return a client of a database that an older version filled, and that was upgraded since."""
    sqlite = f"sqlite:///{tmp_path}/old.db"
    url = sqlite if kind == "sqlite" else request.getfixturevalue("new_database")()
    end_migrations(request.param)
    with create_app(load_settings({"database_url": url}, {})).app_context():
        with db.engine.begin() as connection:
            for name, row in Demo(42, "2026-01-01").rows(companies=5):
                connection.execute(insert(Base.metadata.tables[name]), row)
        for sql in "UPDATE contacts SET title = 'CEO' WHERE is_primary", "DELETE FROM companies WHERE position = 1":
            with db.engine.begin() as connection:
                connection.exec_driver_sql(sql)
        close_database()
    monkeypatch.undo()
    app = create_app(load_settings({"database_url": url}, {}))
    with app.app_context(), write_transaction():
        key = create_key("the client's", "admin")[1]
    yield client_with_key(app, key)
    app.extensions["last_use"].stop()
    with app.app_context():
        close_database()

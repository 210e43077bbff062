"""Helpers and fixtures for tests of the API."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.conftest import CreateRow, Query

COMPANIES = "/api/v1/companies"
NOON = "2024-01-01T12:00:00Z"
ROWS: dict[str, dict[str, Any]] = {
    "companies": {"id": "a", "name": "Acme", "position": 0, "is_customer": False},
    "contacts": {"id": "b", "name": "John", "is_primary": False},
    "conversations": {"id": "c", "status": "open", "is_read": False, "trust_uploads": False, "tags": "[]"},
}


def last_change(query: Query) -> int:
    """Return the number of the last change, or 0."""
    [[seq]] = query("SELECT coalesce(max(seq), 0) FROM changes")
    return int(seq)


def names(client: FlaskClient, query_string: str) -> list[str]:
    """Return the names of the listed companies."""
    response = client.get(f"{COMPANIES}?{query_string}")
    assert response.status_code == 200, response.text
    return [row["name"] for row in response.json]


def pages(client: FlaskClient, path: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each page, following the Link header."""
    last = ""
    while path:
        assert path != last
        last = path
        response = client.get(path)
        assert response.status_code == 200, response.text
        yield response.json
        link = response.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        path = link.removesuffix('>; rel="next"').removeprefix("<http://localhost")


@pytest.fixture
def five_companies(create_row: CreateRow) -> None:
    """Store five companies that every sort orders differently."""
    for name, value, day, customer in [
        ("Delta", 40, 4, True),
        ("alpha", None, 1, False),
        ("Beta", 20.5, 2, True),
        ("Gamma", 20.5, None, False),
        ("Epsilon", 1000, 5, False),
    ]:
        last = day and f"2024-01-0{day}T00:00:00Z"
        create_row("companies", name=name, dealValue=value, lastContact=last, isCustomer=customer, industry=name[:2])


def insert(query: Query, resource: str, **columns: Any) -> None:
    """Insert a row with SQL, without validation by a schema."""
    row = {**ROWS[resource], "created_at": NOON, "updated_at": NOON, **columns}
    query(f"INSERT INTO {resource} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})", **row)

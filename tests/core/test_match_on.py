"""POST with `matchOn` updates the row that matches."""

import pytest
from flask.testing import FlaskClient

from tests.conftest import CreateRow, Query
from tests.core.conftest import last_change

pytestmark = pytest.mark.databases("sqlite", "postgresql")

CONTACTS = "/api/v1/contacts"
COMPANIES = "/api/v1/companies"


def test_match_on_updates_matching_rows_and_creates_the_others(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", email="john@acme.com", title="CEO")

    updated = writer.post(f"{CONTACTS}?matchOn=email", json={"email": "john@acme.com", "phone": "1"})
    assert (updated.status_code, "Location" in updated.headers) == (200, False)
    assert (updated.json["id"], updated.json["title"], updated.json["phone"]) == ("x", "CEO", "1")

    both = writer.post(f"{CONTACTS}?matchOn=email", json=[
        {"email": "jane@acme.com", "name": "Jane"},
        {"email": "john@acme.com", "name": "John"},
        {"email": "jane@acme.com", "phone": "2"},
    ])  # fmt: skip
    assert both.status_code == 201
    first, second, third = both.json
    assert (second["id"], second["name"], second["phone"]) == ("x", "John", "1")
    assert (third["id"], third["name"], third["phone"]) == (first["id"], "Jane", "2")


@pytest.mark.parametrize("field", ["website", "name"])
def test_two_matching_rows_are_a_conflict_that_lists_their_ids(
    writer: FlaskClient, create_row: CreateRow, query: Query, field: str
) -> None:
    for row_id in "a", "b":
        create_row("companies", id=row_id, website="https://acme.com")

    response = writer.post(f"{COMPANIES}?matchOn={field}", json={"name": "Acme", "website": "https://acme.com"})
    assert response.status_code == 409
    assert response.json["detail"] == f"More than one row has this {field}: a and b."
    assert last_change(query) == 2


def test_match_on_accepts_unchanged_read_only_fields(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", email="a@acme.com")
    row = writer.get(f"{CONTACTS}/x").json

    response = writer.post(f"{CONTACTS}?matchOn=email", json={**row, "title": "CEO"})
    assert (response.status_code, response.json["title"]) == (200, "CEO")
    other = writer.post(f"{CONTACTS}?matchOn=email", json={**response.json, "id": "other"})
    assert [error["pointer"] for error in other.json["errors"]] == ["/id"]
    new = writer.post(f"{CONTACTS}?matchOn=email", json={"id": "y", "name": "b", "email": "b@acme.com"})
    assert [error["pointer"] for error in new.json["errors"]] == ["/id"]


def test_match_on_accepts_only_one_field(writer: FlaskClient) -> None:
    assert writer.post(f"{COMPANIES}?matchOn=website,name", json={"name": "a"}).status_code == 400


def test_a_conflict_in_an_array_has_a_pointer(writer: FlaskClient, create_row: CreateRow, query: Query) -> None:
    for name in "x", "y":
        create_row("companies", id=name, name="twice")

    response = writer.post(f"{COMPANIES}?matchOn=name", json=[{"name": "new"}, {"name": "twice"}])
    assert (response.status_code, response.json["errors"]) == (
        409,
        [{"pointer": "/1", "detail": "More than one row has this name: x and y."}],
    )
    both = writer.post(f"{COMPANIES}?matchOn=name", json=[{"nam": "new"}, {"name": "twice"}])
    assert both.status_code == 422
    assert {error["pointer"] for error in both.json["errors"]} >= {"/0/nam", "/1"}
    assert last_change(query) == 2


def test_a_refused_batch_has_the_version_of_the_stored_data(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("companies", name="Acme")
    batch = [{"name": "new"}, {"name": "Acme", "notes": "changed"}, {"name": "Acme", "position": -1}]
    refused = writer.post("/api/v1/companies?matchOn=name", json=batch)

    assert refused.status_code == 422
    assert refused.headers["Dataset-Version"] == writer.get("/api/v1/companies").headers["Dataset-Version"] == "1"
    assert "ETag" not in refused.headers

"""Creating, replacing, updating and deleting rows."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.conftest import CreateRow, Query
from tests.core.conftest import insert, last_change

pytestmark = pytest.mark.databases("sqlite", "postgresql")

CONTACTS = "/api/v1/contacts"
COMPANIES = "/api/v1/companies"
NOON = "2024-01-01T12:00:00Z"
OLDER = "2023-12-31T12:00:00Z"
INVALID_ID = "Must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', '~' and '-', and not '.' or '..'."
BLANK = "Must not be blank, nor have line feeds or other control characters."
NO_ID = "Is read-only: leave it out, or send matchOn=id."
MATCH_REQUIRED = "Is required, because rows are matched on it."


@pytest.mark.parametrize("resource", ["companies", "contacts", "conversations"])
def test_a_row_is_created_read_replaced_updated_and_deleted(writer: FlaskClient, resource: str) -> None:
    body = {} if resource == "conversations" else {"name": "first"}
    field = "visitorName" if resource == "conversations" else "name"

    created = writer.post(f"/api/v1/{resource}", json=body)
    path = created.headers["Location"]
    assert (created.status_code, path) == (201, f"/api/v1/{resource}/{created.json['id']}")
    assert created.json["createdAt"] == created.json["updatedAt"]
    assert writer.get(path).data == created.data
    assert writer.get(path).headers["ETag"] == created.headers["ETag"]
    assert created.headers["ETag"].endswith('-1"')

    replaced = writer.put(path, json={**created.json, field: "second"})
    assert (replaced.status_code, replaced.json[field]) == (200, "second")
    changed = writer.patch(path, json={field: "third"})
    expected = {**replaced.json, field: "third", "updatedAt": changed.json["updatedAt"]}
    assert (changed.status_code, changed.json) == (200, expected)
    assert writer.get(path).headers["ETag"] == changed.headers["ETag"]
    assert changed.headers["ETag"].endswith('-3"')

    deleted = writer.delete(path)
    assert (deleted.status_code, deleted.data, deleted.headers["Dataset-Version"]) == (204, b"", "4")
    assert writer.get(path).status_code == 404
    assert writer.delete(path).status_code == 404


@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("PUT", "/x"), ("PATCH", "/x"), ("DELETE", "/x")])
def test_a_read_key_cannot_write(
    reader: FlaskClient, create_row: CreateRow, query: Query, method: str, path: str
) -> None:
    create_row("contacts", id="x")

    assert reader.open(CONTACTS + path, method=method, json={"name": "a"}).status_code == 403
    assert last_change(query) == 1


def test_put_creates_a_row_with_the_id_of_the_path(writer: FlaskClient) -> None:
    created = writer.put(f"{CONTACTS}/my-id.1~", json={"name": "John", "id": "my-id.1~"})

    assert (created.status_code, created.headers["Location"]) == (201, f"{CONTACTS}/my-id.1~")
    assert created.json["id"] == "my-id.1~"


@pytest.mark.parametrize("row_id", ["...", "..a", ".a", "a..", "a.", "....", ".-", "x" * 64])
def test_put_accepts_every_other_id_with_dots(writer: FlaskClient, row_id: str) -> None:
    assert writer.put(f"{CONTACTS}/{row_id}", json={"name": "a"}).json["id"] == row_id


def test_a_stored_row_with_the_id_of_a_path_segment_can_be_changed(writer: FlaskClient, query: Query) -> None:
    insert(query, "contacts", id="..")

    assert writer.patch(f"{CONTACTS}/..", json={"title": "CEO"}).json["title"] == "CEO"
    assert writer.delete(f"{CONTACTS}/..").status_code == 204


def test_a_stored_row_with_a_blank_name_can_be_read_and_changed(writer: FlaskClient, query: Query) -> None:
    insert(query, "contacts", id="x", name="\u200b")

    assert writer.patch(f"{CONTACTS}/x", json={"title": "CEO"}).json["title"] == "CEO"
    assert writer.get(f"{CONTACTS}/x").json["name"] == writer.get(f"{CONTACTS}?sort=name").json[0]["name"] == "\u200b"
    assert writer.put(f"{CONTACTS}/x", json=writer.get(f"{CONTACTS}/x").json).status_code == 422


def test_put_resets_missing_fields_to_their_defaults(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", createdAt=NOON, phone="1", isPrimary=True)

    replaced = writer.put(f"{CONTACTS}/x", json={"name": "Jane"}).json
    assert (replaced["name"], replaced["phone"], replaced["isPrimary"]) == ("Jane", None, False)
    assert replaced["createdAt"] == NOON < replaced["updatedAt"]


def test_patch_updates_only_the_sent_fields_and_null_clears_a_field(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", phone="1", title="CEO", updatedAt=NOON)

    changed = writer.patch(f"{CONTACTS}/x", data=b'{"phone": null}', content_type="application/merge-patch+json").json
    assert (changed["phone"], changed["title"]) == (None, "CEO")
    assert changed["updatedAt"] > NOON


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_write_that_changes_nothing_is_not_logged(
    writer: FlaskClient, create_row: CreateRow, query: Query, method: str
) -> None:
    create_row("companies", id="x", dealValue=0.1, updatedAt=NOON, lastContact=NOON)
    before = writer.get(f"{COMPANIES}/x")

    response = writer.open(f"{COMPANIES}/x", method=method, json=before.json)
    assert (response.status_code, response.data, response.headers["ETag"]) == (200, before.data, before.headers["ETag"])
    assert last_change(query) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "pointer", "detail"),
    [
        ("POST", "", {"name": "a", "id": "mine"}, "/id", NO_ID),
        ("POST", "", {"name": "a", "createdAt": NOON}, "/createdAt", "Is read-only: leave it out."),
        ("POST", "", {"name": "a", "companyId": "nobody"}, "/companyId", "Is not the id of a company."),
        ("POST", "", {"nmae": "a", "name": "b"}, "/nmae", "Is not a known field. Did you mean name?"),
        ("POST", "", "text", "", "Must be an object."),
        ("POST", "", [], "", "Must have 1 to 1000 members, not 0."),
        ("POST", "", [{"name": "a"}] * 1001, "", "Must have 1 to 1000 members, not 1001."),
        ("POST", "", [{"name": "a"}, {"name": ""}], "/1/name", BLANK),
        ("POST", "", [{"name": "a"}, []], "/1", "Must be an object."),
        ("POST", "", [{"name": "a"}, {"name": "b", "id": "x"}], "/1/id", NO_ID),
        ("POST", "", [{"name": "a", "companyId": "x"}], "/0/companyId", "Is not the id of a company."),
        ("POST", "?matchOn=email", {"name": "a"}, "/email", MATCH_REQUIRED),
        ("POST", "?matchOn=email", [{"name": "a", "email": None}], "/0/email", MATCH_REQUIRED),
        ("POST", "?matchOn=email", {"email": "new@acme.com"}, "/name", "Is required."),
        ("PUT", "/x", {}, "/name", "Is required."),
        ("PUT", "/x", {"name": "a", "id": "y"}, "/id", "Is read-only: leave it out, or send x."),
        ("PUT", "/x", {"name": "a", "createdAt": OLDER}, "/createdAt", f"Is read-only: leave it out, or send {NOON}."),
        ("PUT", "/new", {"name": "a", "createdAt": NOON}, "/createdAt", "Is read-only: leave it out."),
        ("PUT", "/a%20b", {"name": "a"}, "/id", INVALID_ID),
        ("PUT", "/.", {"name": "a"}, "/id", INVALID_ID),
        ("PUT", "/%2e%2E", {"name": "a"}, "/id", INVALID_ID),
        ("PUT", "/x", {"name": "a", "id": ".."}, "/id", INVALID_ID),
        ("POST", "", {"name": "a", "id": "."}, "/id", INVALID_ID),
        ("PATCH", "/x", {"companyId": ".."}, "/companyId", INVALID_ID),
        ("PATCH", "/x", {"name": None}, "/name", "Must not be null."),
        ("PATCH", "/x", {"isPrimary": "true"}, "/isPrimary", "Must be true or false."),
        ("PATCH", "/x", {"updatedAt": OLDER}, "/updatedAt", f"Is read-only: leave it out, or send {NOON}."),
        ("PATCH", "/x", {"companyId": "x"}, "/companyId", "Is not the id of a company."),
        ("PATCH", "/x", [], "", "Must be an object."),
    ],
)  # fmt: skip
def test_an_invalid_write_is_422_with_a_pointer_and_stores_nothing(
    writer: FlaskClient,
    create_row: CreateRow,
    query: Query,
    method: str,
    path: str,
    body: Any,
    pointer: str,
    detail: str,
) -> None:
    create_row("contacts", id="x", createdAt=NOON, updatedAt=NOON)

    response = writer.open(CONTACTS + path, method=method, json=body)
    assert response.status_code == 422
    assert response.json["errors"] == [{"pointer": pointer, "detail": detail}]
    assert last_change(query) == 1


def test_an_array_is_stored_and_returned_in_order(writer: FlaskClient) -> None:
    response = writer.post(CONTACTS, json=[{"name": f"number {number}"} for number in range(1000)])

    assert response.status_code == 201
    assert [row["name"] for row in response.json] == [f"number {number}" for number in range(1000)]
    assert response.data == writer.get(CONTACTS).data
    assert response.headers["Dataset-Version"] == "1000"


@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("PUT", "/x"), ("PATCH", "/x"), ("POST", "?matchOn=id")])
def test_all_errors_of_a_row_are_listed(
    writer: FlaskClient, create_row: CreateRow, query: Query, method: str, path: str
) -> None:
    create_row("contacts", id="x", createdAt=NOON, updatedAt=NOON)
    wrong = {"name": "", "companyId": "nobody", "isPrimary": "yes", "createdAt": OLDER, "nmae": "a"}
    body = wrong | ({"id": "x"} if "matchOn" in path else {})

    response = writer.open(CONTACTS + path, method=method, json=body)
    pointers = {error["pointer"] for error in response.json["errors"]}
    # A row is matched when the rest is valid.
    hidden = {"/createdAt"} if "matchOn" in path else set()
    assert (response.status_code, pointers) == (422, {f"/{name}" for name in wrong} - hidden)
    assert last_change(query) == 1


def test_all_errors_of_an_array_are_listed(writer: FlaskClient, query: Query) -> None:
    response = writer.post(CONTACTS, json=[{"name": ""}, {"name": "fine"}, {"email": "x"}])

    assert [error["pointer"] for error in response.json["errors"]] == ["/0/name", "/2/name", "/2/email"]
    assert last_change(query) == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "", 201), ("PUT", "/x", 200), ("PUT", "/new", 201), ("PATCH", "/x", 200), ("DELETE", "/x", 204)],
)
def test_a_dry_run_returns_the_response_of_the_write_and_stores_nothing(
    writer: FlaskClient, create_row: CreateRow, query: Query, method: str, path: str, status: int
) -> None:
    create_row("contacts", id="x")

    response = writer.open(f"{CONTACTS}{path}?dryRun=true", method=method, json={"name": "dry"})
    assert (response.status_code, response.headers["Dataset-Version"]) == (status, "1")
    assert "ETag" not in response.headers
    assert status == 204 or response.json["name"] == "dry"
    assert query("SELECT id, name FROM contacts") == [("x", "Acme")]
    assert writer.open(f"{CONTACTS}{path}?dryRun=true", method=method, json={"name": ""}).status_code in {204, 422}


@pytest.mark.databases("sqlite")
def test_an_update_keeps_the_stored_bytes_of_other_columns(
    writer: FlaskClient, create_row: CreateRow, query: Query
) -> None:
    row_id = create_row("contacts", notes="a")
    query("UPDATE contacts SET notes = CAST(x'61ff' AS TEXT)")

    assert writer.patch(f"{CONTACTS}/{row_id}", json={"title": "CTO"}).json["notes"] == "a\ufffd"
    assert query("SELECT hex(notes), title FROM contacts") == [("61FF", "CTO")]


def test_a_failed_write_is_rolled_back_and_does_not_block_the_next(
    writer: FlaskClient, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr("api.write_views.row_response", fail)
    failed = writer.post(CONTACTS, json={"name": "a"})
    monkeypatch.undo()

    assert (failed.status_code, last_change(query)) == (500, 0)
    assert writer.post(CONTACTS, json={"name": "b"}).status_code == 201
    assert [row["name"] for row in writer.get(CONTACTS).json] == ["b"]

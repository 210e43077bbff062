"""Creating, replacing, updating and deleting rows."""

import threading
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import idempotency
from formats.values import format_time
from models import now
from tests.conftest import CreateRow, Query

pytestmark = pytest.mark.databases("sqlite", "postgresql")

CONTACTS = "/api/v1/contacts"
COMPANIES = "/api/v1/companies"
NOON = "2024-01-01T12:00:00Z"
OLDER = "2023-12-31T12:00:00Z"
INVALID_ID = "Must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', '~' and '-'."
MATCH_REQUIRED = "Is required, because rows are matched on it."


def last_change(query: Query) -> int:
    [[seq]] = query("SELECT coalesce(max(seq), 0) FROM changes")
    return int(seq)


@pytest.mark.parametrize("resource", ["companies", "contacts", "conversations"])
def test_a_row_is_created_read_replaced_updated_and_deleted(writer: FlaskClient, resource: str) -> None:
    body = {} if resource == "conversations" else {"name": "first"}
    field = "visitorName" if resource == "conversations" else "name"

    created = writer.post(f"/api/v1/{resource}", json=body)
    path = created.headers["Location"]
    assert (created.status_code, path) == (201, f"/api/v1/{resource}/{created.json['id']}")
    assert created.json["createdAt"] == created.json["updatedAt"]
    assert writer.get(path).data == created.data
    assert writer.get(path).headers["ETag"] == created.headers["ETag"] == '"1"'

    replaced = writer.put(path, json={**created.json, field: "second"})
    assert (replaced.status_code, replaced.json[field]) == (200, "second")
    changed = writer.patch(path, json={field: "third"})
    expected = {**replaced.json, field: "third", "updatedAt": changed.json["updatedAt"]}
    assert (changed.status_code, changed.json) == (200, expected)
    assert writer.get(path).headers["ETag"] == changed.headers["ETag"] == '"3"'

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
        ("POST", "", {"name": "a", "id": "mine"}, "/id", "Is read-only: leave it out."),
        ("POST", "", {"name": "a", "createdAt": NOON}, "/createdAt", "Is read-only: leave it out."),
        ("POST", "", {"name": "a", "companyId": "nobody"}, "/companyId", "Is not the id of a company."),
        ("POST", "", {"nmae": "a", "name": "b"}, "/nmae", "Is not a known field. Did you mean name?"),
        ("POST", "", "text", "", "Must be an object."),
        ("POST", "", [], "", "Must have 1 to 1000 members, not 0."),
        ("POST", "", [{"name": "a"}] * 1001, "", "Must have 1 to 1000 members, not 1001."),
        ("POST", "", [{"name": "a"}, {"name": ""}], "/1/name", "Must not be empty."),
        ("POST", "", [{"name": "a"}, []], "/1", "Must be an object."),
        ("POST", "", [{"name": "a"}, {"name": "b", "id": "x"}], "/1/id", "Is read-only: leave it out."),
        ("POST", "", [{"name": "a", "companyId": "x"}], "/0/companyId", "Is not the id of a company."),
        ("POST", "?matchOn=email", {"name": "a"}, "/email", MATCH_REQUIRED),
        ("POST", "?matchOn=email", [{"name": "a", "email": None}], "/0/email", MATCH_REQUIRED),
        ("POST", "?matchOn=email", {"email": "new@acme.com"}, "/name", "Is required."),
        ("PUT", "/x", {}, "/name", "Is required."),
        ("PUT", "/x", {"name": "a", "id": "y"}, "/id", "Is read-only: leave it out, or send x."),
        ("PUT", "/x", {"name": "a", "createdAt": OLDER}, "/createdAt", f"Is read-only: leave it out, or send {NOON}."),
        ("PUT", "/new", {"name": "a", "createdAt": NOON}, "/createdAt", "Is read-only: leave it out."),
        ("PUT", "/a%20b", {"name": "a"}, "/id", INVALID_ID),
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


def test_all_errors_of_an_array_are_listed(writer: FlaskClient, query: Query) -> None:
    response = writer.post(CONTACTS, json=[{"name": ""}, {"name": "fine"}, {"email": "x"}])

    assert [error["pointer"] for error in response.json["errors"]] == ["/0/name", "/2/name", "/2/email"]
    assert last_change(query) == 0


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


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_if_match_refuses_a_write_to_a_row_that_has_changed(
    writer: FlaskClient, create_row: CreateRow, query: Query, method: str
) -> None:
    create_row("contacts", id="x")
    tag = writer.get(f"{CONTACTS}/x").headers["ETag"]
    query("UPDATE contacts SET title = 'CEO'")

    stale = writer.open(f"{CONTACTS}/x", method=method, json={"name": "a"}, headers={"If-Match": tag})
    assert (stale.status_code, last_change(query)) == (412, 2)
    assert writer.open(
        f"{CONTACTS}/none", method=method, json={"name": "a"}, headers={"If-Match": "*"}
    ).status_code in {404, 412}
    tag = writer.get(f"{CONTACTS}/x").headers["ETag"]
    fresh = writer.open(f"{CONTACTS}/x", method=method, json={"name": "a"}, headers={"If-Match": f'"other", {tag}'})
    assert fresh.status_code in {200, 204}
    assert last_change(query) == 3


def test_if_none_match_allows_only_a_new_row(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", name="old")

    malformed = writer.put(f"{CONTACTS}/x", json={"name": "new"}, headers={"If-None-Match": ""})
    assert (malformed.status_code, malformed.json["detail"].split()[0]) == (400, "If-None-Match")
    refused = writer.put(f"{CONTACTS}/x", json={"name": "new"}, headers={"If-None-Match": "*"})
    assert (refused.status_code, writer.get(f"{CONTACTS}/x").json["name"]) == (412, "old")
    assert writer.put(f"{CONTACTS}/y", json={"name": "new"}, headers={"If-None-Match": "*"}).status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "", 201), ("PUT", "/x", 200), ("PUT", "/new", 201), ("PATCH", "/x", 200), ("DELETE", "/x", 204)],
)
def test_a_dry_run_returns_the_response_of_the_write_and_stores_nothing(
    writer: FlaskClient, create_row: CreateRow, query: Query, method: str, path: str, status: int
) -> None:
    create_row("contacts", id="x")

    tried = writer.open(f"{CONTACTS}{path}?dryRun=true", method=method, json={"name": "dry"})
    assert (tried.status_code, tried.headers["Dataset-Version"]) == (status, "1")
    assert status == 204 or tried.json["name"] == "dry"
    assert query("SELECT id, name FROM contacts") == [("x", "Acme")]
    assert writer.open(f"{CONTACTS}{path}?dryRun=true", method=method, json={"name": ""}).status_code in {204, 422}


def test_a_request_sent_twice_is_run_once(writer: FlaskClient, query: Query) -> None:
    send: dict[str, Any] = {"json": {"name": "John"}, "headers": {"Idempotency-Key": "job-7"}}
    first, second = writer.post(CONTACTS, **send), writer.post(CONTACTS, **send)

    assert (first.status_code, "Idempotent-Replayed" in first.headers) == (201, False)
    assert (second.status_code, second.headers["Idempotent-Replayed"]) == (201, "true")
    for name in "Location", "ETag", "Content-Type":
        assert first.headers[name] == second.headers[name]
    assert first.data == second.data
    assert last_change(query) == 1


def test_concurrent_repeats_get_the_first_response(app: Flask, writer: FlaskClient, query: Query) -> None:
    send: dict[str, Any] = {"json": {"name": "John"}, "headers": {"Idempotency-Key": "job-7"}}
    first = writer.post(CONTACTS, **send)
    send["headers"] |= {"Authorization": writer.environ_base["HTTP_AUTHORIZATION"]}
    with ThreadPoolExecutor(4) as threads:
        repeats = list(threads.map(lambda _number: app.test_client().post(CONTACTS, **send), range(16)))

    assert {(response.status_code, response.data) for response in repeats} == {(201, first.data)}
    assert last_change(query) == 1


def test_an_idempotency_key_is_valid_for_one_request_one_api_key_and_one_day(
    writer: FlaskClient, admin: FlaskClient, query: Query
) -> None:
    headers = {"Idempotency-Key": "job-7"}
    assert writer.post(CONTACTS, json={"name": "a"}, headers=headers).status_code == 201
    for path, body in (CONTACTS, {"name": "b"}), (COMPANIES, {"name": "a"}):
        assert writer.post(path, json=body, headers=headers).status_code == 422

    assert "Idempotent-Replayed" not in admin.post(CONTACTS, json={"name": "b"}, headers=headers).headers
    query("UPDATE replays SET created_at = :then", then=format_time(now() - timedelta(hours=25)))
    assert "Idempotent-Replayed" not in writer.post(CONTACTS, json={"name": "c"}, headers=headers).headers
    assert last_change(query) == 3


def test_an_invalid_request_does_not_use_its_idempotency_key(writer: FlaskClient) -> None:
    headers = {"Idempotency-Key": "job-7"}

    assert writer.post(CONTACTS, json={"name": ""}, headers=headers).status_code == 422
    assert writer.post(CONTACTS, json={"name": "a"}, headers=headers).status_code == 201


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


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
def test_an_idempotency_key_must_be_visible_ascii(writer: FlaskClient, key: str) -> None:
    assert writer.post(CONTACTS, json={"name": "a"}, headers={"Idempotency-Key": key}).status_code == 400


def test_a_repeat_of_a_running_request_is_409(app: Flask, writer: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Idempotency-Key": "job-7"}
    arrived, may_continue = threading.Event(), threading.Event()
    replay_or_run = idempotency.replay_or_run

    def slow(*arguments: Any) -> Any:
        arrived.set()
        assert may_continue.wait(10)
        return replay_or_run(*arguments)

    monkeypatch.setattr("api.write_views.replay_or_run", slow)
    first = threading.Thread(target=lambda: writer.post(CONTACTS, json={"name": "a"}, headers=headers))
    first.start()
    assert arrived.wait(10)
    authorization = writer.environ_base["HTTP_AUTHORIZATION"]
    second = app.test_client().post(CONTACTS, json={"name": "a"}, headers={**headers, "Authorization": authorization})
    may_continue.set()
    first.join()

    assert (second.status_code, second.json["detail"].split(":")[0]) == (
        409,
        "The first request with this Idempotency-Key is still running",
    )


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b'{"name": "a", "name": "b"}', 422, "/name"),
        (b'[{"name": "a"}, {"name": "a", "name": "b"}]', 422, "/1/name"),
        (b'{"name": "\\ud800"}', 422, "/name"),
        (b'{"name": "a\\u0000"}', 422, "/name"),
        (b'{"name": NaN}', 422, "/name"),
        (b'{"name": 1e999999}', 422, "/name"),
        (b'{"\\ud800": 1, "name": "a"}', 422, "\ud800"),
        (b'{"name": "\xff"}', 400, "not UTF-8"),
        (b'{"name": "a"} x', 400, "extra data"),
        (b'{"a":' * 100_000, 400, "nested too deeply"),
        (b"", 400, "There is no JSON"),
    ],
)
def test_an_invalid_body_is_refused(writer: FlaskClient, query: Query, body: bytes, status: int, expected: str) -> None:
    response = writer.post(CONTACTS, data=body, content_type="application/json")

    assert response.status_code == status
    assert expected in str(response.json["errors"][0]["pointer"] if status == 422 else response.json["detail"])
    assert last_change(query) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/merge-patch+json"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_a_body_of_another_content_type_is_415(writer: FlaskClient, headers: dict[str, str]) -> None:
    assert writer.post(CONTACTS, data=b'{"name": "a"}', headers=headers).status_code == 415


def test_match_on_accepts_unchanged_read_only_fields(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", email="a@acme.com")
    row = writer.get(f"{CONTACTS}/x").json

    response = writer.post(f"{CONTACTS}?matchOn=email", json={**row, "title": "CEO"})
    assert (response.status_code, response.json["title"]) == (200, "CEO")
    other = writer.post(f"{CONTACTS}?matchOn=email", json={**response.json, "id": "other"})
    assert [error["pointer"] for error in other.json["errors"]] == ["/id"]
    new = writer.post(f"{CONTACTS}?matchOn=email", json={"id": "y", "name": "b", "email": "b@acme.com"})
    assert [error["pointer"] for error in new.json["errors"]] == ["/id"]


def test_a_nested_body_of_any_depth_is_refused(writer: FlaskClient) -> None:
    def post(depth: int) -> int:
        tag = "[" * depth + "]" * depth
        body = f'{{"tags": [{tag}, {tag}]}}'
        return writer.post("/api/v1/conversations", data=body, content_type="application/json").status_code

    # The deepest JSON that Python parses depends on its version: 1,000 levels in 3.11, several thousand in 3.13.
    first_refused = bisect_left(range(100_000), True, key=lambda depth: post(depth) == 400)
    assert {post(depth) for depth in range(first_refused - 60, first_refused + 60)} == {400, 422}
    assert {post(depth) for depth in range(900, 1010)} <= {400, 422}


@pytest.mark.parametrize("zero", ["0E-999999", "0e99999999999999", "0.000", "-0"])
def test_every_notation_of_zero_is_stored_as_0(writer: FlaskClient, zero: str) -> None:
    body = f'{{"name": "a", "dealValue": {zero}}}'
    created = writer.post(COMPANIES, data=body, content_type="application/json")
    assert (created.status_code, '"dealValue":0,' in created.text) == (201, True)

    for query in f"dealValue={zero}", f"dealValue[gte]={zero}", "sort=dealValue":
        assert writer.get(f"{COMPANIES}?{query}").json == [created.json]


def test_only_the_first_100_errors_are_listed(writer: FlaskClient) -> None:
    response = writer.post(CONTACTS, json={f"zzz{number}": 1 for number in range(2_000)})

    assert (response.status_code, len(response.json["errors"])) == (422, 100)
    assert response.json["detail"].endswith("see errors. The first 100 of 2001 are listed.")
    details = [error["detail"] for error in response.json["errors"]]
    # Only the first unknown fields have a list of known fields, because finding it takes long.
    assert ["Known:" in detail for detail in details] == [False] + [True] * 20 + [False] * 79


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


@pytest.mark.parametrize(("tag", "status"), [("", 400), ("1", 400), ('"1', 400), ('"0", 1', 400), ('W/"1"', 412)])
def test_an_invalid_or_weak_if_match_header_prevents_the_write(
    writer: FlaskClient, create_row: CreateRow, tag: str, status: int
) -> None:
    create_row("contacts", id="x")

    assert writer.patch(f"{CONTACTS}/x", json={"name": "b"}, headers={"If-Match": tag}).status_code == status
    assert writer.get(f"{CONTACTS}/x").json["name"] == "Acme"


def test_if_match_on_a_missing_row_is_412(writer: FlaskClient) -> None:
    response = writer.put(f"{CONTACTS}/new", json={"name": "a"}, headers={"If-Match": "*"})
    assert (response.status_code, response.json["detail"]) == (412, "There is no contact with the id new.")

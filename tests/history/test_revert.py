"""Reverting: new changes undo the changes of a request, of a key, or all after a version."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.conftest import CreateRow, ExecutedStatement, Query, run_external_sql
from tests.core.conftest import NOON
from tests.history.conftest import CHANGES, feed, key_id, revert, rows, table_sizes, timeless, version

pytestmark = pytest.mark.databases("sqlite", "postgresql")

COMPANIES, CONTACTS = "/api/v1/companies", "/api/v1/contacts"
BATCH = {"X-Request-Id": "batch"}


def errors(response: Any) -> dict[str, str]:
    """Return the errors of a problem by pointer."""
    return {each["pointer"]: each["detail"] for each in response.json.get("errors", [])}


@pytest.fixture
def two_rows(create_row: CreateRow) -> None:
    """Create a company and a contact of it, changes 1 and 2."""
    create_row("companies", id="acme", name="Acme", dealValue=1999.5, createdAt=NOON)
    create_row("contacts", id="ann", name="Ann", companyId="acme")


def change_all(client: FlaskClient) -> None:
    """Create, update and delete rows in one request called batch, and delete a company, called deletion."""
    body = [{"id": "ann", "name": "Anna"}, {"id": "bob", "name": "Bob", "companyId": "acme"}]
    assert client.post(f"{CONTACTS}?matchOn=id", json=body, headers=BATCH).status_code == 201
    assert client.delete(f"{COMPANIES}/acme", headers={"X-Request-Id": "deletion"}).status_code == 204


def test_the_changes_of_a_request_are_taken_back(two_rows: None, writer: FlaskClient) -> None:
    before = rows(writer)
    change_all(writer)
    deleted = rows(writer)

    response = revert(writer, requestId="deletion")
    assert response.status_code == 200
    assert response.json == feed(writer, "since=7")
    assert [(each["action"], each["id"]) for each in response.json] == [
        ("created", "acme"), ("updated", "ann"), ("updated", "bob")
    ]  # fmt: skip
    assert {each["requestId"] for each in response.json} == {response.headers["X-Request-Id"]}
    assert {each["keyId"] for each in response.json} == {key_id(writer)}
    assert response.headers["Dataset-Version"] == "10"
    acme = writer.get(f"{COMPANIES}/acme").json
    assert acme == before["companies", "acme"] | {"updatedAt": acme["updatedAt"]}
    assert feed(writer, "since=6")[0]["at"] <= acme["updatedAt"] <= response.json[0]["at"]

    undone = revert(writer, requestId="batch")
    assert undone.status_code == 200, (undone.json, feed(writer))
    assert timeless(rows(writer)) == timeless(before)
    for step in feed(writer)[-1]["requestId"], response.headers["X-Request-Id"]:
        assert revert(writer, requestId=step).status_code == 200
    assert timeless(rows(writer)) == timeless(deleted)


def test_everything_after_a_version_is_taken_back(
    two_rows: None, writer: FlaskClient, other: FlaskClient, query: Query
) -> None:
    states = [rows(writer)]
    for change in (
        lambda: change_all(other),
        lambda: query("UPDATE contacts SET company_id = NULL, title = 'shell'"),
        lambda: writer.put(f"{COMPANIES}/acme", json={"name": "Another"}),
        lambda: writer.delete(f"{CONTACTS}/ann"),
    ):
        change()
        states.append(rows(writer))
    last = version(writer)

    response = revert(writer, to=2)
    assert response.status_code == 200, response.text
    assert timeless(rows(writer)) == timeless(states[0])
    assert revert(writer, to=last).status_code == 200
    assert timeless(rows(writer)) == timeless(states[-1])
    assert revert(writer, to=0).status_code == 200
    assert rows(writer) == {}
    assert revert(writer, to=version(writer)).json == []


def test_a_revert_that_is_sent_again_changes_nothing(two_rows: None, writer: FlaskClient, other: FlaskClient) -> None:
    change_all(writer)
    for request_id in "deletion", "batch":
        assert revert(writer, requestId=request_id).status_code == 200
    before = rows(writer)

    for values in (
        {"requestId": "batch"},
        {"requestId": "deletion", "conflicts": "skip"},
        {"requestId": "batch", "conflicts": "overwrite"},
    ):
        again = revert(writer, **values)
        assert (again.status_code, again.json, rows(writer)) == (200, [], before)
    other.patch(f"{CONTACTS}/ann", json={"name": "Anne"})
    assert [*errors(revert(writer, requestId="batch"))] == ["/contacts/ann"]


@pytest.mark.parametrize("conflicts", [None, "skip", "overwrite"])
def test_a_company_that_others_put_rows_into_is_a_conflict(
    writer: FlaskClient, other: FlaskClient, conflicts: str | None
) -> None:
    writer.put(f"{CONTACTS}/eve", json={"name": "Eve"})
    start = version(writer)
    writer.put(f"{COMPANIES}/acme", json={"name": "Acme"})
    writer.put(f"{CONTACTS}/ann", json={"name": "Ann", "companyId": "acme"})
    other.patch(f"{CONTACTS}/eve", json={"companyId": "acme"})
    # Eve's company is from before this change.
    writer.patch(f"{CONTACTS}/eve", json={"title": "CEO"})
    before = rows(writer)

    response = revert(writer, keyId=key_id(writer), since=start, **({"conflicts": conflicts} if conflicts else {}))
    found = rows(writer)
    if conflicts is None:
        assert (response.status_code, found) == (409, before)
        assert errors(response) == {"/companies/acme": "contacts/eve is in it."}
    elif conflicts == "skip":
        assert (set(found), found["contacts", "eve"]["companyId"]) == (set(before) - {("contacts", "ann")}, "acme")
        assert found["contacts", "eve"]["title"] is None
    else:
        assert set(found) == {("contacts", "eve")}
        assert (found["contacts", "eve"]["companyId"], found["contacts", "eve"]["title"]) == (None, None)


def test_more_conflicts_than_are_listed_are_counted(writer: FlaskClient, other: FlaskClient) -> None:
    body = [{"id": f"c{number}", "name": "Ann"} for number in range(101)]
    writer.post(f"{CONTACTS}?matchOn=id", json=body, headers=BATCH)
    other.post(f"{CONTACTS}?matchOn=id", json=[{**row, "title": "CEO"} for row in body])

    response = revert(writer, requestId="batch")
    assert (response.status_code, len(errors(response))) == (409, 100)
    assert response.json["detail"].endswith(" The first 100 of 101 are listed.")


def test_a_row_from_before_a_required_field_gets_its_default(writer: FlaskClient, query: Query) -> None:
    data = json.dumps({"id": "acme", "name": "Acme", "createdAt": NOON, "updatedAt": NOON})
    columns = "INSERT INTO changes (seq, resource, row_id, action, at, data)"
    query(f"{columns} VALUES (1, 'companies', 'acme', 'created', '{NOON}', :data)", data=data)
    query(f"{columns} VALUES (2, 'companies', 'acme', 'deleted', '{NOON}', NULL)")

    assert revert(writer, to=1).status_code == 200
    row = writer.get(f"{COMPANIES}/acme").json
    assert (row["name"], row["position"], row["isCustomer"], row["notes"]) == ("Acme", 0, False, None)


def test_the_changes_of_a_key_after_a_version_are_taken_back(
    two_rows: None, writer: FlaskClient, other: FlaskClient
) -> None:
    other.put(f"{CONTACTS}/bob", json={"name": "Bob"})
    other.patch(f"{CONTACTS}/ann", json={"title": "CEO"})
    before = rows(writer)
    since = version(writer)
    other.patch(f"{CONTACTS}/bob", json={"title": "CTO"})
    other.put(f"{CONTACTS}/eve", json={"name": "Eve"})
    writer.put(f"{CONTACTS}/zoe", json={"name": "Zoe"})

    assert revert(writer, keyId=key_id(other), since=since).status_code == 200
    found = rows(writer)
    assert found.pop(("contacts", "zoe"))
    assert timeless(found) == timeless(before)
    assert revert(writer, keyId=key_id(other), since=0).status_code == 409
    assert revert(writer, keyId=key_id(other), since=0, conflicts="overwrite").status_code == 200
    assert {name for _resource, name in rows(writer)} == {"acme", "ann", "zoe"}
    assert writer.get(f"{CONTACTS}/ann").json["title"] is None


def test_a_row_that_others_changed_afterwards_is_a_conflict(
    two_rows: None, writer: FlaskClient, other: FlaskClient, query: Query
) -> None:
    body = [{"id": "ann", "title": "CEO"}, {"id": "bob", "name": "Bob"}]
    writer.post(f"{CONTACTS}?matchOn=id", json=[{"id": "bob", "name": "B"}])
    writer.post(f"{CONTACTS}?matchOn=id", json=body, headers=BATCH)
    other.patch(f"{CONTACTS}/ann", json={"phone": "1"})
    # The same key, in another request.
    writer.patch(f"{CONTACTS}/ann", json={"phone": "2"})
    before, size = rows(writer), table_sizes(query)

    response = revert(writer, requestId="batch")
    assert response.status_code == 409
    assert errors(response) == {"/contacts/ann": "Was changed afterwards, by change 6."}
    assert response.json["detail"] == (
        "contacts/ann: Was changed afterwards, by change 6. See errors; conflicts can be skip or overwrite."
    )
    assert (rows(writer), table_sizes(query)) == (before, size)

    preview = revert(writer, "?dryRun=true", requestId="batch", conflicts="overwrite")
    assert [each["id"] for each in preview.json] == ["ann", "bob"]
    assert [each["id"] for each in revert(writer, requestId="batch", conflicts="skip").json] == ["bob"]
    assert writer.get(f"{CONTACTS}/ann").json == before["contacts", "ann"]
    assert errors(revert(writer, requestId="batch")) == {"/contacts/ann": "Was changed afterwards, by change 6."}
    [entry] = [each for each in revert(writer, requestId="batch", conflicts="overwrite").json if each["id"] == "ann"]
    assert (entry["data"]["title"], entry["data"]["phone"]) == (None, None)


def test_a_row_that_others_changed_and_changed_back_is_no_conflict(
    two_rows: None, writer: FlaskClient, other: FlaskClient
) -> None:
    writer.patch(f"{CONTACTS}/ann", json={"title": "CEO"}, headers=BATCH)
    other.patch(f"{CONTACTS}/ann", json={"phone": "1"})
    assert revert(writer, requestId="batch").status_code == 409
    other.patch(f"{CONTACTS}/ann", json={"phone": None})

    assert [each["data"]["title"] for each in revert(writer, requestId="batch").json] == [None]


@pytest.mark.parametrize("who", ["other", "shell", "same request"])
def test_changes_between_those_of_a_request_are_conflicts_unless_they_are_its_own(
    two_rows: None, writer: FlaskClient, other: FlaskClient, database: str, who: str
) -> None:
    writer.patch(f"{CONTACTS}/ann", json={"title": "one"}, headers=BATCH)
    if who == "shell":
        run_external_sql(database, "UPDATE contacts SET phone = '1'")
    else:
        client = other if who == "other" else writer
        client.patch(f"{CONTACTS}/ann", json={"phone": "1"}, headers=BATCH if client is writer else {})
    # A request's id can be used twice.
    writer.patch(f"{CONTACTS}/ann", json={"title": "two"}, headers=BATCH)

    response = revert(writer, requestId="batch")
    assert response.status_code == (200 if who == "same request" else 409)
    if who == "same request":
        assert (writer.get(f"{CONTACTS}/ann").json["title"], len(response.json)) == (None, 1)
    else:
        assert errors(response) == {"/contacts/ann": "Was changed afterwards, by change 4."}


@pytest.mark.parametrize("conflicts", [None, "skip", "overwrite"])
def test_a_contact_whose_company_others_deleted(
    two_rows: None, writer: FlaskClient, other: FlaskClient, query: Query, conflicts: str | None
) -> None:
    writer.put(f"{COMPANIES}/globex", json={"name": "Globex"})
    writer.post(
        f"{CONTACTS}?matchOn=id",
        json=[{"id": "ann", "companyId": "globex"}, {"id": "bob", "name": "Bob"}],
        headers=BATCH,
    )
    other.delete(f"{COMPANIES}/acme")
    size = table_sizes(query)
    body = {"requestId": "batch"} | ({"conflicts": conflicts} if conflicts else {})

    response = revert(writer, **body)
    found = {name: row["companyId"] for (resource, name), row in rows(writer).items() if resource == "contacts"}
    if conflicts is None:
        assert (response.status_code, errors(response)) == (
            409,
            {"/contacts/ann": "Was in a company that is gone, or that this revert deletes."},
        )
        assert (found, table_sizes(query)) == ({"ann": "globex", "bob": None}, size)
    else:
        assert response.status_code == 200
        assert found == {"ann": "globex" if conflicts == "skip" else None}


def test_a_contact_without_its_former_company_that_is_gone_is_not_changed(
    two_rows: None, writer: FlaskClient, other: FlaskClient
) -> None:
    writer.patch(f"{CONTACTS}/ann", json={"companyId": None}, headers=BATCH)
    other.delete(f"{COMPANIES}/acme")
    assert revert(writer, requestId="batch", conflicts="overwrite").json == []


def test_rows_deleted_and_created_again_with_the_same_id(two_rows: None, writer: FlaskClient) -> None:
    before = rows(writer)
    writer.delete(f"{CONTACTS}/ann")
    writer.put(f"{CONTACTS}/ann", json={"name": "Another"})
    writer.delete(f"{COMPANIES}/acme", headers=BATCH)
    writer.put(f"{COMPANIES}/acme", json={"name": "Another"}, headers=BATCH)
    after, last = rows(writer), version(writer)

    assert revert(writer, requestId="batch").status_code == 200
    found = rows(writer)
    assert timeless({("companies", "acme"): found["companies", "acme"]}) == timeless(
        {("companies", "acme"): before["companies", "acme"]}
    )
    assert revert(writer, to=2).status_code == 200
    assert timeless(rows(writer)) == timeless(before)
    assert revert(writer, to=last).status_code == 200
    assert timeless(rows(writer)) == timeless(after)


def test_a_revert_never_restores_forgotten_data(admin: FlaskClient, writer: FlaskClient, query: Query) -> None:
    writer.put(f"{CONTACTS}/ann", json={"name": "Ann Ephemeral"})
    writer.put(f"{CONTACTS}/bob", json={"name": "Bob"})
    writer.delete(f"{CONTACTS}/ann", headers=BATCH)
    writer.delete(f"{CONTACTS}/bob", headers={"X-Request-Id": "bob"})
    admin.post(f"{CONTACTS}/ann/forget", headers={"X-Request-Id": "forget"})
    size = table_sizes(query)

    for body in {"to": 1}, {"requestId": "batch", "conflicts": "overwrite"}, {"requestId": "forget"}, {"to": 4}:
        response = revert(writer, "?dryRun=true", **body)
        assert (response.status_code, response.json) == (200, []), body
    assert [each["id"] for each in revert(writer, to=2).json] == ["bob"]
    assert "Ephemeral" not in writer.get(CHANGES).text
    assert table_sizes(query) == [(size[0][0] + 1, size[0][1] + 1)]

    # The id is used again: the new row is deleted, and then restored.
    writer.put(f"{CONTACTS}/ann", json={"name": "New"})
    assert revert(writer, to=2).status_code == 200
    assert writer.get(f"{CONTACTS}/ann").status_code == 404
    assert revert(writer, to=version(writer) - 1).status_code == 200
    assert writer.get(f"{CONTACTS}/ann").json["name"] == "New"

    # A later row with the id of a forgotten one stays.
    admin.post(f"{CONTACTS}/ann/forget", headers={"X-Request-Id": "again"})
    writer.put(f"{CONTACTS}/ann", json={"name": "Newest"})
    assert revert(writer, requestId="again", conflicts="overwrite").json == []


@pytest.mark.parametrize("conflicts", [None, "skip", "overwrite"])
@pytest.mark.parametrize("method", ["forget", "delete"])
def test_a_row_does_not_return_to_another_company_with_the_id_of_its_own(
    two_rows: None, writer: FlaskClient, admin: FlaskClient, method: str, conflicts: str | None
) -> None:
    body = {"keyId": key_id(writer), "since": 2} | ({"conflicts": conflicts} if conflicts else {})
    if method == "forget":
        admin.post(f"{COMPANIES}/acme/forget")
        body = {"to": 2} | ({"conflicts": conflicts} if conflicts else {})
    else:
        writer.patch(f"{CONTACTS}/ann", json={"companyId": None})
        admin.delete(f"{COMPANIES}/acme")
    writer.put(f"{COMPANIES}/acme", json={"name": "Another"})
    before = rows(writer)

    response = revert(writer, **body)
    if conflicts is None:
        assert (response.status_code, errors(response)) == (
            409,
            {"/contacts/ann": "Was in a company that is gone, or that this revert deletes."},
        )
        assert rows(writer) == before
    else:
        assert response.status_code == 200
        assert [*rows(writer)] == [("contacts", "ann")]
        assert writer.get(f"{CONTACTS}/ann").json["companyId"] is None


def test_a_dry_run_returns_the_same_response_and_stores_nothing(
    two_rows: None, writer: FlaskClient, query: Query
) -> None:
    change_all(writer)
    before, size = rows(writer), table_sizes(query)

    preview = revert(writer, "?dryRun=true", to=2)
    assert (rows(writer), table_sizes(query)) == (before, size)
    assert preview.headers["Dataset-Version"] == str(size[0][0])
    done = revert(writer, to=2)

    def kept(response: Any) -> list[Any]:
        entries = [{**each, "requestId": "", "at": "", "data": each["data"] or {}} for each in response.json]
        return [{**each, "data": {**each["data"], "updatedAt": ""}} for each in entries]

    assert kept(preview) == kept(done)
    assert {each["keyId"] for each in preview.json} == {key_id(writer)}
    assert {each["requestId"] for each in preview.json} == {preview.headers["X-Request-Id"]}


def test_an_idempotency_key_reverts_once(two_rows: None, writer: FlaskClient, query: Query) -> None:
    change_all(writer)
    request = {"json": {"to": 2}, "headers": {"Idempotency-Key": "once"}}
    first = writer.post(f"{CHANGES}/revert", **request)
    size = table_sizes(query)
    again = writer.post(f"{CHANGES}/revert", **request)

    assert (again.status_code, again.json, again.headers["Idempotent-Replayed"]) == (200, first.json, "true")
    assert table_sizes(query) == size
    assert writer.post(f"{CHANGES}/revert", json={"to": 1}, headers=request["headers"]).status_code == 422


def test_a_revert_with_the_id_of_the_request_that_it_reverts(two_rows: None, writer: FlaskClient) -> None:
    before = rows(writer)
    change_all(writer)
    after = timeless(rows(writer))
    for expected in timeless(before), after, timeless(before):
        response = writer.post(f"{CHANGES}/revert", json={"to": 2} if expected != after else {"to": 7}, headers=BATCH)
        assert response.status_code == 200
        assert timeless(rows(writer)) == expected
    # All changes of the id together have changed nothing.
    assert revert(writer, requestId="batch").status_code in {200, 409}


def test_rows_are_restored_exactly(writer: FlaskClient, create_row: CreateRow) -> None:
    bodies = {
        "companies": {"name": 'Straße "😀" %\\ \'{0}', "dealValue": 999999999999.99, "isCustomer": True, "position": 7},
        "contacts": {"name": "é e\u0301", "notes": "a\nb\t\u2028", "email": "Ann@ACME.example", "companyId": "x"},
        "conversations": {"tags": ['"', "b,c", "é", "null"], "visitorIp": "2001:DB8::1", "lastMessageAt": NOON},
    }
    for name, body in bodies.items():
        create_row(name, id="x", createdAt=NOON, **body)
    before, last = rows(writer), version(writer)
    assert writer.get(f"{COMPANIES}?q=stra%C3%9Fe").json
    for name in bodies:
        writer.delete(f"/api/v1/{name}/x")

    assert revert(writer, to=last).status_code == 200
    assert timeless(rows(writer)) == timeless(before)
    assert {row["createdAt"] for row in rows(writer).values()} == {NOON}
    # The index of the search has it, too.
    assert len(writer.get(f"{COMPANIES}?q=stra%C3%9Fe").json) == 1
    assert rows(writer, f"asOf={version(writer)}") == rows(writer)


def test_a_time_that_is_ahead_never_goes_back(writer: FlaskClient, create_row: CreateRow, query: Query) -> None:
    create_row("contacts", id="a", createdAt="2098-01-01T00:00:00Z")
    writer.patch(f"{CONTACTS}/a", json={"name": "b"})
    query("UPDATE contacts SET updated_at = '2099-01-01T00:00:00Z'")

    assert [each["data"]["updatedAt"] for each in revert(writer, to=1).json] == ["2099-01-01T00:00:00Z"]
    writer.delete(f"{CONTACTS}/a")
    assert [each["data"]["updatedAt"] for each in revert(writer, to=1).json] == ["2098-01-01T00:00:00Z"]


MANY_WAYS = {"": "Must have exactly one of requestId, keyId and to."}


# Body, status, and the beginning of the detail by pointer.
WRONG_BODIES: list[tuple[str, int, dict[str, str]]] = [
    ("{}", 422, MANY_WAYS),
    ('{"to": 1, "requestId": "batch"}', 422, MANY_WAYS),
    ('{"to": 1, "keyId": "x", "since": 0}', 422, MANY_WAYS),
    ('{"conflicts": "skip"}', 422, MANY_WAYS),
    ('{"keyId": "x"}', 422, {"/since": "Goes with keyId: send both, or neither."}),
    ('{"to": 1, "since": 1}', 422, {"/since": "Goes with keyId: send both, or neither."}),
    ('{"requestId": "batch", "since": 1}', 422, {"/since": "Goes with keyId: send both, or neither."}),
    ('{"to": 8}', 422, {"/to": "Must not be after the last change, 7."}),
    ('{"keyId": "KEY", "since": 8}', 422, {"/since": "Must not be after the last change, 7."}),
    ('{"to": -1}', 422, {"/to": "Must be the number of a change, or 0."}),
    ('{"to": 1.5}', 422, {"/to": "Must be the number of a change, or 0."}),
    ('{"to": true}', 422, {"/to": "Must be the number of a change, or 0."}),
    ('{"to": "2"}', 422, {"/to": "Must be the number of a change, or 0."}),
    ('{"to": 9223372036854775807}', 422, {"/to": "Must not be after the last change, 7."}),
    ('{"to": 9223372036854775808}', 422, {"/to": "Must be the number of a change, or 0."}),
    ('{"to": 1e400}', 422, {"/to": "Must be the number of a change, or 0."}),
    ('{"to": NaN}', 422, {"/to": "Must be the number of a change, or 0."}),
    ('{"to": null}', 422, {"/to": "Must not be null."}),
    ('{"to": [2]}', 422, {"/to": "Must be the number of a change, or 0."}),
    ('{"to": 2, "to": 1}', 422, {"/to": "Must not appear twice."}),
    ('{"to": 2, "conflicts": "keep"}', 422, {"/conflicts": "Must be one of skip, overwrite."}),
    ('{"to": 2, "conflicts": ["skip"]}', 422, {"/conflicts": "Must be text."}),
    ('{"to": 2, "conflicts": null}', 422, {"/conflicts": "Must not be null."}),
    ('{"to": 2, "force": true}', 422, {"/force": ""}),
    ('{"requestID": "batch"}', 422, {"/requestID": ""}),
    ('{"requestId": ""}', 422, {"/requestId": "Must not be empty."}),
    ('{"requestId": "a\\u0000"}', 422, {"/requestId": "Must not contain the character NUL."}),
    ('{"requestId": "\\ud800"}', 422, {"/requestId": "Must not contain an unpaired surrogate."}),
    ('{"requestId": 7}', 422, {"/requestId": "Must be text."}),
    ('{"requestId": "nobodys"}', 404, {}),
    ('{"keyId": "nobodys", "since": 0}', 404, {}),
    ('{"keyId": "KEY", "since": 7}', 200, {}),
    ("[]", 422, {}),
    ("null", 422, {}),
    ("", 400, {}),
    ('{"to": 2', 400, {}),
    ('{"to": ' + "9" * 5_000 + "}", 400, {}),
]  # fmt: skip


def test_an_invalid_body_is_refused_and_changes_nothing(two_rows: None, writer: FlaskClient, query: Query) -> None:
    change_all(writer)
    before, size = rows(writer), table_sizes(query)

    for body, status, expected in WRONG_BODIES:
        text = body.replace("KEY", key_id(writer))
        response = writer.post(f"{CHANGES}/revert", data=text, content_type="application/json")
        assert response.status_code == status, (body, response.text)
        for pointer, detail in expected.items():
            assert detail in errors(response).get(pointer, "none"), (body, response.text)
    assert (rows(writer), table_sizes(query)) == (before, size)


def test_only_a_key_that_writes_can_revert(two_rows: None, reader: FlaskClient, anonymous: FlaskClient) -> None:
    assert revert(reader, to=0).status_code == 403
    assert revert(anonymous, to=0).status_code == 401
    assert reader.post(f"{CHANGES}/revert?x=1", json={"to": 0}).status_code == 403
    assert reader.get(f"{CHANGES}/revert").status_code == 405


@pytest.mark.parametrize("query_string", ["?x=1", "?dryRun=yes", "?dryRun"])
@pytest.mark.databases("sqlite")
def test_an_invalid_parameter_is_refused(two_rows: None, writer: FlaskClient, query_string: str) -> None:
    assert revert(writer, query_string, to=0).status_code == 400
    assert len(rows(writer)) == 2


def test_a_revert_that_needs_rows_before_the_oldest_version_is_410(
    two_rows: None, writer: FlaskClient, query: Query
) -> None:
    change_all(writer)
    query("UPDATE dataset SET oldest_version = 3")

    for body in {"to": 2}, {"requestId": "batch"}, {"keyId": key_id(writer), "since": 0}:
        response = revert(writer, **body)
        assert (response.status_code, response.json["detail"]) == (
            410, "The rows as of version 2 are no longer kept: the oldest version is 3.",
        )  # fmt: skip
    assert revert(writer, requestId="deletion").status_code == 200


def test_more_rows_than_the_limit_are_refused(
    writer: FlaskClient, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.revert.MAX_ROWS", 20)
    for size in 20, 1:
        writer.post(CONTACTS, json=[{"name": "Ann"}] * size, headers=BATCH)
    size = table_sizes(query)

    less = "name a later version or one request, or use the command `revert`"
    for body in {"to": 0}, {"requestId": "batch"}, {"to": 0, "conflicts": "skip"}:
        response = revert(writer, **body)
        assert (response.status_code, errors(response)) == (
            422, {"": f"Must change at most 20 rows: {less}."},
        )  # fmt: skip
    assert table_sizes(query) == size
    assert len(revert(writer, to=1).json) == 20


def test_a_revert_costs_a_few_statements_whatever_others_wrote(
    two_rows: None, writer: FlaskClient, statements: list[ExecutedStatement]
) -> None:
    writer.post(CONTACTS, json=[{"name": "Ann"}] * 50)
    statements.clear()
    assert len(revert(writer, to=2).json) == 50
    few = len(statements)
    writer.post(CONTACTS, json=[{"name": "Ann", "companyId": "acme"}] * 300)
    last = version(writer)
    statements.clear()

    assert len(revert(writer, to=last - 300).json) == 300
    assert len(statements) == few < 15
    statements.clear()
    assert len(revert(writer, to=last).json) == 300
    assert len(statements) == few


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.tools)])
def test_an_old_log_can_be_reverted(upgraded: FlaskClient) -> None:
    last, before = version(upgraded), rows(upgraded)
    assert revert(upgraded, to=last // 2).status_code == 200
    assert timeless(rows(upgraded)) == timeless(rows(upgraded, f"asOf={last // 2}"))
    assert revert(upgraded, to=last).status_code == 200
    assert timeless(rows(upgraded)) == timeless(before)


def test_a_row_that_is_already_reverted_is_not_changed(writer: FlaskClient) -> None:
    path = "/api/v1/contacts/left-alone"
    writer.put(path, json={"name": "Ann"})
    request_id = writer.patch(path, json={"name": "Bob"}).headers["X-Request-Id"]
    before = writer.patch(path, json={"name": "Ann"})

    body = {"requestId": request_id, "conflicts": "overwrite"}
    assert writer.post("/api/v1/changes/revert", json=body).json == []
    after = writer.get(path)
    assert (after.json, after.headers["ETag"]) == (before.json, before.headers["ETag"])

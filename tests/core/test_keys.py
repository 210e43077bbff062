"""`/api/v1/keys`: creating, listing, rolling and deleting keys."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.conftest import Query, client_with_key

NAME = "Must not be blank, nor have line feeds or other control characters."

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def test_a_created_key_is_shown_once_and_works(app: Flask, admin: FlaskClient) -> None:
    response = admin.post(
        "/api/v1/keys", json={"name": "CI", "scope": "admin", "expiresAt": "2999-01-01T01:00:00+01:00"}
    )

    assert response.status_code == 201
    assert list(response.json) == ["id", "name", "scope", "prefix", "createdAt", "expiresAt", "lastUsedAt", "key"]
    assert response.json["expiresAt"] == "2999-01-01T00:00:00Z"
    assert response.json["key"].startswith(response.json["prefix"])
    assert response.headers["Cache-Control"] == "no-store"
    listed = client_with_key(app, response.json["key"]).get("/api/v1/keys")
    assert [each["name"] for each in listed.json] == ["the admin client's", "CI"]
    assert response.json["key"] not in listed.text


def test_a_key_has_the_read_scope_and_no_expiry_by_default(admin: FlaskClient) -> None:
    created = admin.post("/api/v1/keys", json={"name": "CI"}).json

    assert (created["scope"], created["expiresAt"], created["lastUsedAt"]) == ("read", None, None)


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        pytest.param({}, "/name", "Is required.", id="no-name"),
        pytest.param({"name": ""}, "/name", NAME, id="empty-name"),
        pytest.param({"name": " "}, "/name", f"{NAME} Character 1 is U+0020 (SPACE).", id="blank-name"),
        pytest.param({"name": "x" * 256}, "/name", "Must have at most 255 characters, not 256.", id="long-name"),
        pytest.param({"name": "x", "scope": "root"}, "/scope", "Must be one of read, write, admin.", id="scope"),
        pytest.param({"name": "x", "scope": None}, "/scope", "Must not be null.", id="null-scope"),
        pytest.param(
            {"name": "x", "expiresAt": "2020-01-01T00:00:00Z"}, "/expiresAt", "Must be in the future.", id="past"
        ),
        pytest.param(
            {"name": "x", "expires": 3}, "/expires", "Is not a known field. Did you mean expiresAt?", id="typo"
        ),
        pytest.param({"name": "x", "id": "y"}, "/id", "Is read-only: leave it out.", id="id"),
        pytest.param([], "", "Must be an object.", id="array"),
    ],
)
def test_an_invalid_key_is_refused_with_a_pointer(admin: FlaskClient, body: object, pointer: str, detail: str) -> None:
    response = admin.post("/api/v1/keys", json=body)

    assert response.status_code == 422
    assert response.json["errors"] == [{"pointer": pointer, "detail": detail}]
    assert len(admin.get("/api/v1/keys").json) == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        pytest.param(b"", "There is no JSON: the text is empty.", id="empty"),
        pytest.param(b'{"name": "x"', "This is not JSON: expecting ',' delimiter at line 1, column 13.", id="cut-off"),
        pytest.param(b'{"name": "\xff"}', "The text is not UTF-8 at byte 10.", id="not-utf8"),
        pytest.param(b"[" * 100_000, "The text is nested too deeply.", id="deep"),
        pytest.param(b"9" * 5_000, "A number in the text is too long.", id="long-number"),
        pytest.param(b"1e99999999999999999999", "A number in the text is too long.", id="large-exponent"),
    ],
)
def test_invalid_json_is_400(admin: FlaskClient, body: bytes, detail: str) -> None:
    response = admin.post("/api/v1/keys", data=body, content_type="application/json")

    assert (response.status_code, response.json["detail"]) == (400, detail)


def test_a_duplicate_field_is_refused(admin: FlaskClient) -> None:
    response = admin.post("/api/v1/keys", data=b'{"name": "a", "name": "b"}', content_type="application/json")

    assert response.status_code == 422
    assert response.json["errors"] == [{"pointer": "/name", "detail": "Must not appear twice."}]


def test_a_body_of_another_content_type_is_415(admin: FlaskClient) -> None:
    assert admin.post("/api/v1/keys", data=b'{"name": "a"}', content_type="text/plain").status_code == 415


def test_a_body_over_1_mib_is_413(admin: FlaskClient) -> None:
    response = admin.post("/api/v1/keys", data=b" " * (1024 * 1024 + 1), content_type="application/json")

    assert (response.status_code, response.content_type) == (413, "application/problem+json")


def test_an_unknown_key_cannot_be_deleted(admin: FlaskClient) -> None:
    response = admin.delete("/api/v1/keys/nobody")

    assert (response.status_code, response.json["detail"]) == (404, "There is no key with the id nobody.")


def test_a_rolled_key_has_a_new_secret_and_the_old_one_is_valid_for_an_hour(
    app: Flask, admin: FlaskClient, query: Query
) -> None:
    created = admin.post("/api/v1/keys", json={"name": "CI", "scope": "write"}).json
    path = f"/api/v1/keys/{created['id']}"
    old = client_with_key(app, created["key"])

    first, second = admin.post(f"{path}/roll"), admin.post(f"{path}/roll")
    assert (first.status_code, first.headers["Cache-Control"]) == (200, "no-store")
    assert first.json == {**created, "key": first.json["key"], "prefix": first.json["key"][:8]}
    assert len({created["key"], first.json["key"], second.json["key"]}) == 3
    clients = [old, *(client_with_key(app, each.json["key"]) for each in (first, second))]
    assert [each.post("/api/v1/contacts", json={"name": "Ann"}).status_code for each in clients] == [201] * 3
    assert [each["name"] for each in admin.get("/api/v1/keys").json] == ["the admin client's", "CI"]

    query("UPDATE rolled_keys SET expires_at = '2024-01-01T00:00:00Z'")
    assert [each.get("/api/v1/contacts").status_code for each in clients] == [401, 401, 200]
    admin.post(f"{path}/roll")
    assert query("SELECT count(*) FROM rolled_keys WHERE expires_at > '2025-01-01T00:00:00Z'") == [(1,)]
    admin.delete(path)
    assert [each.get("/api/v1/contacts").status_code for each in clients] == [401] * 3


@pytest.mark.parametrize("expires_at", ["2024-01-01T00:00:00Z"])
def test_a_rolled_key_expires_as_its_record_does(app: Flask, admin: FlaskClient, query: Query, expires_at: str) -> None:
    created = admin.post("/api/v1/keys", json={"name": "CI"}).json
    rolled = admin.post(f"/api/v1/keys/{created['id']}/roll").json
    query("UPDATE api_keys SET expires_at = :expires_at WHERE name = 'CI'", expires_at=expires_at)

    for key in created["key"], rolled["key"]:
        assert client_with_key(app, key).get("/api/v1/contacts").status_code == 401


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
def test_a_key_of_any_scope_reads_its_own_record(app: Flask, admin: FlaskClient, scope: str) -> None:
    created = admin.post("/api/v1/keys", json={"name": "CI", "scope": scope}).json
    key = created.pop("key")

    response = client_with_key(app, key).get("/api/v1/keys/me")
    assert (response.status_code, response.json) == (200, created | {"lastUsedAt": response.json["lastUsedAt"]})
    assert key not in response.text
    assert app.test_client().get("/api/v1/keys/me").status_code == 401


def test_an_expired_key_cannot_be_rolled(admin: FlaskClient, query: Query) -> None:
    key = admin.post("/api/v1/keys", json={"name": "x", "scope": "read", "expiresAt": "2099-01-01T00:00:00Z"}).json
    query(f"UPDATE api_keys SET expires_at = '2024-01-01T00:00:00Z' WHERE id = '{key['id']}'")

    response = admin.post(f"/api/v1/keys/{key['id']}/roll")
    assert (response.status_code, response.json["detail"][:25]) == (409, "This key has expired, and")
    assert query("SELECT count(*) FROM rolled_keys") == [(0,)]


def test_an_unknown_key_cannot_be_rolled_nor_by_a_key_of_another_scope(admin: FlaskClient, writer: FlaskClient) -> None:
    response = admin.post("/api/v1/keys/nobody/roll")

    assert (response.status_code, response.json["detail"]) == (404, "There is no key with the id nobody.")
    assert writer.post("/api/v1/keys/nobody/roll").status_code == 403


def test_a_key_deletes_itself_only_on_request(app: Flask, admin: FlaskClient) -> None:
    other = admin.post("/api/v1/keys", json={"name": "other", "scope": "admin"}).json
    client, path = client_with_key(app, other["key"]), f"/api/v1/keys/{other['id']}"

    refused = client.delete(path)
    detail = "This is the key of this request: add self=true to delete it."
    assert (refused.status_code, refused.json["detail"]) == (409, detail)
    assert client.delete(f"{path}?self=yes").status_code == 400
    assert client.delete(f"{path}?self=true").status_code == 204
    assert client.get("/api/v1/contacts").status_code == 401


def test_the_admin_key_that_lasts_longest_cannot_be_deleted(admin: FlaskClient, query: Query) -> None:
    [own] = admin.get("/api/v1/keys").json
    expired = admin.post("/api/v1/keys", json={"name": "expired", "scope": "admin"}).json
    query("UPDATE api_keys SET expires_at = '2024-01-01T00:00:00Z' WHERE name = 'expired'")
    admin.post("/api/v1/keys", json={"name": "a writer", "scope": "write"})
    admin.post("/api/v1/keys", json={"name": "soon", "scope": "admin", "expiresAt": "2999-01-01T00:00:00Z"})

    refused = admin.delete(f"/api/v1/keys/{own['id']}?self=true")
    detail = "No other admin key lasts as long as this one: create one first."
    assert (refused.status_code, refused.json["detail"]) == (409, detail)
    assert admin.delete(f"/api/v1/keys/{expired['id']}").status_code == 204
    assert len(admin.get("/api/v1/keys").json) == 3
    admin.post("/api/v1/keys", json={"name": "lasting", "scope": "admin"})
    assert admin.delete(f"/api/v1/keys/{own['id']}?self=true").status_code == 204

"""Authentication with API keys: headers, scopes, errors and stored keys (RFC 6750)."""

from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256

import pytest
from flask import Flask
from flask.testing import FlaskClient

from auth import API, checksum, is_well_formed, new_key, public
from database.columns import now
from tests.conftest import ExecutedStatement, Query, client_with_key

NewKey = Callable[..., str]

NO_CREDENTIALS = 'Bearer realm="cardfile"'
INVALID_KEY = 'Bearer realm="cardfile", error="invalid_token"'


def basic(credentials: str) -> str:
    """Return an Authorization header (RFC 7617)."""
    return f"Basic {b64encode(credentials.encode()).decode()}"


def every_route(app: Flask) -> list[tuple[str, str]]:
    return [
        (method, rule.rule.replace("<row_id>", "x").replace("<key_id>", "x"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"OPTIONS"}
    ]


def test_every_route_under_api_v1_needs_a_key(app: Flask, anonymous: FlaskClient) -> None:
    routes = [route for route in every_route(app) if route[1].startswith(API)]
    assert len(routes) >= 15

    for method, path in routes:
        response = anonymous.open(path, method=method)
        assert (path, response.status_code) == (path, 401)
        assert response.headers["WWW-Authenticate"] == NO_CREDENTIALS


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/companies/x/y"])
def test_an_unknown_path_is_401_without_a_key_and_404_with_one(
    anonymous: FlaskClient, reader: FlaskClient, path: str
) -> None:
    assert anonymous.get(path).status_code == 401
    assert reader.get(path).status_code == 404


def test_a_view_needs_a_key_unless_it_is_marked_public(app: Flask, anonymous: FlaskClient) -> None:
    app._got_first_request = False
    app.add_url_rule("/report", "report", lambda: "everything")
    app.add_url_rule("/api/v1/status", "status", public(lambda: "up"))

    assert anonymous.get("/report").status_code == 401
    assert anonymous.get("/api/v1/status").text == "up"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_authorization_scheme_is_case_insensitive(
    anonymous: FlaskClient, new_key_with_scope: NewKey, scheme: str
) -> None:
    response = anonymous.get("/api/v1/companies", headers={"Authorization": f"{scheme} {new_key_with_scope('read')}"})

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        pytest.param("", NO_CREDENTIALS, id="empty"),
        pytest.param("Digest dXNlcjpwYXNz", NO_CREDENTIALS, id="another-scheme"),
        pytest.param("Bearer", INVALID_KEY, id="no-key"),
        pytest.param("Bearer nonsense", INVALID_KEY, id="malformed"),
        pytest.param(f"Bearer {new_key()}", INVALID_KEY, id="unknown"),
        pytest.param(f"Bearer {new_key()}, Bearer {new_key()}", INVALID_KEY, id="two-headers"),
        pytest.param("Bearer cfk_é", INVALID_KEY, id="not-ascii"),
        pytest.param("Basic", INVALID_KEY, id="basic-without-user"),
        pytest.param(basic("user:pass"), INVALID_KEY, id="basic-without-key"),
        pytest.param(basic(f"{new_key()}:"), INVALID_KEY, id="basic-unknown"),
        pytest.param(basic(f":{new_key()}"), INVALID_KEY, id="basic-with-the-key-as-password"),
        pytest.param("Basic /////w==", INVALID_KEY, id="basic-not-utf-8"),
        pytest.param("Basic é", INVALID_KEY, id="basic-not-ascii"),
    ],
)
def test_an_invalid_authorization_header_is_401(anonymous: FlaskClient, header: str, challenge: str) -> None:
    response = anonymous.get("/api/v1/companies", headers={"Authorization": header})

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == challenge
    assert "cfk_" not in response.text


@pytest.mark.parametrize("form", ["{}:", "{}", "{}:any password", "{}:with:colons"])
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC "])
def test_basic_authentication_takes_the_key_as_the_user_name(
    anonymous: FlaskClient, new_key_with_scope: NewKey, form: str, scheme: str
) -> None:
    header = basic(form.format(new_key_with_scope("read"))).replace("Basic", scheme)

    assert anonymous.get("/api/v1/companies", headers={"Authorization": header}).status_code == 200
    assert anonymous.post("/api/v1/companies", headers={"Authorization": header}).status_code == 403


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_basic_authentication_ignores_a_password_in_any_encoding(
    anonymous: FlaskClient, new_key_with_scope: NewKey, encoding: str
) -> None:
    credentials = b64encode(f"{new_key_with_scope('read')}:é".encode(encoding)).decode()

    assert anonymous.get("/api/v1/companies", headers={"Authorization": f"Basic {credentials}"}).status_code == 200


def test_a_key_in_malformed_basic_credentials_is_refused(anonymous: FlaskClient, new_key_with_scope: NewKey) -> None:
    key = new_key_with_scope("read")
    encoded = basic(f"{key}:")
    for header in (
        f"Basic {key}",
        f"Basic {key}:",
        encoded.rstrip("="),
        f"{encoded[:12]}!{encoded[12:]}",
        f"{encoded}, a",
    ):
        response = anonymous.get("/api/v1/companies", headers={"Authorization": header})
        assert (header, response.status_code) == (header, 401)
        assert response.headers["WWW-Authenticate"] == INVALID_KEY


def test_no_response_asks_a_browser_for_a_password(anonymous: FlaskClient) -> None:
    """A browser would send a password that it has kept with the requests of other sites' pages, too."""
    for header in {}, {"Authorization": "Basic"}, {"Authorization": basic("user:pass")}:
        response = anonymous.get("/api/v1/companies", headers=header)
        assert [each.split()[0] for each in response.headers.getlist("WWW-Authenticate")] == ["Bearer"]


def test_a_deleted_key_is_refused_at_once(admin: FlaskClient, writer: FlaskClient) -> None:
    assert writer.get("/api/v1/companies").status_code == 200
    [record] = [each for each in admin.get("/api/v1/keys").json if each["scope"] == "write"]

    assert admin.delete(f"/api/v1/keys/{record['id']}").status_code == 204

    response = writer.get("/api/v1/companies")
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, INVALID_KEY)


def test_an_expired_key_is_refused_like_an_unknown_one(app: Flask, new_key_with_scope: NewKey) -> None:
    past = new_key_with_scope("read", now() - timedelta(seconds=1))
    future = new_key_with_scope("read", now() + timedelta(minutes=1))

    response = client_with_key(app, past).get("/api/v1/companies")
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, INVALID_KEY)
    assert client_with_key(app, future).get("/api/v1/companies").status_code == 200


@pytest.mark.parametrize(
    ("scope", "statuses"),
    [
        ("read", {"GET": 200, "POST": 403, "DELETE": 403}),
        ("write", {"GET": 200, "POST": 403, "DELETE": 403}),
        ("admin", {"GET": 200, "POST": 422, "DELETE": 404}),
    ],
)
def test_only_an_admin_key_can_manage_keys(
    new_client: Callable[[str], FlaskClient], scope: str, statuses: dict[str, int]
) -> None:
    client = new_client(scope)

    assert client.get("/api/v1/companies").status_code == statuses["GET"]
    assert client.post("/api/v1/keys", json={}).status_code == statuses["POST"]
    assert client.delete("/api/v1/keys/nobody").status_code == statuses["DELETE"]


def test_the_error_for_a_missing_scope_names_the_required_scope(reader: FlaskClient) -> None:
    response = reader.get("/api/v1/keys")

    assert response.headers["WWW-Authenticate"] == 'Bearer realm="cardfile", error="insufficient_scope", scope="admin"'
    assert response.json["detail"] == "This API key lacks the required scope: it has read, and admin is needed."


def test_a_view_that_writes_needs_the_write_scope(app: Flask, reader: FlaskClient, writer: FlaskClient) -> None:
    app._got_first_request = False
    app.add_url_rule("/api/v1/write", "write", lambda: "written", methods=["POST"])

    assert reader.post("/api/v1/write").status_code == 403
    assert writer.post("/api/v1/write").status_code == 200


def test_new_keys_are_well_formed_and_unique() -> None:
    keys = [new_key() for _number in range(200)]

    assert all(len(key) == 40 and key.startswith("cfk_") and is_well_formed(key) for key in keys)
    assert len(set(keys)) == 200


def test_the_checksum_is_the_crc_32_in_base62() -> None:
    # The check value in CRC catalogues: 0xCBF43926, which has the digits 3 45 35 27 22 14 in base 62.
    assert checksum("123456789") == "3jZRME"


def test_a_mistyped_key_is_refused_without_a_query(
    anonymous: FlaskClient, reader: FlaskClient, statements: list[ExecutedStatement]
) -> None:
    # Only until there is a key, 401 says how to create one.
    anonymous.get("/api/v1/companies")
    statements.clear()
    key = new_key()
    mistyped = key[:10] + ("a" if key[10] != "a" else "b") + key[11:]

    assert anonymous.get("/api/v1/companies", headers={"Authorization": f"Bearer {mistyped}"}).status_code == 401
    assert statements == []
    assert anonymous.get("/api/v1/companies", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    assert ["rolled_keys" in each.sql for each in statements] == [False, True]


def test_only_the_sha_256_of_a_key_is_stored(new_key_with_scope: NewKey, query: Query) -> None:
    key = new_key_with_scope("read")

    [stored] = query("SELECT * FROM api_keys")
    assert sha256(key.encode()).hexdigest() in stored
    assert key[:8] in stored
    assert key[8:] not in str(stored)


def test_the_last_use_is_stored_to_the_minute(app: Flask, reader: FlaskClient, query: Query) -> None:
    before = now().replace(second=0)
    reader.get("/api/v1/companies")
    app.extensions["last_use"].stop()

    [[used]] = query("SELECT last_used_at FROM api_keys")
    assert used[-4:] == ":00Z"
    assert before <= datetime.fromisoformat(used) <= now()
    # A process that was slower stores its minute later.
    [[key_id]] = query("SELECT id FROM api_keys")
    app.extensions["last_use"].write(key_id, before - timedelta(minutes=1))
    assert query("SELECT last_used_at FROM api_keys") == [(used,)]


def test_all_uses_of_a_key_are_stored_at_the_end(app: Flask, reader: FlaskClient, query: Query) -> None:
    for _time in range(2):
        reader.get("/api/v1/companies")
    app.extensions["last_use"].stop()

    assert query("SELECT sum(requests) FROM key_uses") == [(2,)]


def test_a_failure_to_store_the_last_use_is_logged_and_the_response_is_200(
    app: Flask, reader: FlaskClient, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    query("ALTER TABLE api_keys RENAME COLUMN last_used_at TO gone")

    assert reader.get("/api/v1/companies").status_code == 200
    app.extensions["last_use"].stop()
    assert "The uses of keys were not stored, and no expired rows deleted: OperationalError" in caplog.text

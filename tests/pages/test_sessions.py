"""Sessions of the developer settings: storage, cookies and end."""

from hashlib import sha256

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database import close_database
from pages.sessions import HOME
from service import create_app
from settings import load_settings
from tests.conftest import Query, client_with_key, run_external_sql
from tests.pages.conftest import form_token, is_signed_in, session_token

pytestmark = pytest.mark.databases("sqlite", "postgresql")

LONG_AGO = "2020-01-01T00:00:00Z"


def test_only_the_sha_256_of_a_token_is_stored(signed_in_client: FlaskClient, link_token: str, query: Query) -> None:
    stored = query("SELECT sha256, kind FROM sessions ORDER BY kind")

    tokens = {"link": link_token, "session": session_token(signed_in_client)}
    assert stored == [(sha256(token.encode()).hexdigest(), kind) for kind, token in tokens.items()]
    assert len(link_token) == 43


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("DELETE FROM api_keys", id="the-key-is-deleted"),
        pytest.param(f"UPDATE api_keys SET expires_at = '{LONG_AGO}'", id="the-key-has-expired"),
        pytest.param("UPDATE api_keys SET scope = 'write'", id="the-key-lost-the-admin-scope"),
        pytest.param(f"UPDATE sessions SET expires_at = '{LONG_AGO}'", id="the-session-has-expired"),
        pytest.param("UPDATE sessions SET kind = 'link'", id="the-session-is-a-link"),
        pytest.param("DELETE FROM sessions", id="the-session-is-deleted"),
    ],
)
def test_a_session_ends_at_once_after_a_change(signed_in_client: FlaskClient, database: str, end: str) -> None:
    token = form_token(signed_in_client)
    assert is_signed_in(signed_in_client)

    run_external_sql(database, end)

    assert not is_signed_in(signed_in_client)
    response = signed_in_client.post(f"{HOME}/keys/new", data={"token": token, "name": "late", "scope": "read"})
    assert (response.status_code, "You are not signed in" in response.text) == (403, True)
    assert run_external_sql(database, "SELECT name FROM api_keys WHERE name = 'late'") == []


@pytest.mark.databases("sqlite")
def test_a_session_ends_with_its_key_even_without_foreign_keys(signed_in_client: FlaskClient, database: str) -> None:
    run_external_sql(database, "DELETE FROM api_keys")

    assert run_external_sql(database, "SELECT count(*) FROM sessions") == [(1,)]
    assert not is_signed_in(signed_in_client)


@pytest.mark.parametrize("token", ["", "x", "ß"])
def test_an_invalid_session_cookie_is_refused(app: Flask, token: str) -> None:
    client = app.test_client()
    client.set_cookie("cardfile_session", token, path="/settings")

    assert not is_signed_in(client)


def test_a_session_is_valid_in_another_process_until_it_ends(
    app: Flask, signed_in_client: FlaskClient, database: str, key: str
) -> None:
    other = create_app(load_settings({"database_url": database}, {}))
    other_client = other.test_client()
    other_client.set_cookie("cardfile_session", session_token(signed_in_client), path="/settings")
    assert is_signed_in(other_client)

    admin = client_with_key(app, key)
    [record] = admin.get("/api/v1/keys").json
    admin.post("/api/v1/keys", json={"name": "another", "scope": "admin"})
    assert admin.delete(f"/api/v1/keys/{record['id']}?self=true").status_code == 204

    assert not is_signed_in(other_client)
    other.extensions["last_use"].stop()
    with other.app_context():
        close_database()


def test_signing_out_deletes_the_session(signed_in_client: FlaskClient, query: Query) -> None:
    response = signed_in_client.post(f"{HOME}/sign-out", data={"token": form_token(signed_in_client)})

    assert (response.status_code, response.headers["Location"]) == (303, f"{HOME}/sign-in")
    assert signed_in_client.get_cookie("cardfile_session", path="/settings") is None
    assert query("SELECT * FROM sessions") == []


def test_the_token_of_a_link_is_not_a_session_token(app: Flask, link_token: str) -> None:
    client = app.test_client()
    client.set_cookie("cardfile_session", link_token, path="/settings")

    assert not is_signed_in(client)


def test_a_session_is_not_in_the_change_log(signed_in_client: FlaskClient, query: Query) -> None:
    assert query("SELECT kind FROM sessions WHERE kind = 'session'") == [("session",)]
    assert query("SELECT * FROM changes") == []

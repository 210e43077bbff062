"""Sessions of the developer settings: sign-in, links, cookies and sign-out."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256

import pytest
from flask import Flask
from flask.testing import FlaskClient

from auth import new_key
from database import close_database, write_transaction
from models import now
from pages.sessions import HOME
from service import create_app
from settings import load_settings
from tests.conftest import Query, client_with_key, run_external_sql
from tests.core.test_authentication import NewKey, every_route
from tests.pages.conftest import SAME_ORIGIN, form_token, is_signed_in, post_key, session_token

pytestmark = pytest.mark.databases("sqlite", "postgresql")

INVALID_KEY = "This is not a valid admin key."
LONG_AGO = "2020-01-01T00:00:00Z"


def test_an_admin_key_starts_a_session(app: Flask, key: str) -> None:
    response = post_key(app, key)

    assert (response.status_code, response.headers["Location"]) == (303, HOME)
    assert set(response.headers["Set-Cookie"].split("; ")[2:]) == {
        "Max-Age=43200",
        "HttpOnly",
        "Path=/settings",
        "SameSite=Strict",
    }


@pytest.mark.parametrize(
    ("url", "origin", "secure"),
    [
        pytest.param("https://a", "", True, id="https"),
        pytest.param("http://a", "https://a", True, id="https-only-to-the-proxy"),
        pytest.param("http://a", "http://a", False, id="http"),
    ],
)
def test_the_cookie_is_secure_over_https(app: Flask, key: str, url: str, origin: str, secure: bool) -> None:
    response = post_key(app, key, SAME_ORIGIN | {"Origin": origin}, url=url)

    assert ("; Secure" in response.headers["Set-Cookie"]) is secure


def test_only_the_sha_256_of_a_token_is_stored(signed_in_client: FlaskClient, link_token: str, query: Query) -> None:
    stored = query("SELECT sha256, kind FROM sessions ORDER BY kind")

    tokens = {"link": link_token, "session": session_token(signed_in_client)}
    assert stored == [(sha256(token.encode()).hexdigest(), kind) for kind, token in tokens.items()]
    assert len(link_token) == 43


@pytest.mark.parametrize("kind", ["read", "write", "expired", "unknown", "malformed", "empty", "not-ascii"])
def test_every_other_key_is_refused_with_the_same_page(
    app: Flask, new_key_with_scope: NewKey, query: Query, kind: str
) -> None:
    keys = {
        "read": lambda: new_key_with_scope("read"),
        "write": lambda: new_key_with_scope("write"),
        "expired": lambda: new_key_with_scope("admin", now() - timedelta(seconds=1)),
        "unknown": new_key,
    }
    response = post_key(app, keys.get(kind, lambda: {"malformed": "cfk_1", "empty": "", "not-ascii": "ß"}[kind])())

    assert (response.status_code, INVALID_KEY in response.text) == (403, True)
    assert response.text == post_key(app, "anything").text
    assert "Set-Cookie" not in response.headers
    assert query("SELECT * FROM sessions") == []


def test_a_key_deleted_during_sign_in_is_refused_like_an_unknown_one(
    app: Flask, key: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def write_later() -> Iterator[None]:
        run_external_sql(database, "DELETE FROM api_keys")
        with write_transaction():
            yield

    monkeypatch.setattr("pages.sign_in.write_transaction", write_later)
    response = post_key(app, key)

    assert (response.status_code, INVALID_KEY in response.text) == (403, True)
    assert "Set-Cookie" not in response.headers


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

    [record] = client_with_key(app, key).get("/api/v1/keys").json
    assert client_with_key(app, key).delete(f"/api/v1/keys/{record['id']}").status_code == 204

    assert not is_signed_in(other_client)
    other.extensions["last_use"].stop()
    with other.app_context():
        close_database()


def test_signing_out_deletes_the_session(signed_in_client: FlaskClient, query: Query) -> None:
    response = signed_in_client.post(f"{HOME}/sign-out", data={"token": form_token(signed_in_client)})

    assert (response.status_code, response.headers["Location"]) == (303, f"{HOME}/sign-in")
    assert signed_in_client.get_cookie("cardfile_session", path="/settings") is None
    assert query("SELECT * FROM sessions") == []


@pytest.mark.parametrize("by", ["key", "link"])
def test_signing_in_again_ends_the_previous_session(
    app: Flask, signed_in_client: FlaskClient, key: str, link_token: str, by: str
) -> None:
    elsewhere, older = app.test_client(), app.test_client()
    elsewhere.post(f"{HOME}/sign-in", data={"key": key}, headers=SAME_ORIGIN)
    older.set_cookie("cardfile_session", session_token(signed_in_client), path="/settings")
    path, form = {"key": ("/sign-in", {"key": key}), "link": ("/link", {"token": link_token})}[by]
    assert signed_in_client.post(HOME + path, data=form, headers=SAME_ORIGIN).status_code == 303

    assert [is_signed_in(each) for each in (signed_in_client, older, elsewhere)] == [True, False, True]


def test_a_failed_sign_in_keeps_the_session(signed_in_client: FlaskClient) -> None:
    signed_in_client.post(f"{HOME}/sign-in", data={"key": new_key()}, headers=SAME_ORIGIN)
    signed_in_client.post(f"{HOME}/link", data={"token": "x"}, headers=SAME_ORIGIN)

    assert is_signed_in(signed_in_client)


def test_signing_in_updates_the_last_use_of_the_key(app: Flask, signed_in_client: FlaskClient, query: Query) -> None:
    app.extensions["last_use"].stop()

    [[used]] = query("SELECT last_used_at FROM api_keys")
    assert used is not None


def test_a_link_signs_in_once_and_get_does_not_use_it(anonymous: FlaskClient, app: Flask, link_token: str) -> None:
    for method in "HEAD", "GET", "GET":
        shown = anonymous.open(f"{HOME}/link?token={link_token}", method=method)
        assert shown.status_code == 200
    assert 'method="post"' in shown.text

    assert anonymous.post(f"{HOME}/link", data={"token": link_token}, headers=SAME_ORIGIN).status_code == 303
    assert is_signed_in(anonymous)
    assert session_token(anonymous) != link_token
    again = app.test_client()
    responses = (
        again.post(f"{HOME}/link", data={"token": link_token}, headers=SAME_ORIGIN),
        again.get(f"{HOME}/link?token={link_token}"),
    )
    assert [(response.status_code, "no longer valid" in response.text) for response in responses] == [(403, True)] * 2
    assert not is_signed_in(again)


@pytest.mark.parametrize("token", ["the session's", "an old link's", "", "x", "ß"])
def test_an_invalid_link_is_refused(
    app: Flask, signed_in_client: FlaskClient, link_token: str, query: Query, token: str
) -> None:
    query(f"UPDATE sessions SET expires_at = '{LONG_AGO}' WHERE kind = 'link'")
    sent = {"the session's": session_token(signed_in_client), "an old link's": link_token}.get(token, token)
    client = app.test_client()

    assert client.get(f"{HOME}/link", query_string={"token": sent}).status_code == 403
    assert client.post(f"{HOME}/link", data={"token": sent}, headers=SAME_ORIGIN).status_code == 403
    assert not is_signed_in(client)
    assert is_signed_in(signed_in_client)


def test_the_token_of_a_link_is_not_a_session_token(app: Flask, link_token: str) -> None:
    client = app.test_client()
    client.set_cookie("cardfile_session", link_token, path="/settings")

    assert not is_signed_in(client)


def test_a_new_session_deletes_expired_sessions_and_is_not_in_the_change_log(
    app: Flask, signed_in_client: FlaskClient, link_token: str, key: str, query: Query
) -> None:
    query(f"UPDATE sessions SET expires_at = '{LONG_AGO}'")
    post_key(app, key)

    assert query("SELECT kind FROM sessions") == [("session",)]
    assert query("SELECT * FROM changes") == []


def test_every_page_except_sign_in_needs_a_session(app: Flask, anonymous: FlaskClient) -> None:
    routes = [route for route in every_route(app) if route[1].startswith("/settings")]
    assert len(routes) >= 12
    found = {f"{method} {path}": anonymous.open(path, method=method).status_code for method, path in routes}

    # POST is refused on these pages, too, because the form was not sent from this site.
    public_pages = {f"{method} {HOME}/sign-in": 200 for method in ("GET", "HEAD")}
    public_pages |= {f"{method} {HOME}/link": 403 for method in ("GET", "HEAD")}
    expected = {route: 303 if route.startswith(("GET", "HEAD")) else 403 for route in found}
    assert found == expected | public_pages


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("", "GET, HEAD, OPTIONS"),
        ("/sign-in", "GET, HEAD, OPTIONS, POST"),
        ("/link", "GET, HEAD, OPTIONS, POST"),
        ("/keys/x/delete", "GET, HEAD, OPTIONS, POST"),
        ("/sign-out", "OPTIONS, POST"),
    ],
)
def test_options_needs_no_session(
    anonymous: FlaskClient, signed_in_client: FlaskClient, path: str, allowed: str
) -> None:
    for client in anonymous, signed_in_client:
        response = client.options(HOME + path)

        assert (response.status_code, response.data) == (204, b"")
        assert sorted(response.headers["Allow"].split(", ")) == allowed.split(", ")


@pytest.mark.parametrize("kind", ["none", "empty", "another session's", "not-ascii"])
@pytest.mark.parametrize("path", ["/keys/new", "/keys/{id}/delete", "/sign-out"])
def test_a_form_without_the_token_of_the_session_changes_nothing(
    app: Flask, signed_in_client: FlaskClient, key: str, query: Query, path: str, kind: str
) -> None:
    other = app.test_client()
    other.post(f"{HOME}/sign-in", data={"key": key}, headers=SAME_ORIGIN)
    tokens = {"none": {}, "empty": {"token": ""}, "not-ascii": {"token": "ß"}}
    [[key_id]] = query("SELECT id FROM api_keys")
    form = {"name": "Mallory", "scope": "admin", **tokens.get(kind, {"token": form_token(other)})}

    response = signed_in_client.post(
        HOME + path.replace("{id}", key_id), data=form, headers={"Sec-Fetch-Site": "cross-site"}
    )

    assert (response.status_code, "This form was not sent from this site" in response.text) == (403, True)
    assert query("SELECT id FROM api_keys") == [(key_id,)]
    assert is_signed_in(signed_in_client)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Sec-Fetch-Site": "same-origin"}, 303, id="same-origin"),
        pytest.param({"Origin": "http://a"}, 303, id="same-origin-by-the-origin-header"),
        pytest.param({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 303, id="same-origin-without-a-referrer"),
        pytest.param({}, 403, id="no-headers"),
        pytest.param({"Sec-Fetch-Site": "cross-site", "Origin": "http://a"}, 403, id="cross-site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="same-site"),
        pytest.param({"Sec-Fetch-Site": "none"}, 403, id="none"),
        pytest.param({"Origin": "null"}, 403, id="null"),
        pytest.param({"Origin": "http://elsewhere.example"}, 403, id="another-host"),
        pytest.param({"Origin": "http://a:8000"}, 403, id="another-port"),
        pytest.param({"Origin": "http://[a"}, 403, id="invalid-origin"),
        pytest.param({"Origin": "ftp://a"}, 403, id="another-scheme"),
        pytest.param(
            {"Host": "my_host:8000", "Origin": "http://my_host:8000"}, 303, id="same-origin-with-an-underscore"
        ),
        pytest.param({"Host": "my_host:8000", "Origin": "null"}, 403, id="null-with-an-underscore"),
        pytest.param({"Host": "my_host:8000"}, 403, id="no-headers-with-an-underscore"),
    ],
)
def test_another_site_cannot_sign_in(
    app: Flask, key: str, link_token: str, query: Query, headers: dict[str, str], status: int
) -> None:
    by_link = app.test_client().post(f"{HOME}/link", "http://a", data={"token": link_token}, headers=headers)

    assert (post_key(app, key, headers).status_code, by_link.status_code) == (status, status)
    assert query("SELECT count(*) FROM sessions WHERE kind = 'session'") == [(2 if status == 303 else 0,)]


def test_an_ip_address_has_ten_attempts_to_sign_in_per_minute(
    app: Flask, key: str, link_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = [post_key(app, "cfk_guess").status_code for _number in range(10)]
    refused = post_key(app, key)
    by_link = app.test_client().post(f"{HOME}/link", data={"token": link_token}, headers=SAME_ORIGIN)

    assert statuses == [403] * 10
    assert (refused.status_code, by_link.status_code) == (429, 429)
    assert 50 <= int(refused.headers["Retry-After"]) <= 60
    assert f"try again in {refused.headers['Retry-After']} seconds" in refused.text
    assert post_key(app, key, address="::1").status_code == 303
    a_minute_later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: a_minute_later)
    assert post_key(app, key).status_code == 303


def test_keys_and_tokens_are_not_logged(
    app: Flask,
    signed_in_client: FlaskClient,
    link_token: str,
    key: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("DEBUG")
    app.test_client().get(f"{HOME}/link?token={link_token}")
    app.test_client().post(f"{HOME}/link?token={link_token}", data={"token": link_token}, headers=SAME_ORIGIN)
    post_key(app, key)
    page = signed_in_client.post(
        f"{HOME}/keys/new", data={"token": form_token(signed_in_client), "name": "a", "scope": "read"}
    ).text

    logged = caplog.text + capsys.readouterr().err
    assert "GET /settings/developer/link 200" in logged
    secrets = [
        link_token,
        key,
        session_token(signed_in_client),
        form_token(signed_in_client),
        *re.findall("cfk_[0-9A-Za-z]{36}", page),
    ]
    assert len(secrets) >= 5
    assert [secret for secret in secrets if secret in logged] == []


PAGES = [
    pytest.param("GET", HOME, 200, id="keys"),
    pytest.param("GET", f"{HOME}/keys/new", 200, id="form"),
    pytest.param("POST", f"{HOME}/keys/new", 403, id="forged"),
    pytest.param("GET", f"{HOME}/keys/nobody/delete", 404, id="no-key"),
    pytest.param("GET", f"{HOME}/nothing", 404, id="nothing"),
    pytest.param("GET", "/settings", 404, id="above"),
    pytest.param("PUT", HOME, 405, id="method"),
    pytest.param("GET", f"{HOME}/sign-in", 200, id="sign-in"),
    pytest.param("GET", f"{HOME}/link", 403, id="no-link"),
]


@pytest.mark.parametrize(("method", "path", "status"), PAGES)
def test_every_page_has_the_security_headers(
    signed_in_client: FlaskClient, method: str, path: str, status: int
) -> None:
    response = signed_in_client.open(path, method=method)

    assert (response.status_code, response.content_type) == (status, "text/html; charset=utf-8")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert "<main" in response.text and "<style" not in response.text and " style=" not in response.text
    assert status != 405 or response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_an_unexpected_exception_is_a_500_page_without_its_message(
    signed_in_client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.overview.scale", lambda *_bars: {}["the secret"])
    response = signed_in_client.get(HOME)

    assert (response.status_code, response.mimetype) == (500, "text/html")
    assert response.headers["X-Request-Id"] in response.text
    assert "secret" not in response.text


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("form", "status"),
    [
        pytest.param({"name": "x" * 700_000}, 422, id="long-field"),
        pytest.param({f"field-{number}": "" for number in range(5000)}, 422, id="many-parts"),
        pytest.param({"name": "x" * 1024 * 1024}, 413, id="too-large"),
    ],
)
def test_only_a_form_over_1_mib_is_too_large(signed_in_client: FlaskClient, form: dict[str, str], status: int) -> None:
    fields = {"token": form_token(signed_in_client), **form}.items()
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields]
    body = "".join([*parts, "--x--\r\n"])
    response = signed_in_client.post(f"{HOME}/keys/new", data=body, content_type="multipart/form-data; boundary=x")

    assert (response.status_code, response.mimetype) == (status, "text/html")
    assert ("larger than 1 MiB" in response.text) is (status == 413)

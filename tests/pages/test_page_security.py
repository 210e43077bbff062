"""Every page needs a session, refuses forms of other sites, and has the security headers."""

import re
from io import BytesIO
from typing import Any

import pytest
from flask import Flask, g
from flask.testing import FlaskClient

from pages.sessions import HOME, PATHS
from tests.conftest import Query
from tests.core.test_authentication import every_route
from tests.pages.conftest import SAME_ORIGIN, form_token, is_signed_in, post_key, session_token

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def test_every_page_except_sign_in_needs_a_session(app: Flask, anonymous: FlaskClient) -> None:
    routes = [route for route in every_route(app) if route[1].startswith(PATHS)]
    assert len(routes) >= 20
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
        ("/keys/x/delete", "OPTIONS, POST"),
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


def test_keys_and_tokens_are_not_logged(
    app: Flask,
    signed_in_client: FlaskClient,
    link_token: str,
    key: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("DEBUG")
    app.test_client().get(f"{HOME}/link?token={link_token}")
    app.test_client().post(f"{HOME}/link?token={link_token}", data={"token": link_token}, headers=SAME_ORIGIN)
    post_key(app, key)
    page = signed_in_client.post(
        f"{HOME}/keys/new", data={"token": form_token(signed_in_client), "name": "a", "scope": "read"}
    ).text

    logged = caplog.text + capfd.readouterr().err
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
    pytest.param("GET", f"{HOME}/keys/nobody", 404, id="no-key"),
    pytest.param("GET", f"{HOME}/nothing", 404, id="nothing"),
    pytest.param("GET", "/settings/nothing", 404, id="above"),
    pytest.param("PUT", HOME, 405, id="method"),
    pytest.param("GET", "/data/contacts", 200, id="data"),
    pytest.param("GET", "/data/contacts?limt=1", 400, id="wrong-parameter"),
    pytest.param("GET", "/data/contacts/nobody", 404, id="no-row"),
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
    response = signed_in_client.get("/settings/overview")

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


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("media_type", ["application/json", "application/x-www-form-urlencoded"])
def test_no_body_is_read_inside_a_transaction(
    app: Flask, admin: FlaskClient, signed_in_client: FlaskClient, media_type: str
) -> None:
    """A client that sends its body slowly would hold the write lock."""
    token, read, read_inside = form_token(signed_in_client), set(), set()

    class Body(BytesIO):
        def readinto(self, buffer: Any) -> int:
            in_transaction = "connection" in g and g.connection.in_transaction
            (read_inside if in_transaction else read).add(path)
            return super().readinto(buffer)

    data = b"{}" if media_type == "application/json" else f"token={token}".encode()
    for method, path in every_route(app):
        if method not in {"GET", "HEAD"} and not path.endswith("/sign-out"):
            client = admin if path.startswith("/api/") else signed_in_client
            options: dict[str, Any] = {"input_stream": Body(data), "content_length": len(data)}
            client.open(path, method=method, content_type=media_type, headers=SAME_ORIGIN, **options)
    assert read_inside == set()
    assert len(read) >= 15

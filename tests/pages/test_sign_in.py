"""Sign-in to the developer settings with an admin key or a link."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

import pytest
from flask import Flask
from flask.testing import FlaskClient

from auth import new_key
from database.columns import now
from database.connection import write_transaction
from pages.sessions import HOME
from tests.conftest import Query, run_external_sql
from tests.core.test_authentication import NewKey
from tests.pages.conftest import SAME_ORIGIN, is_signed_in, post_key, session_token

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
    def delete_key_and_begin() -> Iterator[None]:
        run_external_sql(database, "DELETE FROM api_keys")
        with write_transaction():
            yield

    monkeypatch.setattr("pages.sign_in.write_transaction", delete_key_and_begin)
    response = post_key(app, key)

    assert (response.status_code, INVALID_KEY in response.text) == (403, True)
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("by", ["key", "link"])
def test_signing_in_again_ends_the_previous_session(
    app: Flask, signed_in_client: FlaskClient, key: str, link_token: str, by: str
) -> None:
    other_client, previous_client = app.test_client(), app.test_client()
    other_client.post(f"{HOME}/sign-in", data={"key": key}, headers=SAME_ORIGIN)
    previous_client.set_cookie("cardfile_session", session_token(signed_in_client), path="/settings")
    path, form = {"key": ("/sign-in", {"key": key}), "link": ("/link", {"token": link_token})}[by]
    assert signed_in_client.post(HOME + path, data=form, headers=SAME_ORIGIN).status_code == 303

    assert [is_signed_in(each) for each in (signed_in_client, previous_client, other_client)] == [True, False, True]


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


@pytest.mark.parametrize("path", ["/sign-in", "/link"])
def test_a_form_with_another_origin_is_refused_with_both_values_and_the_fix(app: Flask, path: str) -> None:
    def refusal(**headers: str) -> str:
        response = app.test_client().post(f"{HOME}{path}", "http://crm.lan", data={"key": "x"}, headers=headers)
        assert (response.status_code, response.content_type) == (403, "text/html; charset=utf-8")
        return response.text

    page = refusal(Origin="http://crm.lan:8080")
    assert "Origin of this form is http://crm.lan:8080, but the address of the request is http://crm.lan." in page
    assert "proxy_set_header Host $http_host;" in page and "PROXIES=1" in page and "X-Forwarded-Proto" in page
    assert "Origin of this form is missing" in refusal()
    assert "is &lt;script&gt;&#34;" in refusal(Origin='<script>"')
    # The browser itself has compared the addresses.
    assert "PROXIES" not in refusal(Origin="http://crm.lan", **{"Sec-Fetch-Site": "cross-site"})


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
    a_minute_later = monotonic() + 61
    monkeypatch.setattr("api.rate_limits.monotonic", lambda: a_minute_later)
    assert post_key(app, key).status_code == 303


@pytest.mark.parametrize(
    "path", ["/data/companies?q=caf%C3%A9&limit=2", "/settings/activity", "/settings/overview", "/data"]
)
def test_signing_in_leads_back_to_the_page(anonymous: FlaskClient, new_key_with_scope: NewKey, path: str) -> None:
    sign_in = anonymous.get(path).headers["Location"]
    response = anonymous.post(sign_in, data={"key": new_key_with_scope("admin")}, headers=SAME_ORIGIN)

    assert (response.status_code, response.headers["Location"]) == (303, path)
    assert anonymous.get(path).status_code in {200, 302}


def test_signing_in_from_the_quickstart_leads_back_to_it(anonymous: FlaskClient, new_key_with_scope: NewKey) -> None:
    sign_in = anonymous.post(f"{HOME}/quickstart", headers=SAME_ORIGIN).headers["Location"]
    response = anonymous.post(sign_in, data={"key": new_key_with_scope("admin")}, headers=SAME_ORIGIN)

    assert (response.status_code, response.headers["Location"]) == (303, "/docs")


@pytest.mark.parametrize(
    "target",
    [
        "",
        "//evil.example",
        "https://evil.example/settings",
        "/settings.evil",
        "/api/v1/keys",
        "/\\evil.example",
        "/docs.evil",
    ],
)
def test_signing_in_leads_to_no_other_page(anonymous: FlaskClient, new_key_with_scope: NewKey, target: str) -> None:
    response = anonymous.post(
        f"{HOME}/sign-in", query_string={"next": target}, data={"key": new_key_with_scope("admin")}, headers=SAME_ORIGIN
    )

    assert (response.status_code, response.headers["Location"]) == (303, HOME)

"""Settings → Developer: the HTML of the keys, without a browser."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.key_uses import LastUse
from database.columns import now
from formats.values import format_time
from pages.sessions import COOKIE, HOME
from tests.conftest import Query, client_with_key
from tests.pages.conftest import form_token, session_token, table_rows

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def post_form(signed_in_client: FlaskClient, path: str, **form: str):
    return signed_in_client.post(HOME + path, data={"token": form_token(signed_in_client), **form})


def test_keys_are_listed_newest_first(signed_in_client: FlaskClient, query: Query) -> None:
    post_form(signed_in_client, "/keys/new", name="<b>Newsletter</b>", scope="write", days="7")
    used, expired = (format_time(now() - timedelta(**age)) for age in ({"minutes": 5}, {"days": 400}))
    query(f"UPDATE api_keys SET last_used_at = '{used}', expires_at = '{expired}' WHERE scope = 'write'")
    query("UPDATE api_keys SET created_at = '2024-01-02T03:04:05Z', last_used_at = NULL WHERE scope = 'admin'")

    newer, older = table_rows(signed_in_client.get(HOME).text, "Last used")
    assert newer == ["<b>Newsletter</b>", "write", "5 minutes ago", "0", "0", "expired 13 months ago"]
    assert older == ["the admin client's this session", "admin", "never", "0", "0", "never"]


@pytest.mark.parametrize("path", ["/settings", "/settings/"])
def test_settings_redirects_to_the_keys(signed_in_client: FlaskClient, path: str) -> None:
    assert signed_in_client.get(path).headers["Location"] == HOME


def test_a_key_has_the_requests_and_errors_of_the_last_day(
    app: Flask, signed_in_client: FlaskClient, new_key_with_scope: Callable[[str], str], query: Query
) -> None:
    client = client_with_key(app, new_key_with_scope("read"))
    for path in "contacts", "contacts", "contacts/nobody", "keys", "companies?x=1":
        client.get(f"/api/v1/{path}")
    client.post("/api/v1/contacts", json={"name": "Ann"})
    app.extensions["last_use"].stop()

    [[key_id, requests, errors]] = query("SELECT api_key_id, requests, errors FROM key_uses")
    assert (requests, errors) == (6, 4)
    page = signed_in_client.get(f"{HOME}/keys/{key_id}").text
    assert "6 requests, 4 errors" in page
    assert table_rows(signed_in_client.get(HOME).text, "Last used")[0][3:5] == ["6", "4"]
    for hours, shown in (23, "6"), (25, "0"):
        query(f"UPDATE key_uses SET hour = '{format_time(now() - timedelta(hours=hours))}'")
        assert table_rows(signed_in_client.get(HOME).text, "Last used")[0][3] == shown


def test_uses_of_several_processes_are_added_up_and_those_of_a_deleted_key_dropped(
    app: Flask, new_key_with_scope: Callable[[str], str], query: Query
) -> None:
    new_key_with_scope("read")
    [[key_id]] = query("SELECT id FROM api_keys")
    for uses in [key_id] * 3, [key_id, "deleted"]:
        last_use = LastUse(app)
        last_use.uses.extend(uses)
        last_use.stop()

    assert query("SELECT api_key_id, requests, errors FROM key_uses") == [(key_id, 4, 0)]


@pytest.mark.databases("sqlite")
def test_uses_are_stored_while_no_more_requests_come(
    app: Flask, new_key_with_scope: Callable[[str], str], query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_with_key(app, new_key_with_scope("read"))
    monkeypatch.setattr("api.key_uses.COUNTING_SECONDS", 0.05)
    app.extensions["last_use"].start()
    for _time in range(3):
        client.get("/api/v1/contacts")
    until = time.monotonic() + 5
    while query("SELECT sum(requests) FROM key_uses") != [(3,)]:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_keys_are_filtered_by_name_and_scope(signed_in_client: FlaskClient) -> None:
    for name, scope in ("Newsletter sync", "read"), ("NEWS", "write"), ("Chat", "write"):
        post_form(signed_in_client, "/keys/new", name=name, scope=scope)

    def found(query_string: str) -> list[str]:
        return [row[0] for row in table_rows(signed_in_client.get(f"{HOME}?{query_string}").text, "Last used")]

    assert found("q=news") == ["NEWS", "Newsletter sync"]
    assert found("scope=write") == ["Chat", "NEWS"]
    assert found("q=s&scope=read") == ["Newsletter sync"]
    page = signed_in_client.get(f"{HOME}?q=%3Cb%3E").text
    assert "No key matches the filter." in page and "&lt;b&gt;" in page


def test_a_rolled_key_is_shown_once_and_the_old_one_works_for_an_hour(
    app: Flask, signed_in_client: FlaskClient, new_key_with_scope: Callable[[str], str], query: Query
) -> None:
    old = new_key_with_scope("read")
    [[key_id]] = query("SELECT id FROM api_keys WHERE scope = 'read'")
    response = post_form(signed_in_client, f"/keys/{key_id}/roll")
    [key] = re.findall('<code id="key">(.*?)</code>', response.text)

    assert "stays valid for an hour" in response.text
    assert [client_with_key(app, each).get("/api/v1/contacts").status_code for each in (old, key)] == [200, 200]
    assert query("SELECT count(*) FROM api_keys") == [(2,)]
    assert post_form(signed_in_client, "/keys/nobody/roll").status_code == 404


def test_a_created_key_is_shown_once_and_works(app: Flask, signed_in_client: FlaskClient, query: Query) -> None:
    response = post_form(signed_in_client, "/keys/new", name=" Newsletter sync ", scope="read", days=" 90 ")

    assert response.status_code == 201
    [line] = re.findall('<code id="line">(.*?)</code>', response.text)
    [key] = re.findall('<code id="key">(.*?)</code>', response.text)
    assert unescape(line) == f'curl -H "Authorization: Bearer {key}" http://localhost/api/v1/companies'
    assert client_with_key(app, key).get("/api/v1/companies").status_code == 200
    assert client_with_key(app, key).get("/api/v1/keys").status_code == 403
    assert key not in signed_in_client.get(HOME).text
    [[scope, expires_at]] = query("SELECT scope, expires_at FROM api_keys WHERE name = ' Newsletter sync '")
    in_days = datetime.fromisoformat(str(expires_at)) - datetime.now(UTC)
    assert (scope, timedelta(days=89, hours=23) < in_days <= timedelta(days=90)) == ("read", True)


@pytest.mark.databases("sqlite")
def test_the_curl_command_has_the_requested_host(app: Flask, signed_in_client: FlaskClient) -> None:
    headers = {"Host": "my_host:8000", "Cookie": f"{COOKIE}={session_token(signed_in_client)}"}
    form = {"token": form_token(signed_in_client), "name": "CI", "scope": "read"}
    response = app.test_client(use_cookies=False).post(f"{HOME}/keys/new", data=form, headers=headers)

    assert response.status_code == 201
    assert " http://my_host:8000/api/v1/companies</code>" in response.text


def test_a_key_without_days_does_not_expire(signed_in_client: FlaskClient, query: Query) -> None:
    assert post_form(signed_in_client, "/keys/new", name="CI", scope="read", days="").status_code == 201

    assert query("SELECT expires_at FROM api_keys WHERE name = 'CI'") == [(None,)]


@pytest.mark.parametrize(
    ("form", "errors"),
    [
        pytest.param({"name": ""}, {"name": "Must not be blank"}, id="no-name"),
        pytest.param({"name": "  "}, {"name": "Must not be blank"}, id="only-spaces"),
        pytest.param({"name": "\u200b"}, {"name": "Character 1 is U+200B (ZERO WIDTH SPACE)."}, id="invisible"),
        pytest.param({"name": "x" * 256}, {"name": "Must have at most 255 characters, not 256."}, id="long-name"),
        pytest.param({"name": "a\0b"}, {"name": "NUL"}, id="nul"),
        pytest.param({"scope": "root"}, {"scope": "Must be one of read, write, admin."}, id="scope"),
        pytest.param({"scope": ""}, {"scope": "Must be one of read, write, admin."}, id="no-scope"),
        pytest.param({"days": "0"}, {"days": "Must be a whole number from 1 to 36500"}, id="no-days"),
        pytest.param({"days": "36501"}, {"days": "Must be a whole number from 1 to 36500"}, id="many-days"),
        pytest.param({"days": "9" * 5000}, {"days": "Must be a whole number from 1 to 36500"}, id="5000-digits"),
        pytest.param({"days": "0365009999"}, {"days": "Must be a whole number from 1 to 36500"}, id="padded-days"),
        pytest.param({"days": "1.5"}, {"days": "Must be a whole number from 1 to 36500"}, id="half-days"),
        pytest.param({"days": "٣"}, {"days": "Must be a whole number from 1 to 36500"}, id="other-digits"),
        pytest.param(
            {"name": '"><script>', "scope": "x", "days": "<soon>"},
            {"scope": "Must be one of", "days": "Must be a whole number"},
            id="several",
        ),
    ],
)
def test_an_invalid_field_has_its_error_beside_it(
    signed_in_client: FlaskClient, query: Query, form: dict[str, str], errors: dict[str, str]
) -> None:
    typed = {"name": "CI", "scope": "write", "days": "30"} | form
    response = post_form(signed_in_client, "/keys/new", **typed)

    assert response.status_code == 422
    shown = dict(re.findall(r'<p class="fault" id="(\w+)-fault">(.*?)</p>', response.text))
    assert shown.keys() == errors.keys()
    assert all(error in shown[field] for field, error in errors.items())
    kept = dict(re.findall(r'<input id="(\w+)" name="\w+" value="(.*?)"', response.text))
    assert {name: unescape(value) for name, value in kept.items()} == {"name": typed["name"]}
    checked = re.findall('name="(scope|days)" value="(.*?)" checked', response.text)
    assert dict(checked) == {name: typed[name] for name in ("scope", "days") if name not in errors}
    assert query("SELECT count(*) FROM api_keys") == [(1,)]


def test_a_key_is_deleted_on_its_page(
    app: Flask, signed_in_client: FlaskClient, new_key_with_scope, query: Query
) -> None:
    key = new_key_with_scope("read")
    [[key_id]] = query("SELECT id FROM api_keys WHERE scope = 'read'")

    page = signed_in_client.get(f"{HOME}/keys/{key_id}")
    assert "the read client&#39;s" in page.text and "signs you out" not in page.text
    assert client_with_key(app, key).get("/api/v1/companies").status_code == 200

    assert post_form(signed_in_client, f"/keys/{key_id}/delete").headers["Location"] == HOME
    assert client_with_key(app, key).get("/api/v1/companies").status_code == 401
    for response in (
        signed_in_client.get(f"{HOME}/keys/{key_id}"),
        post_form(signed_in_client, f"/keys/{key_id}/delete"),
    ):
        assert (response.status_code, "may have been deleted already" in response.text) == (404, True)


def test_deleting_the_key_of_the_session_warns_and_signs_out(signed_in_client: FlaskClient, query: Query) -> None:
    [[key_id]] = query("SELECT id FROM api_keys")
    page = signed_in_client.get(f"{HOME}/keys/{key_id}").text
    assert "This key can't be deleted: no other admin key lasts as long." in page and "Delete key" not in page

    refused = post_form(signed_in_client, f"/keys/{key_id}/delete")
    assert (refused.status_code, "No other admin key lasts as long as this one: create one first." in refused.text) == (
        409,
        True,
    )
    post_form(signed_in_client, "/keys/new", name="another", scope="admin", days="30")
    assert "Delete key" not in signed_in_client.get(f"{HOME}/keys/{key_id}").text
    post_form(signed_in_client, "/keys/new", name="another", scope="admin")
    page = signed_in_client.get(f"{HOME}/keys/{key_id}").text
    assert "Deleting it signs you out" in page and "Delete key" in page
    assert post_form(signed_in_client, f"/keys/{key_id}/delete").status_code == 303
    assert signed_in_client.get(HOME).headers["Location"] == f"{HOME}/sign-in"
    assert query("SELECT * FROM sessions WHERE kind = 'session'") == []


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("name", ["style.css", "copy.js", "icon.svg"])
def test_static_files_need_no_key_and_are_cached_with_an_etag(anonymous: FlaskClient, name: str) -> None:
    response = anonymous.get(f"/static/{name}")
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-cache")

    again = anonymous.get(f"/static/{name}", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    response.close()
    again.close()


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    "path", ["nothing", "../service.py", "%2e%2e/service.py", "..%2f__init__.py", "%00", "%ff", "."]
)
def test_other_files_are_404(anonymous: FlaskClient, path: str) -> None:
    response = anonymous.get(f"/static/{path}")

    assert (response.status_code, response.content_type) == (404, "application/problem+json")

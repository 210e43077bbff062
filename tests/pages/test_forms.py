"""Forms of the pages work once: a page that is reloaded after its form was sent does nothing again."""

import io
import re
from hashlib import sha256

import pytest
from flask import Flask
from flask.testing import FlaskClient

from pages.sessions import HOME
from tests.conftest import Query
from tests.pages.conftest import SAME_ORIGIN, form_token

pytestmark = pytest.mark.databases("sqlite", "postgresql")

KEY = {"name": "CI", "scope": "read"}
# The path of each form, its fields, the tables that it adds a row to, and the page that its repetition leads to.
FORMS = [
    pytest.param(f"{HOME}/keys/new", KEY, "api_keys", HOME, id="key"),
    pytest.param(f"{HOME}/keys/KEY/roll", {}, "rolled_keys", HOME, id="roll"),
    pytest.param(
        "/settings/webhooks",
        {"url": "https://a.example", "events": "*"},
        "webhooks",
        "/settings/webhooks",
        id="webhook",
    ),
    pytest.param(
        "/settings/import", {"action": "import", "resource": "contacts"}, "contacts", "/settings/activity", id="import"
    ),
]


@pytest.mark.parametrize(("path", "fields", "table", "result"), FORMS)
@pytest.mark.parametrize("by", ["key", "link"])
def test_a_form_that_is_sent_again_changes_nothing_and_leads_to_its_result(
    app: Flask,
    signed_in_client: FlaskClient,
    link_token: str,
    query: Query,
    by: str,
    path: str,
    fields: dict[str, str],
    table: str,
    result: str,
) -> None:
    app.extensions["webhooks"].vault.keys = ("a key of the tests, long enough for all",)
    if by == "link":
        signed_in_client.post(f"{HOME}/link", data={"token": link_token}, headers=SAME_ORIGIN)
    # Its thread stores the times of use.
    app.extensions["last_use"].stop()
    [[key_id]] = query("SELECT id FROM api_keys")
    [[before]] = query(f"SELECT count(*) FROM {table}")
    form = {"token": form_token(signed_in_client), **fields}

    def send() -> tuple[int, str]:
        upload = {"upload": (io.BytesIO(b"name\nAnn\n"), "x.csv")} if table == "contacts" else {}
        response = signed_in_client.post(path.replace("KEY", key_id), data={**form, **upload})
        return response.status_code, response.text

    status, first = send()
    assert status in {200, 201}
    stored = query("SELECT * FROM api_keys ORDER BY id")
    for _reload in range(2):
        status, page = send()
        main = page.partition("<main")[2]
        assert (status, "This form was sent already" in main, f'href="{result}"' in main) == (409, True, True)
    assert query(f"SELECT count(*) FROM {table}") == [(before + 1,)]
    assert query("SELECT * FROM api_keys ORDER BY id") == stored
    # Neither the token nor what the page showed is stored.
    secrets = [*re.findall(r"cfk_\w{36}|whsec_[\w+/=]+", first), form["token"]]
    assert not any(secret in str(query(f"SELECT * FROM {name}")) for name in ("sessions", table) for secret in secrets)


def test_a_form_that_was_refused_works_when_it_is_correct(signed_in_client: FlaskClient, query: Query) -> None:
    form = {"token": form_token(signed_in_client), **KEY}
    refused = signed_in_client.post(f"{HOME}/keys/new", data={**form, "name": ""})
    [again] = re.findall(
        'class="fields" novalidate>\\s+<input type="hidden" name="token" value="([^"]+)"', refused.text
    )

    for token in form["token"], again:
        assert signed_in_client.post(f"{HOME}/keys/new", data={**form, "token": token}).status_code == 201
    assert query("SELECT count(*) FROM api_keys WHERE name = 'CI'") == [(2,)]


def test_a_session_makes_one_key_for_the_quickstart(signed_in_client: FlaskClient, key: str, query: Query) -> None:
    statuses = [signed_in_client.post(f"{HOME}/quickstart", headers=SAME_ORIGIN).status_code for _reload in range(2)]
    assert statuses == [201, 409]
    assert query("SELECT count(*) FROM api_keys WHERE name = 'Quickstart'") == [(1,)]
    signed_in_client.post(f"{HOME}/sign-in", data={"key": key}, headers=SAME_ORIGIN)
    assert signed_in_client.post(f"{HOME}/quickstart", headers=SAME_ORIGIN).status_code == 201


def test_the_token_of_a_form_is_no_sign_in_link(app: Flask, signed_in_client: FlaskClient, query: Query) -> None:
    token = form_token(signed_in_client)
    signed_in_client.post(f"{HOME}/keys/new", data={"token": token, **KEY})
    [[stored]] = query("SELECT sha256 FROM sessions WHERE kind = 'link'")

    for text in token, token.partition(".")[2], stored:
        assert sha256(text.encode()).hexdigest() != stored
        response = app.test_client().post(f"{HOME}/link", data={"token": text}, headers=SAME_ORIGIN)
        assert response.status_code == 403

"""Fixtures for the pages: a client that is signed in, and a sign-in link."""

import re
from html import unescape

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database.connection import write_transaction
from pages.sessions import HOME, add_token
from tests.core.test_authentication import NewKey

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def post_key(
    app: Flask, key: str, headers: dict[str, str] = SAME_ORIGIN, address: str = "127.0.0.1", url: str = "http://a"
):
    environ = {"REMOTE_ADDR": address}
    return app.test_client().post(f"{HOME}/sign-in", url, data={"key": key}, headers=headers, environ_base=environ)


@pytest.fixture
def key(new_key_with_scope: NewKey) -> str:
    return new_key_with_scope("admin")


@pytest.fixture
def signed_in_client(app: Flask, key: str) -> FlaskClient:
    """Return a client that is signed in with an admin key."""
    client = app.test_client()
    assert client.post(f"{HOME}/sign-in", data={"key": key}, headers=SAME_ORIGIN).status_code == 303
    return client


@pytest.fixture
def link_token(app: Flask) -> str:
    """Return the token of a sign-in link, as `serve` prints it."""
    with app.app_context(), write_transaction():
        return add_token("link")


def is_signed_in(client: FlaskClient) -> bool:
    response = client.get(HOME)
    assert response.status_code == 200 or response.headers["Location"] == f"{HOME}/sign-in"
    return response.status_code == 200


def form_token(client: FlaskClient) -> str:
    found = re.search('name="token" value="([0-9a-f.-]{101})"', client.get(f"{HOME}/keys/new").text)
    assert found
    return found[1]


def session_token(client: FlaskClient) -> str:
    cookie = client.get_cookie("cardfile_session", path="/settings")
    assert cookie
    return cookie.value


def table_rows(page: str, caption: str) -> list[list[str]]:
    """Return the texts of the cells of the table that contains a caption, row by row."""
    [table] = [each for each in re.findall("<table.*?</table>", page, re.S) if caption in each]
    rows = re.findall("<tr>.*?</tr>", table.split("<tbody>")[1], re.S)
    cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.S) for row in rows]
    texts = [[unescape(" ".join(re.sub("<[^>]+>", " ", cell).split())) for cell in row] for row in cells]
    return [[text for text in row if text] for row in texts]

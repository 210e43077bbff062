"""The first API key where gunicorn, say, starts the app: CARDFILE_ADMIN_KEY, or a command that errors name."""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.first_key import NO_KEYS, NOT_USED
from auth import InvalidKey, Unauthenticated, create_key, new_key
from database.columns import now
from database.connection import write_transaction
from database.sqlite import WAL_RESET_BUG, driver
from service import create_app
from settings import InvalidSetting, load_settings
from tests.conftest import ExecutedStatement, Query, client_with_key

NewKey = Callable[..., str]
KEY, OTHER = new_key(), new_key()


@pytest.fixture
def start_app(database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """Return a function that starts an app like gunicorn, by the environment, and returns what it logs."""

    def start(**variables: str) -> str:
        caplog.clear()
        monkeypatch.setenv("DATABASE_URL", database)
        for name in "CARDFILE_ADMIN_KEY", "CARDFILE_ADMIN_KEY_FILE":
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with caplog.at_level(logging.WARNING, "cardfile"):
            create_app()
        return "\n".join(caplog.messages)

    return start


@pytest.fixture
def scope_of(app: Flask) -> Callable[[str], object]:
    """Return a function that returns the scope of a key, or the status of its refusal."""

    def find(key: str) -> object:
        response = client_with_key(app, key).get("/api/v1/keys/me")
        return response.json["scope"] if response.status_code == 200 else response.status_code

    return find


@pytest.mark.parametrize(
    "header", ["", "Basic YTpi", "Bearer nonsense", f"Bearer {KEY}"], ids=["none", "Basic", "malformed", "unknown"]
)
def test_401_says_how_to_create_the_first_key_until_there_is_one(
    anonymous: FlaskClient, new_key_with_scope: NewKey, header: str
) -> None:
    headers = {"Authorization": header}
    first = anonymous.get("/api/v1/companies", headers=headers)
    new_key_with_scope("read")
    later = anonymous.get("/api/v1/companies", headers=headers)

    assert (first.status_code, first.json["detail"]) == (401, NO_KEYS)
    details = {Unauthenticated.detail, InvalidKey.detail}
    assert later.status_code == 401 and later.json["detail"] in details
    assert later.headers["WWW-Authenticate"] == first.headers["WWW-Authenticate"]


def test_a_request_without_a_key_costs_no_query_once_there_is_one(
    anonymous: FlaskClient, reader: FlaskClient, statements: list[ExecutedStatement]
) -> None:
    anonymous.get("/api/v1/companies")
    assert len(statements) == 1
    for _time in range(3):
        assert anonymous.get("/api/v1/companies").json["detail"] == Unauthenticated.detail

    assert len(statements) == 1


def test_without_a_database_a_request_without_a_key_is_still_401(anonymous: FlaskClient, query: Query) -> None:
    query("DROP TABLE api_keys")

    response = anonymous.get("/api/v1/companies")
    assert (response.status_code, response.json["detail"]) == (401, Unauthenticated.detail)


def test_the_log_of_a_start_says_how_to_create_the_first_key(
    start_app: Callable[..., str], new_key_with_scope: NewKey
) -> None:
    assert start_app() == NO_KEYS
    new_key_with_scope("read")
    assert start_app() == ""


def test_the_log_of_a_start_says_what_to_do_about_the_wal_reset_bug(
    start_app: Callable[..., str], new_key_with_scope: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key_with_scope("read")
    for module in "api.first_key", "database.sqlite":
        monkeypatch.setattr(f"{module}.has_wal_reset_bug", lambda: True)

    assert start_app() == f"The database is opened by SQLite {driver.sqlite_version}{WAL_RESET_BUG}."


def test_the_key_of_the_environment_becomes_the_first_admin_key(
    start_app: Callable[..., str], scope_of: Callable[[str], object], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="utf-8")
    assert start_app(CARDFILE_ADMIN_KEY_FILE=str(tmp_path / "key")) == ""
    assert scope_of(KEY) == "admin"
    assert start_app(CARDFILE_ADMIN_KEY=KEY) == ""


@pytest.mark.parametrize("expires", [None, timedelta(seconds=-1)], ids=["valid", "expired"])
def test_another_key_of_the_environment_is_not_used_while_there_is_an_admin_key(
    app: Flask, start_app: Callable[..., str], scope_of: Callable[[str], object], expires: timedelta | None
) -> None:
    with app.app_context(), write_transaction():
        create_key("a", "admin", expires and now() + expires)

    assert start_app(CARDFILE_ADMIN_KEY=KEY) == NOT_USED
    assert scope_of(KEY) == 401


def test_a_deleted_or_rolled_key_does_not_come_back(
    app: Flask, admin: FlaskClient, start_app: Callable[..., str], scope_of: Callable[[str], object], query: Query
) -> None:
    with app.app_context(), write_transaction():
        deleted, _key = create_key("a", "admin", key=KEY)
        rolled, _key = create_key("b", "admin", key=OTHER)
    admin.delete(f"/api/v1/keys/{deleted}")
    admin.post(f"/api/v1/keys/{rolled}/roll")
    query("DELETE FROM rolled_keys")

    for key in KEY, OTHER:
        assert start_app(CARDFILE_ADMIN_KEY=key) == NOT_USED
        assert scope_of(key) == 401


def test_a_key_of_a_lesser_scope_does_not_become_an_admin_key(
    app: Flask, start_app: Callable[..., str], scope_of: Callable[[str], object]
) -> None:
    with app.app_context(), write_transaction():
        create_key("a", "read", key=KEY)

    assert start_app(CARDFILE_ADMIN_KEY=KEY) == NOT_USED
    assert scope_of(KEY) == "read"
    assert start_app(CARDFILE_ADMIN_KEY=OTHER) == ""
    assert scope_of(OTHER) == "admin"


@pytest.mark.parametrize(
    "key",
    ["secret", KEY[:-1], KEY[:-1] + "_", f"{KEY[:10]}{'aA'[KEY[10] == 'a']}{KEY[11:]}"],
    ids=["text", "short", "character", "checksum"],
)
@pytest.mark.parametrize("name", ["CARDFILE_ADMIN_KEY", "CARDFILE_ADMIN_KEY_FILE"])
def test_a_key_that_is_not_whole_stops_the_start_and_is_not_shown(
    start_app: Callable[..., str], query: Query, tmp_path: Path, name: str, key: str
) -> None:
    (tmp_path / "key").write_text(key, encoding="utf-8")
    with pytest.raises(InvalidSetting) as raised:
        start_app(**{name: key if name == "CARDFILE_ADMIN_KEY" else str(tmp_path / "key")})

    assert str(raised.value) == "CARDFILE_ADMIN_KEY must be a complete API key, as `keys generate` prints it."
    assert query("SELECT * FROM api_keys") == []


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), (b"\xff", "It is not UTF-8")], ids=["none", "bytes"]
)
def test_a_file_of_a_key_that_cannot_be_read_stops_the_start(
    start_app: Callable[..., str], tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidSetting) as raised:
        start_app(CARDFILE_ADMIN_KEY_FILE=str(path))

    assert str(raised.value) == f"CARDFILE_ADMIN_KEY_FILE must name a file that can be read, not '{path}': {reason}."


def test_a_variable_overrides_the_file_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{'a' * 32},{'b' * 32}\n", encoding="utf-8")
    environment = {"SECRET_KEY_FILE": str(tmp_path / "secret")}

    assert load_settings({}, environment).secret_key == ("a" * 32, "b" * 32)
    assert load_settings({}, environment | {"SECRET_KEY": "c" * 32}).secret_key == ("c" * 32,)
    assert load_settings({"secret_key": "d" * 32}, environment).secret_key == ("d" * 32,)
    assert load_settings({}, {"SECRET_KEY_FILE": ""}).secret_key == ()

"""Status codes, headers and problem documents of every response (RFC 9110, RFC 9457)."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from auth import new_key
from database import close_database, db
from tests.conftest import CreateRow, Query

PROBLEM_FIELDS = ["type", "title", "status", "detail", "requestId"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/companies/nobody", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/companies/", 404),
        ("GET", "//api/v1/companies", 404),
        ("GET", "/api/v1/companies/%00", 404),
        ("GET", "/api/v1/companies/%ff%fe", 404),
        ("GET", "/api/v1/companies/%ED%A0%80", 404),
        ("GET", "/api/v1/companies/" + "x" * 5_000, 404),
        ("GET", "/api/v1/contacts?companyId=%00", 400),
        ("GET", "/api/v1/contacts?companyId=%ED%A0%80", 400),
        ("GET", "/api/v1/contacts?%00=%00", 400),
        ("PUT", "/api/v1/companies", 405),
        ("POST", "/api/v1/companies/x", 405),
        ("POST", "/api/v1/companies", 415),
        ("DELETE", "/api/v1/companies/nobody", 404),
        ("TRACE", "/api/v1/companies", 405),
        ("BREW", "/api/v1/companies", 405),
    ],
)
def test_every_error_is_a_problem_document(admin: FlaskClient, method: str, path: str, status: int) -> None:
    response = admin.open(path, method=method)

    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert list(response.json) == PROBLEM_FIELDS
    assert response.json["status"] == status
    assert response.json["requestId"] == response.headers["X-Request-Id"]
    assert len(response.json["detail"]) > 10 and response.json["detail"].endswith(".")


def test_the_error_for_a_missing_row_names_its_id(reader: FlaskClient) -> None:
    assert reader.get("/api/v1/contacts/nobody").json["detail"] == "There is no contact with the id nobody."


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/api/v1/company", " Did you mean companies?"),
        ("/api/v1/contact/x", " Did you mean contacts?"),
        ("/api/v1/companies/", " Leave out the slash at its end."),
        ("/api/v1/companies/x/contacts", ""),
        ("/api/v1/", ""),
        ("/api/v2/companies", ""),
        ("/nothing", ""),
    ],
)
def test_the_error_for_an_unknown_path_names_the_one_that_was_probably_meant(
    reader: FlaskClient, path: str, hint: str
) -> None:
    assert reader.get(path).json["detail"] == f"There is nothing at this address.{hint}"


def test_the_error_for_another_path_names_those_of_the_api(reader: FlaskClient) -> None:
    detail = "There is nothing at this address. Known: companies, contacts, conversations, changes, snapshot, keys"
    assert reader.get("/api/v1/zzz").json["detail"].startswith(detail)


@pytest.mark.parametrize("resource", ["companies", "contacts", "conversations"])
def test_head_returns_the_length_of_get_and_no_body(reader: FlaskClient, resource: str, create_row: CreateRow) -> None:
    row_id = create_row(resource)
    for path in f"/api/v1/{resource}", f"/api/v1/{resource}/{row_id}":
        got, head = reader.get(path), reader.head(path)

        assert (head.status_code, head.data) == (200, b"")
        assert head.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.data))


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/companies", "GET, HEAD, OPTIONS, POST"),
        ("/api/v1/conversations/x", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/api/v1/keys", "GET, HEAD, OPTIONS, POST"),
        ("/api/v1/keys/x", "DELETE, OPTIONS"),
    ],
)
def test_options_and_405_list_the_allowed_methods(
    anonymous: FlaskClient, admin: FlaskClient, path: str, allowed: str
) -> None:
    options = anonymous.options(path)
    assert (options.status_code, options.data, "Content-Type" in options.headers) == (204, b"", False)
    assert sorted(options.headers["Allow"].split(", ")) == allowed.split(", ")

    refused = admin.open(path, method="BREW")
    assert (refused.status_code, refused.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    "path", ["/api/v1/companies", "/api/v1/companies/nobody", "/openapi.json", "/llms.txt", "/docs"]
)
def test_no_response_has_cors_headers_by_default(reader: FlaskClient, path: str) -> None:
    preflight = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,if-match"}
    for method in "OPTIONS", "GET":
        response = reader.open(path, method=method, headers={"Origin": "https://app.example", **preflight})
        assert "Access-Control" not in str(response.headers)


@pytest.mark.parametrize("host", ["", "a,b", "a b", "a/b", "user@a", "a:port", "a\tb", "a..b", "...", "a" * 64])
def test_an_invalid_host_header_is_400(reader: FlaskClient, host: str) -> None:
    response = reader.get("/api/v1/companies", headers={"Host": host})

    assert (response.status_code, response.content_type) == (400, "application/problem+json")
    # No page can link to such a host.
    assert reader.get("/settings/developer", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["crm.example", "127.0.0.1:8000", "[::1]:8000", "under_score.local"])
def test_a_valid_host_header_is_accepted(reader: FlaskClient, host: str) -> None:
    assert reader.get("/api/v1/companies", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("protocol", "name", "host"),
    [
        ("HTTP/1.0", "crm.example", "crm.example:8000"),
        # Granian's name of HTTP/1.0.
        ("HTTP/1", "::1", "[::1]:8000"),
        ("HTTP/1.1", "crm.example", None),
        ("HTTP/2", "crm.example", None),
    ],
)
def test_only_http_1_0_requires_no_host(
    reader: FlaskClient, create_row: CreateRow, protocol: str, name: str, host: str | None
) -> None:
    create_row("companies")
    create_row("companies")
    environ = {"SERVER_PROTOCOL": protocol, "SERVER_NAME": name, "SERVER_PORT": "8000", "HTTP_HOST": ""}
    response = reader.get("/api/v1/companies?limit=1", environ_overrides=environ)

    assert response.status_code == (200 if host else 400)
    assert host is None or response.headers["Link"].startswith(f"<http://{host}/api/v1/companies?")


def test_a_valid_request_id_is_returned(reader: FlaskClient) -> None:
    response = reader.get("/api/v1/companies/nobody", headers={"X-Request-Id": "job-7_a.b"})

    assert response.headers["X-Request-Id"] == response.json["requestId"] == "job-7_a.b"


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "é", pytest.param(new_key(), id="a-key")])
def test_an_invalid_request_id_is_replaced(reader: FlaskClient, sent: str) -> None:
    returned = reader.get("/api/v1/companies", headers={"X-Request-Id": sent}).headers["X-Request-Id"]

    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", returned)


def test_an_unexpected_exception_is_500_without_its_message(
    app: Flask, reader: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("the secret of the house")

    app._got_first_request = False
    app.add_url_rule("/api/v1/bug", "bug", fail)
    response = reader.get("/api/v1/bug")

    assert (response.status_code, list(response.json)) == (500, PROBLEM_FIELDS)
    assert "secret" not in response.text
    assert "the secret of the house" in caplog.text


@pytest.mark.parametrize("path", ["/api/v1/keys", "/api/v1/contacts"])
def test_a_locked_database_is_503_with_retry_after(
    app: Flask, admin: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("database.sqlite.BUSY_MILLISECONDS", 50)
    with app.app_context():
        close_database()
        with db.engine.connect() as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")
            response = admin.post(path, json={"name": "late"})

    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json["detail"] == "The database is busy or out of reach: try again."
    assert admin.post(path, json={"name": "later"}).status_code == 201


@pytest.mark.parametrize("path", ["/api/v1/keys", "/api/v1/contacts"])
def test_a_full_disk_is_507_and_stores_nothing(
    app: Flask, admin: FlaskClient, query: Query, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    # The thread that stores the last use of keys could keep a connection without the quota.
    monkeypatch.setattr(app.extensions["last_use"], "note", lambda key_id: None)
    before = len(admin.get(path).json)
    [[pages]] = query("PRAGMA page_count")
    with app.app_context():
        close_database()
        # SQLite reports a full disk and a reached page limit with the same error code.
        db.event.listen(db.engine, "connect", lambda raw, _record: raw.execute(f"PRAGMA max_page_count = {pages}"))
    statuses = [admin.post(path, json={"name": "x" * 255}).status_code for _number in range(40)]

    assert set(statuses) == {201, 507}
    assert len(admin.get(path).json) == before + statuses.count(201)

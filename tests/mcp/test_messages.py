"""The Model Context Protocol at `/mcp`: JSON-RPC 2.0 to the letter, three revisions, keys, Origin, limits."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service import create_app
from settings import VERSION, load_settings
from tests.conftest import client_with_key
from tests.mcp.conftest import ABOUT_CLIENT, META, STATELESS, call_tool, post_message, post_stateless

LEGACY = ["2025-11-25", "2025-06-18"]
VERSIONS = [STATELESS, *LEGACY]
OLD_META = {**ABOUT_CLIENT, f"{META}protocolVersion": "1900-01-01"}
LEGACY_META = {**ABOUT_CLIENT, f"{META}protocolVersion": "2025-11-25"}


DUPLICATES = (
    '"method": "ping"',
    '"id": 2',
    '"params": {"name": "find", "name": "describe"}',
    '"params": {"name": "describe", "arguments": {"resource": "companies", "resource": "contacts"}}',
    '"params": {"name": "find", "arguments": {"resource": "companies", "filters": {"name": "a", "name": "b"}}}',
    '"params": {"name": "save", "arguments": {"resource": "companies", "rows": [{"name": "a", "name": "b"}]}}',
)
NO_REQUESTS: list[tuple[str | bytes, int]] = [
    ("", -32700),
    ('{"jsonrpc": "2.0", "id": 1', -32700),
    (b"\xff", -32700),
    ("[" * 100_000, -32700),
    ("[]", -32600),
    ('[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600),
    ('"ping"', -32600),
    ('{"id": 1, "method": "ping"}', -32600),
    ('{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600),
    ('{"jsonrpc": "2.0", "id": 1}', -32600),
    ('{"jsonrpc": "2.0", "id": 1, "result": {}}', -32600),
    ('{"jsonrpc": "2.0", "id": 1, "method": 5}', -32600),
    ('{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600),
    ('{"jsonrpc": "2.0", "id": true, "method": "ping"}', -32600),
    ('{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', -32600),
    ('{"jsonrpc": "2.0", "id": {}, "method": "ping"}', -32600),
    *((f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", {part}}}', -32600) for part in DUPLICATES),
]


def test_what_is_no_request_is_an_error_without_id(reader: FlaskClient) -> None:
    for body, code in NO_REQUESTS:
        response = reader.post("/mcp", data=body, content_type="application/json")
        error = response.json["error"]
        assert (response.status_code, error["code"]) == (400, code), body
        assert response.json == {"jsonrpc": "2.0", "id": None, "error": error}
        assert len(error["message"]) > 10


def test_an_answer_has_the_id_of_its_request(reader: FlaskClient) -> None:
    for request_id in 0, -1, 10**30, "", "é\ud800", "7":
        message = json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "ping"})
        response = reader.post("/mcp", data=message, content_type="application/json")
        assert response.status_code == 200
        assert json.loads(response.data) == {"jsonrpc": "2.0", "id": request_id, "result": {}}


UNANSWERABLE: list[tuple[str, Any, int]] = [
    ("tools/lists", {}, -32601),
    ("resources/list", {}, -32601),
    ("notifications/initialized", {}, -32601),
    ("tools/list", [1], -32602),
    ("tools/list", None, -32602),
    ("tools/call", {"name": "nope"}, -32602),
    ("tools/call", {}, -32602),
    ("tools/call", {"name": ["find"]}, -32602),
    ("tools/call", {"name": "find", "arguments": []}, -32602),
]


def test_errors_have_the_statuses_of_the_revision(reader: FlaskClient) -> None:
    for method, params, code in UNANSWERABLE:
        message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        legacy = reader.post("/mcp", json=message)
        assert (legacy.status_code, legacy.json["error"]["code"], legacy.json["id"]) == (200, code, 7)
        status = 404 if code == -32601 else 400
        by_header = reader.post("/mcp", json=message, headers={"MCP-Protocol-Version": STATELESS})
        assert by_header.status_code == 400
        if isinstance(params, dict) and not isinstance(params.get("name"), list):
            stateless = post_stateless(reader, method, params)
            assert (stateless.status_code, stateless.json["error"]["code"]) == (status, code)


def test_an_error_of_the_protocol_is_concise(reader: FlaskClient) -> None:
    huge = "x" * 300_000
    for method, params in (huge, {}), ("tools/call", {"name": huge}), ("tools/call", {"name": [huge]}):
        assert len(post_message(reader, method, params).data) < 2000
    meta = {**ABOUT_CLIENT, f"{META}protocolVersion": huge}
    assert len(post_stateless(reader, "tools/list", meta=meta).data) < 2000


def test_an_unknown_tool_is_answered_by_those_of_the_key(reader: FlaskClient, writer: FlaskClient) -> None:
    reading, writing = "describe, find, get, changes", "save, update, delete, revert"
    for client, name, hint in (
        (reader, "finds", "Did you mean find?"),
        (reader, "nope", f"Known: {reading}."),
        (reader, "updte", f"Known: {reading}."),
        (writer, "updte", "Did you mean update?"),
        (writer, "nope", f"Known: {reading}, {writing}."),
    ):
        error = post_message(client, "tools/call", {"name": name}).json["error"]
        assert error["message"] == f"Unknown tool: {name}. {hint}"


def test_a_notification_is_accepted_without_an_answer(reader: FlaskClient) -> None:
    for method in "notifications/initialized", "notifications/cancelled", "tools/call", "unknown":
        response = reader.post("/mcp", json={"jsonrpc": "2.0", "method": method, "params": {"name": "find"}})
        assert (response.status_code, response.data) == (202, b"")
        assert "Content-Type" not in response.headers

    message = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    for version, status in *((each, 202) for each in (*LEGACY, "2026-07-28")), ("2024-11-05", 400), ("", 400):
        response = reader.post("/mcp", json=message, headers={"MCP-Protocol-Version": version})
        assert response.status_code == status
    assert (response.json["id"], response.json["error"]["code"]) == (None, -32022)


def test_initialize_agrees_on_a_revision(reader: FlaskClient) -> None:
    for asked, answered in *zip(LEGACY, LEGACY, strict=True), ("2024-11-05", LEGACY[0]), (None, LEGACY[0]):
        result = post_message(reader, "initialize", {"protocolVersion": asked, "capabilities": {}}).json["result"]
        assert result["protocolVersion"] == answered
        assert result["serverInfo"] == {"name": "cardfile", "title": "Cardfile", "version": VERSION}
        assert result["capabilities"] == {"tools": {}}
        assert "revert" in result["instructions"]
        later = post_message(reader, "tools/list", **{"MCP-Protocol-Version": answered})
        assert later.json["result"]["tools"]
        assert "resultType" not in later.json["result"]


def test_discover_tells_the_revisions_without_a_session(reader: FlaskClient) -> None:
    response = post_stateless(reader, "server/discover")
    result = response.json["result"]

    assert "Mcp-Session-Id" not in response.headers
    assert result["supportedVersions"] == VERSIONS
    assert result["_meta"][f"{META}serverInfo"]["name"] == "cardfile"
    assert (result["resultType"], result["cacheScope"]) == ("complete", "private")
    assert result["ttlMs"] > 0
    listed = post_stateless(reader, "tools/list").json["result"]
    assert (listed["resultType"], listed["cacheScope"]) == ("complete", "private")
    called = post_stateless(reader, "tools/call", {"name": "describe"}).json["result"]
    assert (called["resultType"], called["isError"]) == ("complete", False)
    assert post_stateless(reader, "initialize").status_code == 404


CONTRADICTIONS: list[tuple[dict[str, Any], int]] = [
    ({"Mcp_Method": "tools/call"}, -32020),
    ({"Mcp_Method": None}, -32020),
    ({"MCP_Protocol_Version": None}, -32020),
    ({"MCP_Protocol_Version": "2025-11-25"}, -32020),
    ({"meta": OLD_META}, -32020),
    ({"meta": OLD_META, "MCP_Protocol_Version": "1900-01-01"}, -32022),
    ({"meta": {}, "MCP_Protocol_Version": "1900-01-01"}, -32022),
    ({"meta": LEGACY_META, "MCP_Protocol_Version": "2025-11-25"}, -32022),
    ({"meta": {}}, -32602),
    ({"meta": None}, -32602),
    ({"meta": {**ABOUT_CLIENT, f"{META}protocolVersion": 5}}, -32602),
    ({"meta": {f"{META}protocolVersion": STATELESS}}, -32602),
]


def test_headers_and_body_must_agree_on_a_known_revision(reader: FlaskClient) -> None:
    for changed, code in CONTRADICTIONS:
        response = post_stateless(reader, "tools/list", **changed)
        error = response.json["error"]
        assert (response.status_code, error["code"], response.json["id"]) == (400, code, 7), changed
        if code == -32022:
            assert error["data"] == {"supported": VERSIONS, "requested": changed["MCP_Protocol_Version"]}


def test_the_name_of_the_tool_is_in_a_header(reader: FlaskClient) -> None:
    names = {"describe": 200, "=?base64?ZGVzY3JpYmU=?=": 200, "find": 400, None: 400, "=?base64?ZGVz*Y3JpYmU=?=": 400}
    for name, status in names.items():
        response = post_stateless(reader, "tools/call", {"name": "describe"}, Mcp_Name=name)
        assert response.status_code == status, name
        assert status == 200 or response.json["error"]["code"] == -32020


def test_other_methods_are_not_allowed(reader: FlaskClient) -> None:
    for method in "GET", "DELETE", "PUT", "HEAD":
        response = reader.open("/mcp", method=method)
        assert response.status_code == 405
        assert "POST" in response.headers["Allow"]


def test_parameters_are_refused_in_the_address(writer: FlaskClient) -> None:
    response = writer.post("/mcp?dryRun=true", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert (response.status_code, "dryRun" in response.json["error"]["message"]) == (400, True)


def test_pages_of_other_origins_are_refused(reader: FlaskClient) -> None:
    assert post_message(reader, "ping").status_code == 200
    for origin in "http://localhost", "http://LOCALHOST":
        assert post_message(reader, "ping", Origin=origin).status_code == 200
    for origin in "https://localhost", "http://localhost:81", "http://evil.example", "null", "":
        assert post_message(reader, "ping", Origin=origin).status_code == 403


def test_a_key_is_required_as_by_the_api(anonymous: FlaskClient, app: Flask) -> None:
    without, wrong = post_message(anonymous, "ping"), post_message(client_with_key(app, "cfk_wrong"), "ping")

    assert {without.status_code, wrong.status_code} == {401}
    assert without.headers["WWW-Authenticate"] == 'Bearer realm="cardfile"'
    assert wrong.headers["WWW-Authenticate"] == 'Bearer realm="cardfile", error="invalid_token"'


def test_bodies_and_hosts_are_judged_as_by_the_api(reader: FlaskClient) -> None:
    assert reader.post("/mcp", data="{}", content_type="text/plain").status_code == 415
    assert reader.post("/mcp", data=b" " * 1024 * 1025, content_type="application/json").status_code == 413
    assert post_message(reader, "ping", Host="a b").status_code == 400


def test_a_refused_request_is_an_error_of_the_protocol(reader: FlaskClient, anonymous: FlaskClient) -> None:
    refused = {
        401: post_message(anonymous, "ping", Accept="text/html"),
        403: post_message(reader, "ping", Origin="https://evil.example"),
        413: reader.post("/mcp", data=b" " * 1024 * 1025, content_type="application/json"),
        415: reader.post("/mcp", data="{}", content_type="text/plain"),
    }

    for status, response in refused.items():
        assert (response.status_code, response.mimetype) == (status, "application/json")
        assert {**response.json, "error": None} == {"jsonrpc": "2.0", "id": None, "error": None}
        error = response.json["error"]
        assert (error["code"], error["message"]) == (-32603, error["data"]["detail"])
        assert error["data"]["requestId"] == response.headers["X-Request-Id"]
    # Other addresses have problems, also with a method that /mcp doesn't have.
    for response in reader.get("/mcp"), reader.get("/api/v1/nothing"):
        assert response.mimetype == "application/problem+json"


def test_a_call_counts_once_for_the_rate_limit(database: str, reader: FlaskClient) -> None:
    limited = create_app(load_settings({"database_url": database, "rate_limit": "2/hour"}, {}))
    client = client_with_key(limited, reader.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer "))

    for left in 1, 0:
        response = post_message(client, "tools/call", {"name": "find", "arguments": {"resource": "companies"}})
        assert response.headers["RateLimit"].startswith(f'"default";r={left};')
    refused = post_message(client, "ping")
    limited.extensions["last_use"].stop()
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)


def test_a_call_is_one_line_of_the_log_and_one_request_in_the_metrics(
    reader: FlaskClient, create_row: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    company = create_row("companies")
    call_tool(reader, "get", resource="companies", id=company)
    post_message(reader, "tools/call", {"name": "x/../secret"})

    lines = re.findall(r" (\w+) (\S+) (\d+) ", capfd.readouterr().err)
    assert lines == [("POST", "/mcp#get", "200"), ("POST", "/mcp", "200")]
    metrics = reader.get("/metrics").text
    assert re.findall(r'duration_seconds_count\{method="(\w+)",route="(\S+?)",status="200"\} (\S+)', metrics) == [
        ("POST", "/mcp", "2.0")
    ]


def test_an_error_has_no_key(reader: FlaskClient, new_key_with_scope: Callable[..., str]) -> None:
    key = new_key_with_scope("read")
    for method, params in (key, {}), ("tools/call", {"name": key}):
        response = post_message(reader, method, params)
        assert "cfk_[redacted]" in response.json["error"]["message"]
        assert key not in response.text


def test_headers_for_the_api_do_not_reach_its_views(writer: FlaskClient, create_row: Callable[..., str]) -> None:
    arguments = {"resource": "companies", "id": create_row("companies")}
    etag = writer.get(f"/api/v1/companies/{arguments['id']}").headers["ETag"]
    headers = {"If-None-Match": etag, "If-Match": '"other"', "Idempotency-Key": "1", "Prefer": "count=exact"}
    for name, extra in ("get", {}), ("update", {"fields": {}}), ("delete", {}):
        params = {"name": name, "arguments": arguments | extra}
        assert post_message(writer, "tools/call", params, **headers).json["result"]["isError"] is False


def test_the_response_belongs_to_no_row(reader: FlaskClient, create_row: Callable[..., str]) -> None:
    arguments = {"resource": "companies", "id": create_row("companies")}
    response = post_message(reader, "tools/call", {"name": "get", "arguments": arguments})

    assert "ETag" not in response.headers
    assert response.headers["Dataset-Version"] == "1"
    assert response.headers["X-Request-Id"]

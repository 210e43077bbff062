"""Fixtures for the tests of the protocol: messages to `/mcp`, by clients with keys of each scope."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

META = "io.modelcontextprotocol/"
STATELESS = "2026-07-28"
ABOUT_CLIENT = {f"{META}protocolVersion": STATELESS, f"{META}clientCapabilities": {}}
Call = Callable[..., dict[str, Any]]


def post_message(client: FlaskClient, method: str, params: Any = None, **headers: str) -> TestResponse:
    """Send a request of an earlier revision, which needs no headers."""
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}
    return client.post("/mcp", json=message, headers=headers)


def post_stateless(
    client: FlaskClient, method: str, params: Any = None, meta: Any = ABOUT_CLIENT, **changed: str | None
) -> TestResponse:
    """Send a request of revision 2026-07-28, with some of its headers changed, or left out by None."""
    params = {"_meta": meta, **(params or {})}
    headers = {"MCP-Protocol-Version": STATELESS, "Mcp-Method": method}
    headers |= {"Mcp-Name": params["name"]} if method == "tools/call" and "name" in params else {}
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    return client.post("/mcp", json=message, headers={name: text for name, text in headers.items() if text is not None})


def call_tool(client: FlaskClient, name: str, /, **arguments: Any) -> dict[str, Any]:
    """Call a tool; return its result, with the text of its content as `text`."""
    response = post_message(client, "tools/call", {"name": name, "arguments": arguments})
    assert response.status_code == 200, response.text
    result = response.json["result"]
    [content] = result["content"]
    return {**result, "text": content["text"]}


@pytest.fixture
def call(writer: FlaskClient) -> Call:
    """Return a function that calls a tool with a key of scope write, and returns its text and data."""

    def run(name: str, /, **arguments: Any) -> dict[str, Any]:
        result = call_tool(writer, name, **arguments)
        assert not result["isError"], result["text"]
        return {**result["structuredContent"], "text": result["text"]}

    return run


@pytest.fixture
def refuse(writer: FlaskClient) -> Callable[..., str]:
    """Return a function that calls a tool, which must refuse its arguments, and returns its text."""

    def run(name: str, /, **arguments: Any) -> str:
        result = call_tool(writer, name, **arguments)
        assert result["isError"], result["text"]
        return str(result["text"])

    return run

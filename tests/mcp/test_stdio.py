"""`cardfile mcp`: the protocol over standard input and output, by the database or a server."""

import http.client
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from tests.conftest import ROOT
from tests.mcp.conftest import ABOUT_CLIENT, call_tool

RunCommand = Callable[..., Result]
INITIALIZE = {"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}
INITIALIZED = {"method": "notifications/initialized"}


def call_of(name: str, request_id: Any = 2, **arguments: Any) -> dict[str, Any]:
    return {"id": request_id, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


def lines_of(*messages: dict[str, Any]) -> str:
    return "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in messages)


def answers_of(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def served(app: Flask) -> Iterator[str]:
    """Return the address of a server of the app, in a thread."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def serve_messages(
    run_command: RunCommand, database: str, served: str, new_key_with_scope: Callable[..., str]
) -> Callable[..., Result]:
    """Return a function that gives the command lines, with a new key, by the database or the server."""
    key = new_key_with_scope("write")

    def run(target: str, text: str | bytes) -> Result:
        urls = {"server": f"{served}/", "api": f"{served}/api/v1/", "endpoint": f"{served}/mcp"}
        options = {"database": ("--database", database)} | {name: ("--url", url) for name, url in urls.items()}
        return run_command("mcp", *options[target], input=text, env={"CARDFILE_KEY": key})

    return run


@pytest.mark.parametrize("target", ["database", "server", "api", "endpoint"])
def test_each_line_is_answered_on_a_line(serve_messages: Callable[..., Result], target: str) -> None:
    stateless = {"id": "a", "method": "tools/list", "params": {"_meta": ABOUT_CLIENT}}
    stateless_call = call_of("describe", "b")
    stateless_call["params"]["_meta"] = ABOUT_CLIENT
    text = lines_of(INITIALIZE, INITIALIZED, call_of("save", resource="companies", rows=[{"name": "Zoë\u2028"[:3]}]))
    text += f"\n  \n{'nonsense' * 200_000}\n[]\n" + lines_of(
        stateless, stateless_call, call_of("find", 3, resource="companies")
    )

    answers = answers_of(serve_messages(target, text))
    assert [answer["id"] for answer in answers] == [1, 2, None, None, "a", "b", 3]
    assert answers[0]["result"]["protocolVersion"] == "2025-06-18"
    assert [answer["error"]["code"] for answer in answers[2:4]] == [-32700, -32600]
    assert [answer["result"]["resultType"] for answer in answers[4:6]] == ["complete"] * 2
    found = answers[6]["result"]["structuredContent"]
    assert [row["name"] for row in found["rows"]] == ["Zoë"]


def test_a_name_that_no_header_can_have_is_answered_like_any_other(serve_messages: Callable[..., Result]) -> None:
    names = "é", "a\nb", " find", "nope"
    messages = [{**call_of(name, name), "params": {"name": name, "_meta": ABOUT_CLIENT}} for name in names]

    for target in "database", "server":
        for name, answer in zip(names, answers_of(serve_messages(target, lines_of(*messages))), strict=True):
            assert answer["error"]["message"].startswith(f"Unknown tool: {name}."), answer


@pytest.mark.parametrize("target", ["database", "server"])
def test_each_call_is_a_request_of_its_own(
    serve_messages: Callable[..., Result], writer: FlaskClient, target: str
) -> None:
    save = call_of("save", resource="companies", rows=[{"name": "Acme"}])
    nothing = call_of("save", resource="companies", rows=[{"name": "Nobody"}], dryRun=True)
    same = call_of("save", resource="contacts", rows=[{"id": "x", "name": "Ann"}], matchOn="id")
    text = lines_of(save, nothing, save, same, same)
    first, _nothing, second, _new, again = answers_of(serve_messages(target, text))
    assert again["result"]["structuredContent"]["note"] == "Nothing changed."
    ids = [answer["result"]["structuredContent"]["requestId"] for answer in (first, second)]

    assert len({*ids}) == 2
    call_tool(writer, "revert", requestId=ids[0])
    assert [row["id"] for row in writer.get("/api/v1/companies").json] == [
        second["result"]["structuredContent"]["rows"][0]["id"]
    ]


def test_standard_output_has_answers_alone(serve_messages: Callable[..., Result]) -> None:
    result = serve_messages("database", lines_of(call_of("find", resource="companies")))

    assert len(result.stdout.splitlines()) == 1
    assert serve_messages("database", "").stdout == ""


def test_a_wrong_start_is_one_sentence(
    run_command: RunCommand, database: str, served: str, new_key_with_scope: Callable[..., str]
) -> None:
    key = new_key_with_scope("read", None)
    unknown = "cfk_GveQkqyZNSXmaUMzFRSlBOJql3LFWH4Is0qd"
    cases: list[tuple[str, tuple[str, ...], str]] = [
        ("", (), "CARDFILE_KEY must hold an API key"),
        ("x", (), "CARDFILE_KEY must hold an API key"),
        (unknown, ("--database", database), "This API key is not valid"),
        (unknown, ("--url", served), "This API key is not valid"),
        (key, ("--database", "sqlite:///none.db"), "There is no database at "),
        (key, ("--url", "http://127.0.0.1:1"), "http://127.0.0.1:1 can't be reached: "),
        (key, ("--url", "http://[x"), "http://[x can't be reached: "),
        (key, ("--url", "localhost:8000"), "localhost:8000 is not the address of a server"),
        (key, ("--url", "http://me:secret@localhost"), "Error: localhost is not the address of a server"),
        (key, ("--url", f"{served}/nowhere"), "No Cardfile with the endpoint /mcp is at this address (status 404)."),
    ]

    for key, options, sentence in cases:
        result = run_command("mcp", *options, input=lines_of(INITIALIZE), env={"CARDFILE_KEY": key})
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert [sentence in error for error in errors] == [True], result.stderr
        assert not key or key not in result.output


class Moody(BaseHTTPRequestHandler):
    """A server that accepts the key, then answers in ways that a proxy may."""

    replies: ClassVar[list[tuple[int, dict[str, str], bytes]]] = [
        (200, {}, b'{"jsonrpc":"2.0","id":0,"result":{}}'),
        (503, {}, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"Busy.","data":{"status":503}}}'),
        (502, {}, b"<html>Bad Gateway</html>"),
        (302, {"Location": "http://127.0.0.1:1/mcp"}, b""),
        (413, {}, b'{"type":"about:blank","title":"Request Entity Too Large","status":413}'),
        (401, {}, b"{}"),
    ]
    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, body = self.replies[len(self.seen)]
        self.seen.append(self.path)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        pass


def test_what_is_no_answer_becomes_an_error(run_command: RunCommand, new_key_with_scope: Callable[..., str]) -> None:
    server = HTTPServer(("127.0.0.1", 0), Moody)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    ping = {"id": 5, "method": "ping"}
    text = lines_of(ping, ping, ping, ping, INITIALIZED)
    options = "--url", f"http://127.0.0.1:{server.server_port}/crm/"
    result = run_command("mcp", *options, input=text, env={"CARDFILE_KEY": new_key_with_scope("read")})
    server.shutdown()
    thread.join()
    server.server_close()

    answers = answers_of(result)
    assert Moody.seen == ["/crm/mcp"] * 6
    assert [(answer["id"], answer["error"]["code"]) for answer in answers] == [(5, -32603)] * 4
    assert answers[0]["error"] == {"code": -32603, "message": "Busy.", "data": {"status": 503}}
    assert "may have stored a write: look before you repeat it (status 502)." in answers[1]["error"]["message"]
    assert "(status 302)" in answers[2]["error"]["message"]
    assert answers[3]["error"]["message"] == "The message is larger than the server accepts: send less at once."


def test_a_server_that_ends_meanwhile_is_an_error_of_the_message(
    run_command: RunCommand, new_key_with_scope: Callable[..., str], monkeypatch: pytest.MonkeyPatch, served: str
) -> None:
    ask = http.client.HTTPConnection.request
    asked: list[str] = []

    def ask_once(connection: http.client.HTTPConnection, *arguments: Any) -> None:
        asked.append(arguments[1])
        if len(asked) > 1:
            raise ConnectionResetError(104, "Connection reset by peer")
        ask(connection, *arguments)

    monkeypatch.setattr(http.client.HTTPConnection, "request", ask_once)
    ping = lines_of({"id": 5, "method": "ping"})
    result = run_command("mcp", "--url", served, input=ping, env={"CARDFILE_KEY": new_key_with_scope("read")})

    [answer] = answers_of(result)
    assert "can't be reached" not in answer["error"]["message"]
    assert "may have stored a write: look before you repeat it: [Errno 104] " in answer["error"]["message"]


def test_both_targets_at_once_are_refused(run_command: RunCommand, database: str) -> None:
    result = run_command("mcp", "--url", "http://127.0.0.1:1", "--database", database)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: Send messages to a server by --url, or open a database by --database, not both." in result.stderr


@pytest.mark.tools
def test_closed_streams_and_a_client_that_is_gone_leave_no_traceback(
    database: str, new_key_with_scope: Callable[..., str]
) -> None:
    program = f"'{sys.executable}' '{ROOT}/service.py' mcp --database '{database}'"
    environ = {**os.environ, "CARDFILE_KEY": new_key_with_scope("read")}
    ping = shlex.quote(lines_of({"id": 5, "method": "ping"}) * 3)
    sentence = "Error: Standard input and output must be open: MCP clients write and read there.\n"

    def run(line: str) -> str:
        command = ["/bin/sh", "-c", line]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=30).stderr

    assert run(f"{program} <&-") == sentence
    assert run(f"{program} </dev/null >&-") == sentence
    assert [
        line for line in run(f"printf %s {ping} | {program} | true").splitlines() if " POST /mcp " not in line
    ] == []

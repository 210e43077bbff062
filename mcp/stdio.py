"""The protocol over standard input and output: each line goes to `/mcp` of the app in this process, or of a server."""

import json
import re
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import IO, Any
from urllib.parse import urlsplit

from flask import Flask

from auth import API
from formats.json_text import InvalidJSON, parse_json
from mcp.protocol import INTERNAL_ERROR, META, PARSE_ERROR, in_base64

TIMEOUT_SECONDS = 60
PING = b'{"jsonrpc": "2.0", "id": 0, "method": "ping"}'
NO_ANSWER = "has not answered, but may have stored a write: look before you repeat it"

Answer = dict[str, Any]
# Returns the answer to a message with these headers, None for a notification.
Send = Callable[[bytes, dict[str, str]], Answer | None]


def to_app(app: Flask, headers: dict[str, str]) -> Send:
    """Return a function that sends a message to the app, with these headers and others."""

    def send(message: bytes, extra: dict[str, str]) -> Answer | None:
        # A context of its own: that of the command would keep the state of one message for the next.
        with app.app_context():
            response = app.test_client().post("/mcp", data=message, headers=extra | headers)
        return answer_in(response.status_code, response.data)

    return send


def to_server(url: str, headers: dict[str, str]) -> Send:
    """Return a function that sends a message to a server, with these headers and others."""
    scheme, _, rest = url.partition("://")

    def send(message: bytes, extra: dict[str, str]) -> Answer | None:
        if scheme not in {"http", "https"} or not rest or "@" in rest:
            return failure(f"{url.rpartition('@')[2]} is not the address of a server, as in http://127.0.0.1:8000.")
        fault = f"{url} can't be reached"
        try:
            parts = urlsplit(url)
            path = f"{parts.path.rstrip('/').removesuffix('/mcp').removesuffix(API)}/mcp"
            connect = HTTPSConnection if scheme == "https" else HTTPConnection
            with closing(connect(parts.netloc, timeout=TIMEOUT_SECONDS)) as connection:
                connection.connect()
                fault = f"{url} {NO_ANSWER}"
                connection.request("POST", path, message, extra | headers)
                response = connection.getresponse()
                return answer_in(response.status, response.read())
        except (OSError, HTTPException, ValueError) as error:
            return failure(f"{fault}: {error or type(error).__name__}.")

    return send


def failure(message: str, code: int = INTERNAL_ERROR) -> Answer:
    """Return the answer to a message that got none of the protocol."""
    return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}


def answer_in(status: int, body: bytes) -> Answer | None:
    """Return the answer in a response: that of the server, or an error if the response is another program's."""
    if status == 202:
        return None
    with suppress(ValueError, LookupError, AttributeError):
        answer = json.loads(body)
        if isinstance(answer, dict) and ("result" in answer or {"code", "message"} <= answer["error"].keys()):
            return answer
    return failure(reason_of(status))


def reason_of(status: int) -> str:
    """Return a sentence for a response that is not of the protocol, such as one of a proxy."""
    if status == 413:
        return "The message is larger than the server accepts: send less at once."
    if status >= 500:
        return f"The server {NO_ANSWER} (status {status})."
    return f"No Cardfile with the endpoint /mcp is at this address (status {status})."


def relay(send: Send, lines: Iterable[bytes], output: IO[bytes]) -> None:
    """Send each line as a message, and write its answer as a line."""
    for line in filter(bytes.strip, lines):
        try:
            message = parse_json(line)
            answer = send(line, headers_of(message))
        except InvalidJSON as error:
            answer = failure(str(error), PARSE_ERROR)
        if answer and "result" not in answer and answer["error"]["code"] == INTERNAL_ERROR:
            # It may be about a message that was not read. A notification has no id, and no answer.
            message_id = message.get("id") if isinstance(message, dict) else None
            answer = answer | {"id": message_id} if type(message_id) in {str, int} else None
        if answer:
            output.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
            output.flush()


def headers_of(message: Any) -> dict[str, str]:
    """Return the headers that a message over HTTP has in the revision without sessions."""
    try:
        params, version = message["params"], message["params"]["_meta"][f"{META}protocolVersion"]
        found = {"MCP-Protocol-Version": version, "Mcp-Method": message["method"], "Mcp-Name": params.get("name")}
    except (LookupError, TypeError):
        return {}
    # Others are not sent, and so refused as missing.
    texts = {name: text for name, text in found.items() if isinstance(text, str)}
    return {name: text if re.fullmatch("[!-~]+", text) else in_base64(text) for name, text in texts.items()}

#!/usr/bin/env python3
"""Receive the messages of a webhook: `SECRET=whsec_… python3 examples/webhook_receiver.py [PORT]`, without packages.

It accepts a message only if its signature is valid and its time is recent. A repeated message has the same id.
To send to this computer, the server needs WEBHOOK_NETWORKS=private.
"""

import base64
import hmac
import json
import os
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer

if "SECRET" not in os.environ:
    sys.exit(__doc__)
SECRET = base64.b64decode(os.environ["SECRET"].removeprefix("whsec_"))
MAX_AGE_SECONDS = 300
# A real receiver keeps them in its database, in the transaction in which it handles the message.
handled: set[str] = set()


def is_genuine(headers: Mapping[str, str], body: bytes) -> bool:
    """Tell whether the sender knows the secret, and the message is not an old one that was replayed."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    digest = hmac.digest(SECRET, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    expected = f"v1,{base64.b64encode(digest).decode()}".encode()
    # While a secret is rotated, there are two signatures.
    signatures = headers.get("webhook-signature", "").encode().split()
    is_signed = any(hmac.compare_digest(expected, each) for each in signatures)
    return is_signed and abs(time.time() - int(timestamp)) < MAX_AGE_SECONDS


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 for messages that were handled, now or before, and 401 for all others."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Handle a message."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not is_genuine(self.headers, body):
            return self.answer(401)
        if self.headers["webhook-id"] not in handled:
            message = json.loads(body)
            print(message["type"], json.dumps(message["data"]), flush=True)
            handled.add(self.headers["webhook-id"])
        self.answer(204)

    def answer(self, status: int) -> None:
        """Send a response without a body."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Receiver)
    print(f"Listening on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()

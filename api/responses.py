"""Responses with JSON, and with text that clients cache."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from flask import Response, request


class JSONResponse(Response):
    """A response with JSON, NDJSON or CSV whose body is a list, sent without werkzeug's corrections of the headers.

    Granian sends a list at once: otherwise, pages are 16 to 18 % slower (`make bench ABLATE=answer-headers`).
    """

    def __init__(
        self,
        text: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        body = text.encode()
        own = [("Content-Type", content_type), ("Content-Length", str(len(body))), *(headers or {}).items()]
        super().__init__([body], status, own)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        start_response(self.status, self.headers.to_wsgi_list())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else self.response


def text_response(text: str, content_type: str) -> Response:
    """Return the text with an ETag and `Cache-Control: no-cache`, or 304 if the client has it (RFC 9110 §13)."""
    response = Response(text, content_type=content_type, headers={"Cache-Control": "no-cache"})
    response.set_etag(sha256(text.encode()).hexdigest()[:32])
    response.make_conditional(request)
    return response

"""A text as a response that clients can cache."""

from hashlib import sha256

from flask import Response, request


def text_response(text: str, content_type: str) -> Response:
    """Return the text with an ETag and `Cache-Control: no-cache`, or 304 if the client has it (RFC 9110 §13)."""
    response = Response(text, content_type=content_type, headers={"Cache-Control": "no-cache"})
    response.set_etag(sha256(text.encode()).hexdigest()[:32])
    response.make_conditional(request)
    return response

"""From values to the bytes of an answer."""

from typing import Any

from flask import Response

from database import write_json


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return the value as a JSON answer."""
    return Response(write_json(value), status, headers, content_type="application/json")

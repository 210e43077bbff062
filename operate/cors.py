"""`CORS_ORIGINS`: the origins whose pages may use the API in browsers (Fetch Standard, CORS protocol)."""

from functools import partial

from flask import Flask, Response, request

from auth import API
from settings import Settings

DOCUMENTS = {"/openapi.json", "/openapi-3.0.json"}
# Response headers that scripts can only read if they are listed.
EXPOSED = (
    "Allow, Content-Disposition, Dataset-Id, Dataset-Version, ETag, Idempotent-Replayed, Link, Location,"
    " Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id, X-Total-Count"
)
MAX_AGE_SECONDS = 7200


def init_cors(app: Flask, settings: Settings) -> None:
    """Let pages of the origins in the settings use the API; without the setting, browsers allow none."""
    if settings.cors_origins:
        app.before_request(answer_preflight)
        app.after_request(partial(add_headers, settings.cors_origins))


def is_shared() -> bool:
    """Tell whether the request is for the API or its description, and not for a page."""
    return f"{request.path}/".startswith(f"{API}/") or request.path in DOCUMENTS


def answer_preflight() -> Response | None:
    """Answer a preflight for any path, so that scripts can also read the 404 of an unknown one."""
    is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    return Response(status=204) if is_preflight and is_shared() else None


def add_headers(origins: frozenset[str], response: Response) -> Response:
    """Set the headers that allow the request's origin to read the response, or to send the request."""
    if not is_shared():
        return response
    headers, origin = response.headers, request.headers.get("Origin", "")
    response.vary.add("Origin")
    if origin and not origins.isdisjoint({origin, "*"}):
        headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
        headers["Access-Control-Expose-Headers"] = EXPOSED
        if request.method == "OPTIONS":
            headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST, PUT, PATCH, DELETE"
            headers["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "")
            headers["Access-Control-Max-Age"] = str(MAX_AGE_SECONDS)
    return response

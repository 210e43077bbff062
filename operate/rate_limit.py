"""`RATE_LIMIT`: how many requests an API key may send, and headers that say so."""

from functools import partial

from flask import Flask, Response, g

from api.rate_limits import RateLimit, TooManyRequests
from settings import Settings


def init_rate_limit(app: Flask, settings: Settings) -> None:
    """Count the requests of each key in this process, if the settings have a limit."""
    if settings.rate_limit:
        limit = RateLimit(*settings.rate_limit)
        app.before_request(partial(count_request, limit))
        app.after_request(partial(add_headers, limit))


def count_request(limit: RateLimit) -> None:
    """Count a request that has a valid key. Raises TooManyRequests."""
    if "key" in g:
        g.rate = remaining, seconds = limit.count(g.key.id)
        if remaining < 0:
            raise TooManyRequests("requests with this API key", seconds)


def add_headers(limit: RateLimit, response: Response) -> Response:
    """Set RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11) for requests with a valid key."""
    if "key" in g:
        # A request that the key's scope doesn't allow was refused before it was counted.
        remaining, seconds = g.get("rate") or limit.count(g.key.id)
        response.headers["RateLimit-Policy"] = f'"default";q={limit.quota};w={limit.seconds}'
        response.headers["RateLimit"] = f'"default";r={max(0, remaining)};t={seconds}'
    return response

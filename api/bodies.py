"""The body of a request, read strictly."""

from typing import Any

from flask import abort, request

from schemas import read_json


def read_body(*types: str) -> Any:
    """Return the value of the request's JSON body.

    Raises JSONRefused for one that isn't JSON; answers 415 for one that doesn't say it is, or not in UTF-8.
    """
    encoded = (request.content_encoding or "identity").lower() != "identity"
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype not in {"application/json", *types} or charset != "utf-8" or encoded:
        abort(415)
    return read_json(request.get_data())

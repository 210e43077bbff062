"""The OpenAPI description of the API, at `/openapi.json` and `/llms.txt`, generated from routes and schemas."""

import json

from flask import Blueprint, Flask, Response, current_app

from api.protocol import base_url
from api.responses import text_response
from auth import public
from openapi.description import Description
from openapi.document import ADDRESS
from openapi.llms import write_llms
from openapi.openapi_3_0 import convert

blueprint = Blueprint("openapi", __name__)


def init_openapi(app: Flask) -> None:
    """Register the routes, and give other rooms the description as `app.extensions["openapi"]`."""
    app.extensions["openapi"] = Description(app)
    app.register_blueprint(blueprint)


@blueprint.get("/openapi.json", defaults={"version": "3.1"})
@blueprint.get("/openapi-3.0.json", defaults={"version": "3.0"})
@public
def get_openapi(version: str) -> Response:
    """Return the OpenAPI document, in OpenAPI 3.1 or 3.0."""
    document = current_app.extensions["openapi"].document
    document = convert(document) | {"openapi": "3.0.3"} if version == "3.0" else document
    text = json.dumps(document, ensure_ascii=False)
    return text_response(text.replace(ADDRESS, base_url()), "application/json")


@blueprint.get("/llms.txt")
@public
def get_llms() -> Response:
    """Return the document as Markdown, for language models."""
    text = write_llms(current_app.extensions["openapi"])
    return text_response(text.replace(ADDRESS, base_url()), "text/plain; charset=utf-8")

"""`/openapi.json` and `/llms.txt`: what the API takes and answers, made of the code that does it."""

import json
from hashlib import sha256
from typing import Any

from flask import Blueprint, Flask, Response, current_app, request

from auth import public

documents = Blueprint("documents", __name__)


@documents.get("/openapi.json")
@public
def get_openapi() -> Response:
    """Answer the OpenAPI document."""
    return answer_document("openapi.json", "application/json")


@documents.get("/llms.txt")
@public
def get_llms() -> Response:
    """Answer the same as one page of Markdown, which a language model can read."""
    return answer_document("llms.txt", "text/plain; charset=utf-8")


def read_document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI document."""
    written = app.extensions.get("documents") or write_documents(app)
    return dict(json.loads(written["openapi.json"]))


def answer_document(name: str, content_type: str) -> Response:
    """Answer a document."""
    written = current_app.extensions.get("documents") or write_documents(current_app)
    return answer_text(written[name], content_type)


def answer_text(text: str, content_type: str) -> Response:
    """Answer a text that clients keep and ask about: a 304 where it is what they have."""
    response = Response(text, content_type=content_type, headers={"Cache-Control": "no-cache"})
    response.set_etag(sha256(text.encode()).hexdigest()[:32])
    response.make_conditional(request)
    return response


def write_documents(app: Flask) -> dict[str, str]:
    """Return the texts of the documents, by name, and keep them in the app."""
    # Imported when they are first asked for, because serving doesn't need apispec.
    from openapi.document import describe_api
    from openapi.guide import write_guide

    document = describe_api(app)
    texts = {"openapi.json": json.dumps(document, ensure_ascii=False), "llms.txt": write_guide(document)}
    app.extensions["documents"] = texts
    return texts

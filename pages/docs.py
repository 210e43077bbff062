"""`/docs`: the documentation, drawn from the OpenAPI description of the app."""

import json
import re
from functools import lru_cache
from typing import Any, NamedTuple

from flask import Blueprint, Response, abort, current_app, redirect, render_template, url_for
from markupsafe import Markup

from api.protocol import base_url
from api.responses import text_response
from auth import API, public
from pages.samples import Sample

blueprint = Blueprint("docs", __name__)

# The number of chapters that stand before the endpoints.
FIRST_CHAPTERS = 2
# The parameters with an input under "Try it"; there are too many filters to show all.
TRY_IT = {"id", "limit", "cursor", "sort", "q", "fields", "include", "companyId", "asOf", "since", "until", "net"}
TRY_IT |= {"resource", "keyId", "requestId"}

Part = dict[str, Any]


class Row(NamedTuple):
    """A row of a table of fields or parameters."""

    name: str
    type: str
    description: str
    required: bool


class Operation(NamedTuple):
    """An operation as the page shows it; `about` is its OpenAPI object, `parameters` has a list for each heading."""

    path: str
    method: str
    about: Part
    parameters: dict[str, list[Row]]
    filters: list[Row]
    request_fields: list[Row]
    response_fields: list[Row]
    sample: Sample
    response: str


@blueprint.get("/")
@public
def redirect_to_docs() -> Response:
    """Redirect to the documentation."""
    return redirect(url_for("pages.docs.show_docs"))  # type: ignore[return-value]


@blueprint.get("/docs")
@public
def show_docs() -> Response:
    """Return the documentation, with the address of the request in its examples; 404 without a description."""
    description = current_app.extensions.get("openapi")
    if description is None:
        abort(404, "This server has no OpenAPI description, so it has no documentation page.")
    here = base_url()
    text = description.document["info"]["description"].replace(description.address, here)
    introduction, *sections = re.split("^## ", text, flags=re.M)
    chapters = [section.split("\n", 1) for section in sections]
    page = render_template(
        "docs.html",
        introduction=introduction,
        first=dict(chapters[:FIRST_CHAPTERS]),
        last=dict(chapters[FIRST_CHAPTERS:]),
        tags={tag["name"]: tag["description"] for tag in description.document["tags"]},
        operations=[read_operation(description, *each) for each in description.operations],
        try_it=TRY_IT,
        url=f"{here}{API}",
    )
    return text_response(page, "text/html; charset=utf-8")


@lru_cache
def read_markdown(text: str, inline: bool = True) -> Markup:
    """Return Markdown as HTML, with HTML in it escaped; inline, without a paragraph around it."""
    # Imported here because only this page needs it.
    import mistune

    # Code that scrolls must be in reach of the keyboard.
    html = str(mistune.create_markdown()(text)).strip().replace("<pre>", '<pre tabindex="0">')
    return Markup(html.removeprefix("<p>").removesuffix("</p>") if inline else html)  # noqa: S704


def read_operation(description: Any, path: str, method: str, about: Part) -> Operation:
    """Return an operation of the description as the page shows it."""
    request, response = content_of(about.get("requestBody", {})), content_of(next(iter(about["responses"].values())))
    response_fields = fields_of(description, response)
    rows: dict[str, list[Row]] = {"path": [], "query": [], "header": [], "filter": []}
    address = base_url() + path
    for each in about["parameters"]:
        name, type_ = each["name"], description.type_in_words(each["schema"])
        is_filter = each["in"] == "query" and name.partition("[")[0] in {field.name for field in response_fields}
        row = Row(name, type_, each["description"], each.get("required", False))
        rows["filter" if is_filter else each["in"]].append(row)
        if each["in"] == "path":
            address = address.replace(f"{{{name}}}", each["example"])
    groups = {"Path parameters": rows["path"], "Query parameters": rows["query"], "Headers": rows["header"]}
    value, is_file = example_in(response), response.get("schema", {}).get("format") == "binary"
    sample = Sample(method, address, value is not None, example_in(request), is_file)
    example = json.dumps(value, indent=2, ensure_ascii=False) if value is not None else ""
    request_fields = fields_of(description, request)
    return Operation(path, method, about, groups, rows["filter"], request_fields, response_fields, sample, example)


def content_of(part: Part) -> Part:
    """Return the content of a request body or a response; empty without one."""
    return next(iter(part.get("content", {}).values()), {})


def example_in(content: Part) -> Any:
    """Return the first example, or None."""
    return content.get("example", next((each["value"] for each in content.get("examples", {}).values()), None))


def fields_of(description: Any, content: Part) -> list[Row]:
    """Return the fields of an object, of the objects in an array, or of the first of several alternatives."""
    schema = content.get("schema", {})
    while {"oneOf", "anyOf", "items", "$ref"} & {*schema}:
        alternatives = schema.get("oneOf") or schema.get("anyOf")
        schema = alternatives[0] if alternatives else description.resolve(schema.get("items", schema))
    required = schema.get("required", [])
    return [
        Row(name, description.type_in_words(each), each.get("description", ""), name in required)
        for name, each in schema.get("properties", {}).items()
    ]

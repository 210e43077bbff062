"""`/docs`: the documentation for people, drawn from the OpenAPI document."""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from flask import Blueprint, Response, current_app, redirect, render_template, url_for
from markupsafe import Markup

from api.protocol import base_url
from auth import API, public
from openapi import answer_text, read_document
from openapi.guide import operations_in, resolve, words_for
from pages.samples import Sample

docs = Blueprint("docs", __name__)

# The chapters of the guide that come before the endpoints.
FIRST = 2
# What can be filled in to try a list; there are too many filters to show a field for each.
TRIED = {"id", "limit", "cursor", "sort", "q", "fields", "include", "companyId", "since"}

Part = dict[str, Any]


class Row(NamedTuple):
    """A row of a table: what has the name, which values it takes, what it is."""

    name: str
    kind: str
    told: str
    required: bool


class Example(NamedTuple):
    """An operation as the page shows it."""

    tag: str
    id: str
    method: str
    path: str
    told: str
    parameters: list[Row]
    filters: list[Row]
    sent: list[Row]
    answered: list[Row]
    sample: Sample
    answer: str
    statuses: dict[str, str]

    @property
    def title(self) -> str:
        """Return the operation's id as words."""
        return re.sub("([A-Z])", lambda letter: f" {letter[1].lower()}", self.id).capitalize()

    @property
    def tried(self) -> list[Row]:
        """Return what can be filled in to try it."""
        return [row for row in (*self.parameters, *self.filters) if row.name in TRIED]


@docs.get("/")
@public
def go_to_docs() -> Response:
    """Send who asks for nothing in particular to the documentation."""
    return redirect(url_for("pages.docs.show_docs"))  # type: ignore[return-value]


@docs.get("/docs")
@public
def show_docs() -> Response:
    """Answer the documentation, its examples for the address that it was asked at."""
    document, here = read_document(current_app), base_url()
    guide = document["info"]["description"].replace("http://127.0.0.1:8000", here)
    introduction, *chapters = re.split("^## ", guide, flags=re.M)
    told = [chapter.split("\n", 1) for chapter in chapters]
    page = render_template(
        "docs.html",
        introduction=introduction,
        first=dict(told[:FIRST]),
        last=dict(told[FIRST:]),
        tags={tag["name"]: tag["description"] for tag in document["tags"]},
        examples=list(examples_of(document)),
        url=f"{here}{API}",
    )
    return answer_text(page, "text/html; charset=utf-8")


@lru_cache
def read_markdown(text: str, inline: bool = True) -> Markup:
    """Return a text of the document as HTML, the tags in it shown as text; inline, without a paragraph around it."""
    # Imported here because only this page needs it.
    import mistune

    html = str(mistune.create_markdown()(text)).strip()
    return Markup(html.removeprefix("<p>").removesuffix("</p>") if inline else html)  # noqa: S704


def examples_of(document: Part) -> Iterator[Example]:
    """Yield every operation of the document."""
    for path, method, operation in operations_in(document):
        shared = document["paths"][path].get("parameters", [])
        given = [resolve(document, each) for each in (*shared, *operation["parameters"])]
        statuses = {status: resolve(document, told) for status, told in operation["responses"].items()}
        yield example_of(document, (path, method, operation), given, statuses)


def example_of(document: Part, place: tuple[str, str, Part], given: list[Part], statuses: dict[str, Part]) -> Example:
    """Return an operation as the page shows it."""
    path, method, operation = place
    body = content_of(operation.get("requestBody", {}))
    answer = content_of(next(told for status, told in statuses.items() if status.startswith("2")))
    answered, example = rows_of(document, answer), example_in(answer)
    members = {row.name for row in answered}
    filters = [each for each in given if each["in"] == "query" and each["name"].partition("[")[0] in members]
    url = base_url() + fill_in(path, given)
    return Example(
        operation["tags"][0],
        operation["operationId"],
        method,
        path,
        f"{operation['summary']}. {operation['description']}",
        [parameter_row(each) for each in given if each not in filters],
        [parameter_row(each) for each in filters],
        rows_of(document, body),
        answered,
        Sample(method, url, example_in(body)),
        json.dumps(example, indent=2, ensure_ascii=False) if answer else "",
        {status: told["description"] for status, told in statuses.items()},
    )


def content_of(part: Part) -> Part:
    """Return how the JSON of a request or an answer is told, or nothing where there is none."""
    return next(iter(part.get("content", {}).values()), {})


def example_in(content: Part) -> Any:
    """Return the first example, or None."""
    return content.get("example", next((each["value"] for each in content.get("examples", {}).values()), None))


def rows_of(document: Part, content: Part) -> list[Row]:
    """Return the members of the object that is told of, or of the first where it is one of several."""
    schema = content.get("schema", {})
    while "properties" not in schema:
        if not schema:
            return []
        several = schema.get("oneOf") or schema.get("anyOf")
        schema = several[0] if several else resolve(document, schema.get("items", schema))
    required = schema.get("required", [])
    members = schema["properties"].items()
    return [Row(name, words_for(said), said.get("description", ""), name in required) for name, said in members]


def parameter_row(parameter: Part) -> Row:
    """Return the row of a parameter."""
    required = parameter.get("required", False)
    return Row(parameter["name"], words_for(parameter["schema"]), parameter["description"], required)


def fill_in(path: str, given: list[Part]) -> str:
    """Return a path with its parameters' examples in their places."""
    for each in given:
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", str(each["schema"]["examples"][0]))
    return path

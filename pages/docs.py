"""`/docs`: guides, and a reference of each resource, from the OpenAPI description of the app."""

import json
import re
from datetime import timedelta
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from flask import Blueprint, Response, abort, current_app, g, redirect, render_template, url_for
from markupsafe import Markup

import auth
from api.protocol import base_url
from api.responses import text_response
from auth import API, public
from database.columns import now
from database.connection import write_transaction
from pages.reference import Row, read_resource
from pages.samples import Example, read_parts
from pages.sessions import HOME, has_session
from pages.sign_in import refuse_other_sites

START = "quickstart"
KEY_LIFETIME = timedelta(days=30)
HTML = "text/html; charset=utf-8"

blueprint = Blueprint("docs", __name__)


class Section(NamedTuple):
    """A section of a guide: Markdown and examples. The one before the first heading has no name and no title."""

    name: str
    title: str
    parts: list[str | Example]


class Guide(NamedTuple):
    """A guide: a chapter of the description, whose first paragraph is its summary."""

    title: str
    summary: str
    text: str

    @property
    def sections(self) -> list[Section]:
        """The sections of the guide."""
        first, *others = re.split("^### (.*)\n", self.text, flags=re.M)
        pairs = [("", first), *zip(others[::2], others[1::2], strict=True)]
        return [Section(name_of(title), title, [*read_parts(text)]) for title, text in pairs]


@blueprint.get("/docs", defaults={"name": START}, strict_slashes=False)
@blueprint.get("/docs/<name>", strict_slashes=False)
@public
def show_docs(name: str) -> Response:
    """Return a guide, with the address of the request in its examples; 404 without a description."""
    return text_response(render_guide(name), HTML)


@blueprint.get("/docs/api/<tag>", strict_slashes=False)
@public
def show_resource(tag: str) -> Response:
    """Return the reference of a resource."""
    about = read_tags().get(tag) or abort(404)
    resource = read_resource(get_description(), tag)
    sections = [("object", f"The {resource.name.lower()} object", "")] if resource.name else []
    sections += [(each.name, each.about["summary"], each.method) for each in resource.operations]
    return text_response(render_page("docs_resource.html", tag, sections, about=about, resource=resource), HTML)


@blueprint.get("/docs/search.json")
@public
def show_search_index() -> Response:
    """Return the index for the search of the documentation: the URL, titles and text of each section."""
    entries: list[tuple[str, str, str, str]] = []
    for name, guide in read_guides().items():
        for section in guide.sections:
            url = url_for("pages.docs.show_docs", name=name, _anchor=section.name or None)
            text = " ".join(part for part in section.parts if isinstance(part, str))
            entries.append((url, section.title or guide.title, guide.title if section.title else "Guide", text))
    for tag, about in read_tags().items():
        resource, url = read_resource(get_description(), tag), url_for("pages.docs.show_resource", tag=tag)
        entries.append((url, tag.capitalize(), "Reference", f"{about} {words_of(resource.fields)}"))
        for each in resource.operations:
            words = words_of([*chain(*each.parameters.values()), *each.request_fields])
            entry = (each.about["summary"], f"{each.method} {each.path}", f"{each.about['description']} {words}")
            entries.append((f"{url}#{each.name}", *entry))
    return text_response(json.dumps(entries, ensure_ascii=False), "application/json")


@blueprint.post(f"{HOME}/quickstart")
@public
def create_quickstart_key() -> Any:
    """Create a key and show the quickstart with it; without a session, redirect to the sign-in page."""
    # The form has no token of a session, because its page is the same for everybody.
    refuse_other_sites()
    if not has_session():
        return redirect(url_for("pages.sign_in.show_sign_in", next="/docs"), 303)
    # Its page is the same for everybody, so that this form works once in a session.
    g.form = g.signed_in.sign("quickstart")
    with write_transaction():
        _key_id, key = auth.create_key("Quickstart", "write", now() + KEY_LIFETIME)
    return render_guide(START, key), 201


def render_guide(name: str, key: str = "") -> str:
    """Return the page of a guide, with an API key in its samples if there is one."""
    guide = read_guides().get(name) or abort(404)
    sections = [(each.name, each.title, "") for each in guide.sections if each.name]
    document = get_description().document
    errors = document["components"]["responses"].values() if name == "errors" else ()
    introduction = document["info"]["description"].partition("\n")[0]
    sections += [("status-codes", "Status codes", "")] if errors else []
    values = {"guide": guide, "key": key, "errors": errors, "introduction": introduction}
    return render_page("docs_guide.html", name, sections, **values)


def render_page(template: str, name: str, sections: list[tuple[str, str, str]], **values: Any) -> str:
    """Return a page with the table of contents of the documentation, and of the sections of this page."""
    contents = {"guides": read_guides(), "tags": read_tags(), "here": name, "sections": sections}
    return render_template(template, **contents, url=f"{base_url()}{API}", start=START, **values)


def get_description() -> Any:
    """Return the description of the app. 404 if it has none."""
    description = current_app.extensions.get("openapi")
    return description or abort(404, "This server has no OpenAPI description, so it has no documentation page.")


def read_guides() -> dict[str, Guide]:
    """Return the guides by name."""
    description = get_description()
    text = description.document["info"]["description"].replace(description.address, base_url())
    chapters = (chapter.split("\n", 1) for chapter in re.split("^## ", text, flags=re.M)[1:])
    return {name_of(title): Guide(title, text.strip().split("\n\n")[0], text) for title, text in chapters}


def read_tags() -> dict[str, str]:
    """Return the description of each tag."""
    return {tag["name"]: tag["description"] for tag in get_description().document["tags"]}


def name_of(title: str) -> str:
    """Return the name of a title in URLs."""
    return re.sub(r"\W+", "-", title.lower())


def words_of(rows: list[Row]) -> str:
    """Return the names and descriptions of fields or parameters, for the search index."""
    return " ".join(f"{row['name']} {row.get('description', '')}" for row in rows)


@lru_cache(1024)
def read_markdown(text: str, inline: bool = True) -> Markup:
    """Return Markdown as HTML, with HTML in it escaped; inline, without a paragraph around it."""
    # Imported here because only these pages need it.
    import mistune

    html = str(mistune.create_markdown(plugins=["table"])(text)).strip()
    return Markup(html.removeprefix("<p>").removesuffix("</p>") if inline else html)  # noqa: S704


def link_operations(html: str) -> Markup:
    """Link each operation that HTML names, as in `GET /api/v1/changes`, to the reference."""
    paths = get_description().document["paths"]

    def link(found: re.Match[str]) -> str:
        operation = paths.get(found[2], {}).get(found[1].lower())
        if operation is None:
            return found[0]
        url = url_for("pages.docs.show_resource", tag=operation["tags"][0], _anchor=operation["operationId"])
        return f'<a href="{url}">{found[0]}</a>'

    return Markup(re.sub("<code>([A-Z]+) (/[^<]+)</code>", link, html))  # noqa: S704

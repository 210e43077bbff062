"""The OpenAPI document says what the service does: no less, and no more."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from auth import API
from openapi.document import describe_api
from openapi.guide import operations_in, resolve
from schemas import RESOURCES, KeySchema
from seed import load_file
from service import create_app
from settings import load_settings
from tests.conftest import EXAMPLES, Make

GIVEN = json.loads(EXAMPLES.read_text())
Document = dict[str, Any]
# What every answer has that HTTP itself is about.
PLAIN = {"Content-Type", "Content-Length", "X-Content-Type-Options"}


@pytest.fixture
def document(app: Flask) -> Document:
    return describe_api(app)


def body_of(operation: Document) -> Any:
    content = next(iter(operation["requestBody"]["content"].values()))
    return content["example"] if "example" in content else content["examples"]["one"]["value"]


def test_every_route_is_an_operation_and_no_other_is(app: Flask, document: Document) -> None:
    routes = {
        (re.sub("<[^>]+>", "{id}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(API)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert {(path, method) for path, method, _operation in operations_in(document)} == routes


def test_operations_are_named_as_a_client_calls_them(document: Document) -> None:
    names = [operation["operationId"] for _path, _method, operation in operations_in(document)]

    for one, many in ("Company", "Companies"), ("Contact", "Contacts"), ("Conversation", "Conversations"):
        assert {f"list{many}", *(f"{verb}{one}" for verb in ("create", "get", "replace", "update", "delete"))} <= {
            *names
        }
    assert {"listChanges", "listKeys", "createKey", "deleteKey"} <= {*names}
    assert len(names) == len({*names}) == 22


def known_to(admin: FlaskClient, path: str, method: str) -> set[str]:
    """Return the parameters that an address knows, as it says itself to who asks for another."""
    answer = admin.open(f"{path}?zzzzzzzzzzzz=1".replace("{id}", "nobody"), method=method, json={"name": "a"})
    assert answer.status_code == 400
    return set(re.findall(r"\w+", answer.json["detail"].partition("Known: ")[2]))


def test_every_parameter_that_is_taken_is_described_and_no_other(
    admin: FlaskClient, document: Document, make: Make
) -> None:
    for path, method, operation in operations_in(document):
        taken = [resolve(document, given) for given in operation["parameters"]]
        query = {given["name"] for given in taken if given["in"] == "query"}
        known = known_to(admin, path, method)
        if "conversations" in path:
            # It is known, but no field of theirs can be matched on.
            known.discard("matchOn")

        assert {name for name in query if "[" not in name} == known, (path, method)


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_operator_that_a_field_has_is_described_and_no_other(
    reader: FlaskClient, document: Document, resource: str
) -> None:
    values = {"integer": "1", "number": "1", "boolean": "true"}
    described = {given.get("name") for given in document["paths"][f"{API}/{resource}"]["get"]["parameters"]}
    for name, value in GIVEN[resource][0].items():
        text = values.get(type(value).__name__) or str(value[0] if isinstance(value, list) else value)
        for operator in "gte", "gt", "lte", "lt", "ne", "eq", "like":
            answer = reader.get(f"{API}/{resource}", query_string={f"{name}[{operator}]": text})
            assert (answer.status_code == 200) is (f"{name}[{operator}]" in described), (name, operator, answer.json)


def test_every_member_of_a_row_is_explained_and_has_an_example() -> None:
    for schema in [*RESOURCES.values(), KeySchema()]:
        for name, field in schema.fields.items():
            assert re.fullmatch(r"[A-Z].*[.]", field.metadata["description"]), name
            assert field.metadata["examples"] != [None], name


def test_the_examples_are_the_rows_of_the_documentation(document: Document) -> None:
    for resource, rows in GIVEN.items():
        answer = document["paths"][f"{API}/{resource}"]["get"]["responses"]["200"]

        assert json.dumps(answer["content"]["application/json"]["example"]) == json.dumps(rows)


def exchanges(document: Document, client: FlaskClient) -> Iterator[tuple[Document, TestResponse]]:
    """Send every operation's example and yield what was answered, deletions at the end."""
    for path, method, operation in sorted(operations_in(document), key=lambda each: each[1] == "DELETE"):
        given = [resolve(document, each) for each in document["paths"][path].get("parameters", ())]
        address = path.format(**{each["name"]: each["schema"]["examples"][0] for each in given})
        body = {"json": body_of(operation)} if "requestBody" in operation else {}
        if "keys/" in path:
            address = f"{API}/keys/{client.get(f'{API}/keys').json[-1]['id']}"
        yield operation, client.open(address, method=method, **body)


def test_each_example_is_answered_as_the_example_says(
    app: Flask, admin: FlaskClient, new_client: Callable[[str], FlaskClient], document: Document
) -> None:
    with app.app_context():
        load_file(str(EXAMPLES))
    new_client("read")
    # What the server makes anew each time.
    made = {"createdAt", "updatedAt", "id", "key", "prefix", "at", "lastUsedAt", "name", "seq", "scope", "expiresAt"}
    for operation, answer in exchanges(document, admin):
        told = operation["responses"].get(str(answer.status_code))
        assert told and answer.status_code < 300, (operation["operationId"], answer.json)
        if answer.status_code == 204:
            continue
        content = told["content"]["application/json"]
        example = content["example"] if "example" in content else content["examples"]["one"]["value"]
        names = [operation["operationId"]]
        is_exact = names[0].startswith(("get", "replace", "update"))
        first, expected = (each[0] if isinstance(each, list) else each for each in (answer.json, example))
        assert list(first) == list(expected)
        drop = set() if is_exact else made
        assert {k: v for k, v in first.items() if k not in drop} == {k: v for k, v in expected.items() if k not in drop}


def test_an_answer_has_no_header_that_is_not_described(app: Flask, admin: FlaskClient, document: Document) -> None:
    with app.app_context():
        load_file(str(EXAMPLES))
    for operation, answer in exchanges(document, admin):
        told = operation["responses"][str(answer.status_code)]["headers"]
        assert set(answer.headers.keys()) - PLAIN <= set(told), operation["operationId"]
        assert {"X-Request-Id", "Dataset-Version"} <= set(answer.headers.keys()) & set(told)
    page = admin.get(f"{API}/companies?limit=1", headers={"Prefer": "count=exact"})
    told = document["paths"][f"{API}/companies"]["get"]["responses"]["200"]["headers"]
    assert set(page.headers.keys()) - PLAIN <= set(told)


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "contacts?limt=1", {}, 400),
        ("GET", "contacts", {"headers": {"Authorization": ""}}, 401),
        ("GET", "contacts/nobody", {}, 404),
        ("POST", "companies?matchOn=name", {"json": {"name": "twice"}}, 409),
        ("DELETE", "contacts/x", {"headers": {"If-Match": '"0"'}}, 412),
        ("POST", "contacts", {"data": b" " * 1_048_577, "content_type": "application/json"}, 413),
        ("POST", "contacts", {"data": b"{}"}, 415),
        ("POST", "contacts", {"json": {}}, 422),
    ],
)
def test_each_failure_looks_as_its_example(
    writer: FlaskClient, make: Make, document: Document, method: str, path: str, options: Any, status: int
) -> None:
    make("contacts", id="x")
    for name in "acme-1", "acme-2":
        make("companies", id=name, name="twice")
    answer = writer.open(f"{API}/{path}", method=method, **options)
    operation = document["paths"][f"{API}/{re.split('[?/]', path)[0]}{'/{id}' if '/' in path else ''}"][method.lower()]
    told = resolve(document, operation["responses"][str(status)])
    [content] = told["content"].values()

    assert answer.status_code == status
    assert answer.json | {"requestId": ""} == content["example"] | {"requestId": ""}
    assert set(answer.headers.keys()) - PLAIN <= set(told["headers"])


def test_a_scope_that_is_too_small_is_refused_where_the_document_says_so(
    reader: FlaskClient, document: Document
) -> None:
    for path, method, operation in operations_in(document):
        answer = reader.open(path.replace("{id}", "nobody"), method=method)
        [scope] = operation["security"][0]["key"]
        assert (answer.status_code == 403) is (scope != "read") is ("403" in operation["responses"])


@pytest.mark.parametrize("name", ["openapi.json", "llms.txt"])
def test_a_document_needs_no_key_and_is_not_sent_twice(anonymous: FlaskClient, name: str) -> None:
    answer = anonymous.get(f"/{name}")
    again = anonymous.get(f"/{name}", headers={"If-None-Match": answer.headers["ETag"]})

    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", answer.headers["ETag"])
    assert anonymous.post(f"/{name}").status_code == 405


def test_the_document_is_the_same_in_every_process(app: Flask, anonymous: FlaskClient, tmp_path: Any) -> None:
    other = create_app(load_settings({"database_url": f"sqlite:///{tmp_path}/other.db"}, {}))

    assert other.test_client().get("/openapi.json").data == anonymous.get("/openapi.json").data
    other.extensions["last_use"].stop()


def test_the_guide_names_every_operation_parameter_and_field(anonymous: FlaskClient, document: Document) -> None:
    guide = anonymous.get("/llms.txt").text

    assert guide.startswith("# Cardfile\n")
    for path, method, operation in operations_in(document):
        section = guide.partition(f"### {method} {path}\n")[2].partition("\n##")[0]
        assert operation["summary"] in section
        for given in operation["parameters"]:
            assert resolve(document, given)["name"].partition("[")[0] in [
                *re.findall("[A-Za-z-]+", section),
                "X-Request-Id",
            ]
    for rows in GIVEN.values():
        assert all(f"- `{name}`: " in guide for name in rows[0])

"""The OpenAPI document and llms.txt describe the whole API and nothing else."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.revert import RevertSchema
from auth import API
from formats import public_name
from openapi.description import Description
from openapi.operations import operations_of
from schemas import RESOURCES, KeySchema
from seed import load_file
from service import create_app
from settings import load_settings
from tests.conftest import EXAMPLES, CreateRow, run_external_sql

ROWS = json.loads(EXAMPLES.read_text(encoding="utf-8"))
Document = dict[str, Any]
REVERT = f"{API}/changes/revert"
ID_PATTERN = r"^(\.{0,2}[A-Za-z0-9_~-]|\.{3})[A-Za-z0-9._~-]*$"
# Headers of HTTP, which the document doesn't describe.
STANDARD_HEADERS = {"Content-Type", "Content-Length", "Vary", "X-Content-Type-Options"}


@pytest.fixture
def description(app: Flask) -> Description:
    return Description(app)


@pytest.fixture
def document(description: Description) -> Document:
    return description.document


def example_in(part: Document) -> Any:
    content = next(iter(part["content"].values()))
    return content["example"] if "example" in content else content["examples"]["one"]["value"]


def test_the_operations_are_the_routes_of_the_api(app: Flask, description: Description) -> None:
    routes = {
        (re.sub("<[^>]+>", "{id}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(API)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert {(path, method) for path, method, _operation in description.operations} == routes


def test_operation_ids_are_verb_and_noun(description: Description) -> None:
    names = [operation["operationId"] for _path, _method, operation in description.operations]

    for one, many in ("Company", "Companies"), ("Contact", "Contacts"), ("Conversation", "Conversations"):
        assert {f"list{many}", *(f"{verb}{one}" for verb in ("create", "get", "replace", "update", "delete"))} <= {
            *names
        }
    assert {"listChanges", "revertChanges", "listKeys", "createKey", "rollKey", "deleteKey"} <= {*names}
    assert len(names) == len({*names}) == 37


def test_summaries_are_two_or_three_words(description: Description) -> None:
    summaries = {operation["operationId"]: operation["summary"] for _path, _method, operation in description.operations}

    assert summaries["listCompanies"] == "List companies"
    assert summaries["createCompany"] == "Create a company"
    assert summaries["listChanges"] == "List changes"
    assert summaries["revertChanges"] == "Revert changes"
    assert summaries["deleteKey"] == "Delete a key"
    assert all(len(summary.split()) in {2, 3} for summary in summaries.values())


def test_descriptions_name_the_resource_and_the_scope(description: Description) -> None:
    for _path, _method, operation in description.operations:
        scope = operation["x-scope"]
        assert operation["description"].endswith(f". Requires a key with the `{scope}` scope.")
        assert operation["tags"][0] in {"keys", "changes"} or not re.search(
            r"\brows?\b|Raises", operation["description"]
        )


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("listChanges", "deletions included"),
        ("listChanges", "410 if it is in the future"),
        ("listChanges", "as it was before and after"),
        ("revertChanges", "of a request, of a key after a version, or all after a version"),
    ],
)
def test_descriptions_state_what_the_parameters_do_not(description: Description, name: str, fact: str) -> None:
    [text] = [each["description"] for _path, _method, each in description.operations if each["operationId"] == name]
    assert fact in text


def accepted_parameters(admin: FlaskClient, path: str, method: str) -> set[str]:
    """Return the parameters that a path accepts, from its error for an unknown parameter."""
    body = {"to": 0} if path == REVERT else {"name": "a"}
    response = admin.open(f"{path}?zzzzzzzzzzzz=1".replace("{id}", "nobody"), method=method, json=body)
    assert response.status_code == 400
    return set(re.findall(r"\w+", response.json["detail"].partition("Known: ")[2]))


def test_the_described_parameters_are_those_that_are_accepted(admin: FlaskClient, description: Description) -> None:
    for path, method, operation in description.operations:
        query = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        assert {name for name in query if "[" not in name} == accepted_parameters(admin, path, method), (path, method)


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_described_operators_are_those_that_are_accepted(
    reader: FlaskClient, document: Document, resource: str
) -> None:
    values = {"integer": "1", "number": "1", "boolean": "true"}
    described = {each.get("name") for each in document["paths"][f"{API}/{resource}"]["get"]["parameters"]}
    for name, value in ROWS[resource][0].items():
        text = values.get(type(value).__name__) or str(value[0] if isinstance(value, list) else value)
        for operator in "gte", "gt", "lte", "lt", "ne", "eq", "like":
            response = reader.get(f"{API}/{resource}", query_string={f"{name}[{operator}]": text})
            assert (response.status_code == 200) is (f"{name}[{operator}]" in described), (
                name,
                operator,
                response.json,
            )


def test_every_parameter_has_an_example_that_is_accepted(admin: FlaskClient, description: Description) -> None:
    for path, method, operation in description.operations:
        examples = {each["name"]: (each["in"], each["example"]) for each in operation["parameters"]}
        if "companies" not in path:
            # The example is a cursor of companies.
            examples.pop("cursor", None)
        for name, (place, example) in examples.items() if method == "GET" else ():
            values = example if isinstance(example, list) else [example]
            texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
            option = "query_string" if place == "query" else "headers"
            with admin.get(path.replace("{id}", "nobody"), **{option: {name: texts}}) as response:
                assert response.status_code == (404 if "{id}" in path else 200), (path, name, response.text)


def parts_of(part: Any) -> Iterator[Document]:
    """Yield all objects in a part of a document."""
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from parts_of(each)
    if isinstance(part, dict):
        yield part


def test_the_openapi_3_0_document_has_no_unions(anonymous: FlaskClient, document: Document) -> None:
    converted = anonymous.get("/openapi-3.0.json").json
    schemas = converted["components"]["schemas"]

    assert converted["openapi"] == "3.0.3"
    assert {*converted["paths"]} == {*document["paths"]}
    for part in parts_of(converted):
        assert not {"oneOf", "anyOf", "const"} & {*part} and part.get("type") != "null", part
        assert not isinstance(part.get("examples"), list), part
    assert schemas["Company"]["properties"]["website"] == {
        **document["components"]["schemas"]["Company"]["properties"]["website"]["anyOf"][0],
        "description": "The website: an http or https URL.",
        "example": "https://acme.com",
        "nullable": True,
    }
    assert schemas["Contact"]["properties"]["company"]["allOf"] == [{"$ref": "#/components/schemas/Company"}]
    assert schemas["Conversation"]["properties"]["visitorIp"]["type"] == "string"
    parameters = converted["paths"][f"{API}/companies"]["get"]["parameters"]
    filters = {each["name"]: each["schema"] for each in parameters if "name" in each}
    assert filters["dealValue"]["items"]["type"] == filters["dealValue[ne]"]["type"] == "number"


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_openapi_3_0_document_has_the_array_of_a_post_and_the_partial_rows_of_a_list(
    app: Flask, writer: FlaskClient, resource: str
) -> None:
    with app.app_context():
        load_file(str(EXAMPLES))
    path = writer.get("/openapi-3.0.json").json["paths"][f"{API}/{resource}"]
    request, response = (
        part["content"]["application/json"] for part in (path["post"]["requestBody"], path["post"]["responses"]["201"])
    )
    listed = path["get"]["responses"]["200"]["content"]["application/json"]["schema"]["items"]["$ref"]

    assert (request["schema"]["type"], response["schema"]["type"]) == ("array", "array")
    created = writer.post(f"{API}/{resource}", json=request["example"])
    assert created.status_code == 201
    assert list(created.json[0]) == list(response["example"][0])
    assert listed.rpartition("/")[2].startswith("Partial")


def test_every_field_has_a_description_and_an_example() -> None:
    for schema in [*RESOURCES.values(), KeySchema(), RevertSchema()]:
        for name, field in schema.fields.items():
            assert re.fullmatch(r"[A-Z].*[.]", field.metadata["description"]), name
            assert field.metadata["examples"] != [None], name


@pytest.mark.parametrize(
    ("schema", "field", "expected"),
    [
        ("Company", "name", {"type": "string", "maxLength": 255}),
        ("Company", "dealValue", {"type": "number", "minimum": 0, "maximum": 999_999_999_999.99, "multipleOf": 0.01}),
        ("Company", "position", {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}),
        ("Company", "isCustomer", {"type": "boolean"}),
        ("Company", "createdAt", {"type": "string", "format": "date-time"}),
        ("Contact", "email", {"type": "string", "maxLength": 255, "format": "idn-email"}),
        ("Contact", "id", {"type": "string", "maxLength": 64, "pattern": ID_PATTERN}),
        ("Conversation", "status", {"enum": ["open", "pending", "snoozed", "resolved", "closed"]}),
        ("Conversation", "tags", {"type": "array", "maxItems": 50, "uniqueItems": True}),
        ("NewKey", "scope", {"enum": ["read", "write", "admin"]}),
    ],
)
def test_a_schema_has_the_rules_of_its_field(document: Document, schema: str, field: str, expected: Document) -> None:
    found = document["components"]["schemas"][schema]["properties"][field]

    assert expected.items() <= found.get("anyOf", [found])[0].items()
    assert ({"type": "null"} in found.get("anyOf", [])) is (field in {"dealValue", "email"})


@pytest.mark.parametrize("schema", ["Company", "NewContact", "ContactPatch", "NewKey"])
def test_the_pattern_of_a_name_is_its_rule(document: Document, schema: str) -> None:
    pattern = document["components"]["schemas"][schema]["properties"]["name"]["pattern"]

    assert "\\U" not in pattern
    assert re.search(pattern, "Zoë \u200d 🦊 ")
    assert not any(re.search(pattern, name) for name in ("", " \u200b", "a\nb"))


def test_the_pattern_of_a_tag_is_its_rule(document: Document) -> None:
    tag = document["components"]["schemas"]["Conversation"]["properties"]["tags"]["items"]

    assert (tag["type"], tag["maxLength"], "\\U" in tag["pattern"]) == ("string", 64, False)
    assert re.search(tag["pattern"], " a\n")
    assert not any(re.search(tag["pattern"], text) for text in ("", " ", "\u0099", "\u200b\n"))


def test_examples_are_the_rows_of_the_documentation(document: Document) -> None:
    for resource, rows in ROWS.items():
        response = document["paths"][f"{API}/{resource}"]["get"]["responses"]["200"]

        assert json.dumps(response["content"]["application/json"]["example"]) == json.dumps(rows)


def send_examples(description: Description, client: FlaskClient) -> Iterator[tuple[Document, TestResponse]]:
    """Send the example of every operation, deletions and erasures last, and yield the operation with the response."""
    for path, method, operation in sorted(
        description.operations, key=lambda each: (each[0].endswith("/forget"), each[1] == "DELETE")
    ):
        identifiers = [each for each in operation["parameters"] if each["in"] == "path"]
        examples = {each["name"]: each["example"] for each in identifiers}
        if "keys/" in path:
            examples["id"] = client.get(f"{API}/keys").json[-1]["id"]
        if path.endswith(("/test", "/attempts")):
            # tests/webhooks has receivers for them.
            continue
        if "webhooks" in path:
            hook = {"url": "https://hooks.example/cardfile", "events": ["*"]}
            examples["id"] = client.post(f"{API}/webhooks", json=hook).json["id"]
        url = path.format(**examples)
        body = {"json": example_in(operation["requestBody"])} if "requestBody" in operation else {}
        if path == REVERT:
            headers = {"X-Request-Id": body["json"]["requestId"]}
            assert client.put(f"{API}/companies/new", json={"name": "New"}, headers=headers).status_code == 201
        with client.open(url, method=method, **body) as response:
            yield operation, response


def test_each_example_request_returns_its_example_response(
    app: Flask, admin: FlaskClient, new_client: Callable[[str], FlaskClient], description: Description
) -> None:
    with app.app_context():
        load_file(str(EXAMPLES))
    new_client("read")
    # These values depend on the time or on the requests before.
    generated = {"createdAt", "updatedAt", "id", "key", "prefix", "at", "lastUsedAt"}
    generated |= {"name", "seq", "scope", "expiresAt", "keyId", "requestId", "secret", "delivered"}
    generated |= {"events", "description"}
    for operation, response in send_examples(description, admin):
        documented = operation["responses"].get(str(response.status_code))
        assert documented and response.status_code < 300, (operation["operationId"], response.json)
        assert list(documented.get("content", {}))[:1] in ([], [response.content_type])
        if response.content_type != "application/json":
            continue
        is_exact = operation["operationId"].startswith(("get", "replace", "update"))
        is_exact &= not {"keys", "webhooks"} & {*operation["tags"]}
        first, expected = (
            each[0] if isinstance(each, list) else each for each in (response.json, example_in(documented))
        )
        assert list(first) == list(expected)
        drop = set() if is_exact else generated
        assert {k: v for k, v in first.items() if k not in drop} == {k: v for k, v in expected.items() if k not in drop}


def test_the_other_media_types_of_lists_are_described_with_their_responses(
    app: Flask, reader: FlaskClient, description: Description
) -> None:
    with app.app_context():
        load_file(str(EXAMPLES))
    for path, method, operation in description.operations:
        described = operation["responses"].get("200", {})
        content = described.get("content", {})
        is_list = operation["operationId"] in {f"list{name.capitalize()}" for name in (*RESOURCES, "changes")}
        assert (len(content) > 1) is is_list is ("406" in operation["responses"])
        for name in [*content][1:]:
            response = reader.open(path, method=method, headers={"Accept": name})
            assert response.mimetype == name
            assert {*response.headers.keys()} - STANDARD_HEADERS <= {*described["headers"]}
            if path != f"{API}/changes":
                assert response.text == content[name]["example"]


def test_every_response_header_is_described(app: Flask, admin: FlaskClient, description: Description) -> None:
    with app.app_context():
        load_file(str(EXAMPLES))
    for operation, response in send_examples(description, admin):
        described = operation["responses"][str(response.status_code)]["headers"]
        assert set(response.headers.keys()) - STANDARD_HEADERS <= set(described), operation["operationId"]
        assert {"X-Request-Id", "Dataset-Id", "Dataset-Version"} <= set(response.headers.keys()) & set(described)
    described = description.document["paths"][f"{API}/companies"]["get"]["responses"]["200"]["headers"]
    for query in "limit=1", "asOf=1":
        page = admin.get(f"{API}/companies?{query}", headers={"Prefer": "count=exact"})
        assert set(page.headers.keys()) - STANDARD_HEADERS <= set(described)


def test_a_change_has_the_described_fields_and_before_only_with_net(
    writer: FlaskClient, create_row: CreateRow, document: Document
) -> None:
    change = document["components"]["schemas"]["Change"]
    create_row("contacts", id="x")
    [plain], [net] = (writer.get(f"{API}/changes{query}").json for query in ("", "?net=true"))

    assert list(plain) == change["required"]
    assert list(net) == list(change["properties"])
    assert {*net} - {*plain} == {"before"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"to": 3}, 200),
        ({"requestId": "both"}, 409),
        ({"requestId": "both", "conflicts": "skip"}, 200),
        ({"requestId": "nobody"}, 404),
        ({"keyId": "nobody", "since": 0}, 404),
        ({"to": 0}, 410),
        ({"to": 9}, 422),
        ({"requestId": "both", "to": 3}, 422),
        ({"requestId": 7}, 422),
        ({"request": "both"}, 422),
    ],
)
def test_each_status_of_a_revert_is_described(
    database: str, writer: FlaskClient, document: Document, body: Document, status: int
) -> None:
    for name in "x", "y":
        writer.put(f"{API}/contacts/{name}", json={"name": "Ann"}, headers={"X-Request-Id": name})
    writer.post(
        f"{API}/contacts?matchOn=id",
        json=[{"id": name, "name": "Bob"} for name in ("x", "y")],
        headers={"X-Request-Id": "both"},
    )
    writer.patch(f"{API}/contacts/y", json={"name": "Eve"})
    run_external_sql(database, "UPDATE dataset SET oldest_version = 2")
    response = writer.post(REVERT, json=body)

    assert response.status_code == status
    assert str(status) in document["paths"][REVERT]["post"]["responses"]


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "contacts?limt=1", {}, 400),
        ("GET", "contacts", {"headers": {"Authorization": ""}}, 401),
        ("GET", "contacts/nobody", {}, 404),
        ("GET", "contacts", {"headers": {"Accept": "image/png"}}, 406),
        ("POST", "companies?matchOn=name", {"json": {"name": "twice"}}, 409),
        ("DELETE", "contacts/x", {"headers": {"If-Match": '"0"'}}, 412),
        ("POST", "contacts", {"data": b" " * 1_048_577, "content_type": "application/json"}, 413),
        ("POST", "contacts", {"data": b"{}"}, 415),
        ("POST", "contacts", {"json": {}}, 422),
    ],
)
def test_each_error_equals_its_example(
    writer: FlaskClient,
    create_row: CreateRow,
    description: Description,
    method: str,
    path: str,
    options: Any,
    status: int,
) -> None:
    create_row("contacts", id="x")
    for name in "acme-1", "acme-2":
        create_row("companies", id=name, name="twice")
    response = writer.open(f"{API}/{path}", method=method, **options)
    route = f"{API}/{re.split('[?/]', path)[0]}{'/{id}' if '/' in path else ''}"
    [operation] = [each[2] for each in description.operations if each[:2] == (route, method)]
    documented = operation["responses"][str(status)]

    assert response.status_code == status
    assert response.json | {"requestId": ""} == example_in(documented) | {"requestId": ""}
    assert set(response.headers.keys()) - STANDARD_HEADERS <= set(documented["headers"])


def test_a_missing_scope_is_403_as_documented(reader: FlaskClient, description: Description) -> None:
    for path, method, operation in description.operations:
        scope = operation["x-scope"]
        with reader.open(path.replace("{id}", "nobody"), method=method) as response:
            assert (response.status_code == 403) is (scope != "read") is ("403" in operation["responses"])


@pytest.mark.parametrize("name", ["openapi.json", "openapi-3.0.json", "llms.txt"])
def test_a_document_needs_no_key_and_is_cached_with_an_etag(anonymous: FlaskClient, name: str) -> None:
    response = anonymous.get(f"/{name}")
    again = anonymous.get(f"/{name}", headers={"If-None-Match": response.headers["ETag"]})

    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-cache")
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", response.headers["ETag"])
    assert anonymous.post(f"/{name}").status_code == 405


def test_the_documents_have_the_address_of_the_request(anonymous: FlaskClient) -> None:
    headers = {"Host": "crm.example:9000"}

    assert anonymous.get("/openapi.json", headers=headers).json["servers"] == [{"url": "http://crm.example:9000"}]
    for path in "/openapi.json", "/llms.txt":
        here, elsewhere = anonymous.get(path, headers=headers), anonymous.get(path)
        assert "http://crm.example:9000/api/v1/companies" in here.text
        assert "127.0.0.1" not in here.text
        assert here.headers["ETag"] != elsewhere.headers["ETag"]


def test_the_document_is_the_same_in_every_process(app: Flask, anonymous: FlaskClient, tmp_path: Any) -> None:
    other = create_app(load_settings({"database_url": f"sqlite:///{tmp_path}/other.db"}, {}))

    assert other.test_client().get("/openapi.json").data == anonymous.get("/openapi.json").data
    other.extensions["last_use"].stop()


def test_llms_txt_names_every_operation_parameter_and_field(anonymous: FlaskClient, description: Description) -> None:
    page = anonymous.get("/llms.txt").text

    assert page.startswith("# Cardfile\n")
    for path, method, operation in description.operations:
        section = page.partition(f"### {method} {path}\n")[2].partition("\n##")[0]
        assert operation["summary"] in section
        words = {*re.findall("[A-Za-z-]+", section), "X-Request-Id"}
        assert {each["name"].partition("[")[0] for each in operation["parameters"]} <= words
    assert "\nResponse 200 (application/json, application/x-ndjson, text/csv):\n" in page
    for schema in [*RESOURCES.values(), KeySchema(), RevertSchema()]:
        assert all(f"- `{name}`: " in page for name in schema.example())


@pytest.mark.parametrize("body", ['{"dryRun": true}', "dryRun=true", "[]"])
def test_a_body_is_refused_where_none_is_described(app: Flask, admin: FlaskClient, body: str) -> None:
    operations = [each for each in operations_of(app) if each.method == "POST" and not each.has_body]
    assert {each.verb for each in operations} == {"forget", "roll", "rotate", "test"}

    for each in operations:
        path = each.path.replace("{id}", "nobody")
        response = admin.post(path, data=body, content_type="application/json")
        assert response.status_code == 400, path
        assert response.json["detail"].startswith("This request takes no body: leave it out.")
        for nothing in "{}", " ", "":
            assert admin.post(path, data=nothing).status_code == 404


def test_the_description_names_the_fields_that_are_searched(document: Document) -> None:
    text = document["info"]["description"].partition("It searches ")[2].partition("```")[0]
    for (name, schema), part in zip(RESOURCES.items(), text.split(";"), strict=True):
        columns: Any = schema.model.__table__.columns
        searched = [public_name(each.name) for each in columns if each.info.get("searchable")]
        assert re.findall("`(.+?)`", part) == searched
        assert f" of {name}" in part

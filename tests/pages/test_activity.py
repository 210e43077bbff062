"""Settings → Activity: the HTML of the requests that wrote, of their changes, and of reverting them."""

import re
from html import unescape

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from pages.sessions import HOME
from tests.conftest import CreateRow, ExecutedStatement, Query, client_with_key
from tests.core.test_authentication import NewKey
from tests.pages.conftest import SAME_ORIGIN, form_token

pytestmark = pytest.mark.databases("sqlite", "postgresql")
ACTIVITY = "/settings/activity"


def texts(page: str) -> list[list[list[str]]]:
    """Return the texts of each table's caption and cells, row by row."""
    tables = []
    for found in re.findall("<table.*?</table>", page, re.S):
        rows = re.findall(
            "<caption>.*?</caption>|<tr>.*?</tr>", re.sub("<thead>.*</thead>", "", found, flags=re.S), re.S
        )
        cells = [re.findall(r"<(?:t[hd]|caption)\b.*?>(.*?)</(?:t[hd]|caption)>", row, re.S) for row in rows]
        tables.append([[unescape(" ".join(re.sub("<[^>]+>", " ", cell).split())) for cell in row] for row in cells])
    return tables


def listed(client: FlaskClient, query_string: str = "") -> list[list[str]]:
    """Return the summary and the key of each listed request."""
    [table] = texts(client.get(f"{ACTIVITY}?{query_string}").text)
    return [[row[0], *row[2:3]] for row in table]


def create_contact(writer: FlaskClient, **fields: object) -> tuple[str, str]:
    """Create a contact; return its path and the id of the request."""
    response = writer.post("/api/v1/contacts", json={"name": "Ann", **fields})
    return f"/api/v1/contacts/{response.json['id']}", response.headers["X-Request-Id"]


def patch(writer: FlaskClient, path: str, **fields: object) -> str:
    """Update a row; return the id of the request."""
    return writer.patch(path, json=fields).headers["X-Request-Id"]


def post_revert(client: FlaskClient, request_id: str, query_string: str = "", **form: str) -> TestResponse:
    url = f"{ACTIVITY}/{request_id}/revert?{query_string}"
    return client.post(url, data={"token": form_token(client), **form})


def test_the_last_requests_that_wrote_are_listed_newest_first(
    signed_in_client: FlaskClient, writer: FlaskClient, reader: FlaskClient, create_row: CreateRow, query: Query
) -> None:
    assert listed(signed_in_client) == [["No request has written yet."]]
    company = create_row("companies")
    writer.post("/api/v1/contacts", json=[{"name": "Ann", "companyId": company}, {"name": "Bob"}])
    reader.get("/api/v1/contacts")
    query("UPDATE contacts SET name = 'Eve' WHERE name = 'Bob'")
    writer.delete(f"/api/v1/companies/{company}")
    writer.patch("/api/v1/contacts/nobody", json={"name": "Nobody"})

    key = "the write client's"
    assert listed(signed_in_client) == [
        ["companies: 1 deleted, contacts: 1 updated", key],
        ["contacts: 2 created", key],
        ["companies: 1 created", "command or sign-in link"],
    ]
    page = signed_in_client.get(ACTIVITY).text
    assert "Changes by a database shell are not listed." in page
    [[key_id]] = query("DELETE FROM api_keys WHERE scope = 'write' RETURNING id")
    assert listed(signed_in_client, f"keyId={key_id}")[0][1] == f"{key_id} (deleted)"


def test_requests_of_one_key_are_listed_page_by_page(
    app: Flask, signed_in_client: FlaskClient, writer: FlaskClient, new_key_with_scope: NewKey, query: Query
) -> None:
    other = client_with_key(app, new_key_with_scope("write"))
    for number in range(24):
        create_contact(writer, name=f"Contact {number}")
        create_contact(other)
    [key_id] = {row[0] for row in query("SELECT key_id FROM writes WHERE first_seq = 1")}

    pages = []
    url = f"{ACTIVITY}?keyId={key_id}"
    while url:
        page = signed_in_client.get(url).text
        pages.append(len(texts(page)[0]))
        assert f'value="{key_id}" selected' in page
        url = unescape("".join(re.findall('href="([^"]+)">Older', page)))
        newest = unescape("".join(re.findall('href="([^"]+)">Newest', page)))
        assert newest == (f"{ACTIVITY}?keyId={key_id}" if len(pages) > 1 else "")
    assert pages == [20, 4]
    assert [len(listed(signed_in_client, each)) for each in ("", "before=9", "keyId=", "keyId=nobody")] == [
        20,
        8,
        20,
        1,
    ]


@pytest.mark.parametrize("query_string", ["before=x", f"before={2**63}", "keyId=%00", "keyId=a%20b", "page=2"])
def test_an_invalid_parameter_is_400(signed_in_client: FlaskClient, query_string: str) -> None:
    response = signed_in_client.get(f"{ACTIVITY}?{query_string}")
    assert (response.status_code, response.mimetype) == (400, "text/html")
    name = query_string.partition("=")[0]
    assert f"{name} must be" in response.text or f"There is no parameter {name} here." in response.text


def test_a_large_request_is_counted_in_part(
    signed_in_client: FlaskClient, writer: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.activity.MAX_COUNTED", 3)
    writer.post("/api/v1/contacts", json=[{"name": "Ann"}] * 1_000)

    assert listed(signed_in_client) == [["contacts: 3 created, 997 more changes", "the write client's"]]


def test_changes_are_shown_field_by_field(signed_in_client: FlaskClient, writer: FlaskClient) -> None:
    path, created = create_contact(writer, name="<b>Ann</b>", email="ann@acme.example")
    changed = patch(writer, path, name="Bob", email=None, notes="x" * 10_000, isPrimary=True, title="")
    deleted = writer.delete(path).headers["X-Request-Id"]
    row, note = path.removeprefix("/api/v1/"), "x" * 200 + "…"

    def shown(request_id: str) -> list[list[list[str]]]:
        return texts(signed_in_client.get(f"{ACTIVITY}/{request_id}").text)

    assert shown(created) == [
        [
            [f"<b>Ann</b> {row} created"],
            ["name", "null", "<b>Ann</b>"],
            ["email", "null", "ann@acme.example"],
            ["isPrimary", "null", "false"],
        ]
    ]
    assert shown(changed) == [
        [
            [f"Bob {row} updated"],
            ["name", "<b>Ann</b>", "Bob"],
            ["email", "ann@acme.example", "null"],
            ["title", "null", "“”"],
            ["notes", "null", note],
            ["isPrimary", "false", "true"],
        ]
    ]
    assert shown(deleted)[0][:2] == [[f"Bob {row} deleted"], ["name", "Bob", "null"]]
    assert "<b>" not in signed_in_client.get(f"{ACTIVITY}/{changed}").text


def test_a_preview_changes_nothing_and_a_revert_is_logged_as_by_the_key_of_the_session(
    signed_in_client: FlaskClient, writer: FlaskClient, query: Query
) -> None:
    path, _created = create_contact(writer)
    request_id = patch(writer, path, name="Bob", title="CEO")

    preview = signed_in_client.get(f"{ACTIVITY}/{request_id}/revert")
    assert (preview.status_code, "Dataset-Version" in preview.headers) == (200, False)
    [[_caption, *fields]] = texts(preview.text)
    assert fields == [["name", "Bob", "Ann"], ["title", "CEO", "null"]]
    assert writer.get(path).headers["Dataset-Version"] == "2"

    response = post_revert(signed_in_client, request_id)
    assert response.status_code == 303
    assert [writer.get(path).json[name] for name in ("name", "title")] == ["Ann", None]
    [[key_id]] = query("SELECT id FROM api_keys WHERE scope = 'admin'")
    last = writer.get("/api/v1/changes").json[-1]
    assert (last["keyId"], last["requestId"]) == (key_id, response.headers["X-Request-Id"])
    page = signed_in_client.get(response.headers["Location"]).text
    assert f"these changes undo the request {request_id}" in page
    assert texts(page)[0][1] == ["name", "Bob", "Ann"]

    # A revert can be reverted.
    assert post_revert(signed_in_client, last["requestId"]).status_code == 303
    assert writer.get(path).json["name"] == "Bob"


@pytest.mark.parametrize(("choice", "names"), [("skip", ["Eve", "Carl"]), ("overwrite", ["Ann", "Carl"])])
def test_rows_that_others_changed_need_a_choice(
    signed_in_client: FlaskClient, writer: FlaskClient, choice: str, names: list[str]
) -> None:
    paths = [create_contact(writer, name=name)[0] for name in ("Ann", "Carl")]
    ids = [path.rpartition("/")[2] for path in paths]
    both = [{"id": each, "name": "Bob"} for each in ids]
    request_id = writer.post("/api/v1/contacts?matchOn=id", json=both).headers["X-Request-Id"]
    patch(writer, paths[0], name="Eve")

    for page in signed_in_client.get(f"{ACTIVITY}/{request_id}/revert"), post_revert(signed_in_client, request_id):
        assert (page.status_code, texts(page.text)) == (200, [])
        assert f"<code>contacts/{ids[0]}</code> Was changed afterwards, by change 5." in page.text
        assert f'href="?conflicts={choice}"' in page.text and '<button class="danger">' not in page.text
    assert writer.get(paths[1]).json["name"] == "Bob"

    preview = signed_in_client.get(f"{ACTIVITY}/{request_id}/revert?conflicts={choice}").text
    assert len(texts(preview)) == (1 if choice == "skip" else 2)
    assert (f"contacts/{ids[0]}: Was changed afterwards, by change 5." in preview) == (choice == "skip")
    assert post_revert(signed_in_client, request_id, f"conflicts={choice}").status_code == 303
    assert [writer.get(path).json["name"] for path in paths] == names


def test_nothing_to_revert_is_said_and_changes_nothing(signed_in_client: FlaskClient, writer: FlaskClient) -> None:
    path, _created = create_contact(writer)
    request_id = patch(writer, path, name="Bob")
    post_revert(signed_in_client, request_id)

    for page in (
        signed_in_client.get(f"{ACTIVITY}/{request_id}/revert?conflicts=overwrite"),
        post_revert(signed_in_client, request_id, "conflicts=overwrite"),
    ):
        assert (page.status_code, "There is nothing to revert." in page.text) == (200, True)
    assert writer.get(path).headers["Dataset-Version"] == "3"


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("nobody", 404, "No request with this id has written."),
        ("nobody/revert", 404, "There are no changes by the request nobody."),
        ("{id}/revert?conflicts=both", 422, "Must be one of skip, overwrite."),
        ("{id}/revert?requestId=other", 400, "There is no parameter requestId here."),
        ("{id}/revert?to=1", 400, "There is no parameter to here."),
    ],
)
def test_an_invalid_request_is_refused_and_changes_nothing(
    signed_in_client: FlaskClient, writer: FlaskClient, path: str, status: int, sentence: str
) -> None:
    url = f"{ACTIVITY}/{path.format(id=create_contact(writer)[1])}"
    token = form_token(signed_in_client)
    responses = [signed_in_client.get(url)]
    if "revert" in path:
        responses.append(signed_in_client.post(url, data={"token": token}))

    for response in responses:
        assert (response.status_code, response.mimetype) == (status, "text/html")
        assert sentence in response.text
        assert len(writer.get("/api/v1/contacts").json) == 1


def test_only_what_the_preview_shows_is_reverted(signed_in_client: FlaskClient, writer: FlaskClient) -> None:
    path, _request_id = create_contact(writer)
    request_id = writer.patch(path, json={"name": "v2"}).headers["X-Request-Id"]
    writer.patch(path, json={"title": "shown"})
    url = f"{ACTIVITY}/{request_id}/revert?conflicts=overwrite"

    for title in "not shown", None:
        form = dict(re.findall('name="(token|digest)" value="([^"]+)"', signed_in_client.get(url).text))
        if title:
            writer.patch(path, json={"title": title})
        response = signed_in_client.post(url, data=form)
        assert response.status_code == (200 if title else 303)
        assert ("These rows were changed after the preview." in response.text) == bool(title)
        row = writer.get(path).json
        assert (row["title"], row["name"] == "v2") == (title, bool(title))


def test_a_request_with_too_many_rows_says_so(
    signed_in_client: FlaskClient, writer: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.activity.MAX_ROWS", 1)
    response = writer.post("/api/v1/contacts", json=[{"name": "Ann"}, {"name": "Bob"}])
    request_id = response.headers["X-Request-Id"]

    for page in signed_in_client.get(f"{ACTIVITY}/{request_id}/revert"), post_revert(signed_in_client, request_id):
        assert (page.status_code, "Must change at most 1 rows" in page.text) == (422, True)


def test_a_form_without_the_token_of_the_session_reverts_nothing(
    app: Flask, signed_in_client: FlaskClient, writer: FlaskClient, key: str, query: Query
) -> None:
    path, request_id = create_contact(writer)
    other = app.test_client()
    other.post(f"{HOME}/sign-in", data={"key": key}, headers=SAME_ORIGIN)
    url = f"{ACTIVITY}/{request_id}/revert"

    for form in {}, {"token": ""}, {"token": form_token(other)}:
        assert signed_in_client.post(url, data=form).status_code == 403
    assert app.test_client().post(url, data={"token": form_token(signed_in_client)}).status_code == 403
    # The session of a key that is no admin key any more has ended.
    token = form_token(signed_in_client)
    query("UPDATE api_keys SET scope = 'read' WHERE scope = 'admin'")
    assert signed_in_client.post(url, data={"token": token}).status_code == 403
    assert writer.get(path).status_code == 200


def test_a_session_by_a_link_reverts_without_a_key(
    app: Flask, writer: FlaskClient, link_token: str, query: Query
) -> None:
    path, request_id = create_contact(writer)
    client = app.test_client()
    client.post(f"{HOME}/link", data={"token": link_token}, headers=SAME_ORIGIN)

    response = post_revert(client, request_id)
    assert response.status_code == 303
    assert writer.get(path).status_code == 404
    assert query("SELECT key_id, request_id FROM writes WHERE first_seq = 2") == [
        (None, response.headers["X-Request-Id"])
    ]
    assert listed(client)[0] == ["contacts: 1 deleted", "command or sign-in link"]


def test_erased_data_is_shown_as_erased_and_does_not_come_back(
    signed_in_client: FlaskClient, writer: FlaskClient, admin: FlaskClient
) -> None:
    path, created = create_contact(writer, name="Ann Ephemeral")
    changed = patch(writer, path, name="Ann Ephemeral 2")
    deleted = writer.delete(path).headers["X-Request-Id"]
    forgotten = admin.post(f"{path}/forget").headers["X-Request-Id"]
    assert writer.put(path, json={"name": "New"}).status_code == 201

    for request_id in created, changed, deleted, forgotten:
        for url in f"{ACTIVITY}/{request_id}", f"{ACTIVITY}/{request_id}/revert?conflicts=overwrite":
            page = signed_in_client.get(url)
            assert (page.status_code, "Ephemeral" in page.text) == (200, False)
        assert post_revert(signed_in_client, request_id, "conflicts=skip").status_code == 200
    assert "The data of this row was erased." in signed_in_client.get(f"{ACTIVITY}/{deleted}").text
    assert (
        "Not listed: rows that are the same before and after the request, and erased rows."
        in signed_in_client.get(f"{ACTIVITY}/{changed}").text
    )
    assert writer.get(path).json["name"] == "New"


def test_the_list_takes_the_same_statements_for_any_number_of_requests(
    signed_in_client: FlaskClient, writer: FlaskClient, statements: list[ExecutedStatement]
) -> None:
    counts = []
    for _time in range(2):
        for _number in range(10):
            create_contact(writer)
        statements.clear()
        signed_in_client.get(ACTIVITY)
        counts.append(len(statements))

    assert counts == [3, 3]

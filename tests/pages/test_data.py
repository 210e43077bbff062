"""/data: the HTML of lists and rows, which are those of the API for the same parameters."""

import re
import shlex
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from auth import API
from seed import load_demo
from tests.conftest import CreateRow, ExecutedStatement, Query
from tests.pages.test_activity import texts

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def titles(page: str) -> list[str]:
    """Return the titles of the first table's rows."""
    return [row[0] for row in texts(page)[0]]


def columns(page: str) -> list[str]:
    [head, *_others] = re.findall("<thead>.*?</thead>", page, re.S)
    return re.findall(r">\s*(\w+)\s*<", head)


def href(page: str, text: str) -> str:
    """Return the address of the link with a text, or nothing."""
    return unescape("".join(re.findall(f'href="([^"]+)"[^>]*>{text}<', page)))


@pytest.mark.parametrize(
    "query",
    [
        "",
        "sort=-dealValue,name",
        "sort=updatedAt",
        "industry=Retail&industry=Energy&limit=3",
        "dealValue%5Bgte%5D=20000&isCustomer=false",
        "q=a+e",
        "asOf=30",
        "asOf=30&sort=name&limit=1000",
        "fields=id,name&limit=2",
        "include=contacts&limit=2",
        "name=Nobody+at+all",
    ],
)
def test_a_page_shows_the_rows_of_the_api_for_the_same_parameters(
    app: Flask, signed_in_client: FlaskClient, reader: FlaskClient, query: str
) -> None:
    with app.app_context():
        load_demo(40)
    response = signed_in_client.get(f"/data/companies?{query}")
    rows = reader.get(f"{API}/companies?limit=25&{query}" if "limit" not in query else f"{API}/companies?{query}").json

    assert response.status_code == 200
    assert (titles(response.text) if rows else []) == [row["name"] for row in rows]
    everything = reader.get(f"{API}/companies?limit=1&{re.sub('&?limit=[0-9]+', '', query)}", headers=COUNT)
    assert f'Companies <span class="aside">{everything.headers["X-Total-Count"]}</span>' in response.text
    assert ("No companies match." in response.text) is (not rows)


COUNT = {"Prefer": "count=exact"}


def test_pages_follow_each_other_by_cursor(app: Flask, signed_in_client: FlaskClient, reader: FlaskClient) -> None:
    with app.app_context():
        load_demo(30)
    found, url = [], "/data/contacts?sort=-name&limit=7"
    while url:
        page = signed_in_client.get(url).text
        found.append(titles(page))
        url = href(page, "Next page")
        assert bool(href(page, "First page")) is (len(found) > 1)

    names = [row["name"] for row in reader.get(f"{API}/contacts?sort=-name").json]
    assert [name for page in found for name in page] == names
    assert {len(page) for page in found[:-1]} == {7}


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("companies", "name website industry dealValue stageId lastContact isCustomer"),
        ("contacts", "name companyId email phone title role isPrimary"),
        ("conversations", "visitorName companyId visitorEmail status isRead trustUploads tags lastMessageAt"),
        ("contacts?fields=notes,name,createdAt", "name notes createdAt"),
        ("contacts?fields=id,companyId", "id companyId"),
        ("contacts?fields=phone,email", "phone email"),
    ],
)
def test_a_table_has_the_short_fields_or_those_that_are_named(
    signed_in_client: FlaskClient, create_row: CreateRow, path: str, shown: str
) -> None:
    for resource in "companies", "contacts", "conversations":
        create_row(resource, id="a")

    assert columns(signed_in_client.get(f"/data/{path}").text) == shown.split()


def test_a_column_header_sorts_and_then_reverses_the_order(
    app: Flask, signed_in_client: FlaskClient, reader: FlaskClient
) -> None:
    with app.app_context():
        load_demo(10)
    page = signed_in_client.get("/data/companies?isCustomer=false").text
    for order, sort in ("ascending", "name"), ("descending", "-name"), ("ascending", "name"):
        page = signed_in_client.get(href(page, "name")).text
        assert titles(page) == [row["name"] for row in reader.get(f"{API}/companies?isCustomer=false&sort={sort}").json]
        assert page.count(f'aria-sort="{order}"') == page.count("aria-sort") == 1
    # An array has no order.
    assert not href(signed_in_client.get("/data/conversations").text, "tags")


def test_a_form_sends_empty_parameters_which_are_left_out(signed_in_client: FlaskClient, create_row: CreateRow) -> None:
    create_row("companies", name="Acme", industry="Retail")
    response = signed_in_client.get("/data/companies?q=&isCustomer=false&industry=Retail&industry=&sort=name")

    assert response.status_code == 302
    assert response.headers["Location"] == "/data/companies?isCustomer=false&industry=Retail&sort=name"
    page = signed_in_client.get(response.headers["Location"]).text
    assert titles(page) == ["Acme"]
    assert '<input type="hidden" name="industry" value="Retail">' in page
    assert "<option selected>false</option>" in page
    assert href(page, "industry = Retail ✕") == "/data/companies?isCustomer=false&sort=name"


def test_arguments_of_url_for_are_no_parameters(signed_in_client: FlaskClient) -> None:
    for name in "resource", "endpoint", "_external", "_anchor", "_scheme", "values":
        for query in f"{name}=x", f"{name}=&q=", f"q=&{name}=x":
            response = signed_in_client.get(f"/data/companies?{query}", follow_redirects=True)
            is_left_out = query.startswith(f"{name}=&")
            assert (query, response.status_code) == (query, 200 if is_left_out else 400)


@pytest.mark.parametrize(
    "path",
    [
        "companies?limt=3",
        "companies?limit=0",
        "companies?sort=tags",
        "contacts?companyId=%00",
        "conversations?status=opened",
        "contacts?cursor=x",
        "contacts?include=contacts",
        "companies?asOf=999",
        "companies?q=" + "x" * 300,
    ],
)
def test_an_invalid_parameter_shows_the_error_of_the_api(
    signed_in_client: FlaskClient, reader: FlaskClient, path: str
) -> None:
    response = signed_in_client.get(f"/data/{path}")

    assert (response.status_code, response.mimetype) == (400, "text/html")
    assert reader.get(f"{API}/{path}").json["detail"] in unescape(response.text)
    assert href(response.text, "Show the page without parameters") == f"/data/{path.partition('?')[0]}"


@pytest.mark.parametrize("path", ["tasks", "companies/nobody", "tasks/a", "companies/a/b", "tasks.csv"])
def test_an_unknown_resource_or_row_is_a_404_page(signed_in_client: FlaskClient, path: str) -> None:
    response = signed_in_client.get(f"/data/{path}")

    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert ("There is no company with the id nobody." in response.text) is (path == "companies/nobody")
    assert '<a href="/data">Go to Data</a>' in response.text


def test_a_company_has_its_contacts_its_conversations_and_its_history(
    signed_in_client: FlaskClient, writer: FlaskClient, create_row: CreateRow, query: Query
) -> None:
    create_row("companies", id="other")
    writer.put(f"{API}/companies/acme", json={"name": "Acme", "dealValue": 1234.5, "website": "https://acme.com/"})
    create_row("contacts", name="Elsewhere", companyId="other")
    for number in range(11):
        create_row("contacts", name=f"Person {number:02}", companyId="acme")
    create_row("conversations", visitorName="Visitor", companyId="acme", tags=["a", "b"])
    changed = writer.patch(f"{API}/companies/acme", json={"industry": "Retail", "dealValue": None}).headers
    query("UPDATE companies SET industry = 'Energy' WHERE id = 'acme'")

    page = signed_in_client.get("/data/companies/acme").text
    contacts, conversations, history = texts(page)
    assert [row[0] for row in contacts] == [f"Person {number:02}" for number in range(10)]
    assert signed_in_client.get(href(page, "Show all")).text.count("Person ") == 11
    assert [row[:1] + row[-2:-1] for row in conversations] == [["Visitor", "a b"]]
    assert "companyId" not in columns(page)
    request_id = changed["X-Request-Id"]
    assert [row[1:] for row in history[:2]] == [
        ["updated industry Retail → Energy", "another program"],
        ["updated industry null → Retail dealValue 1234.5 → null", f"the write client's {request_id}"],
    ]
    assert [row[1] for row in history[2:]] == ["created"]
    assert href(page, request_id) == f"/settings/activity/{request_id}"
    assert '<a href="https://acme.com/" rel="noreferrer">acme.com</a>' in page


def test_a_long_value_scrolls_in_a_box_of_its_own(signed_in_client: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="short", name="Ann", notes="x" * 255)
    assert '<dt>notes</dt><dd class="name">x' in signed_in_client.get("/data/contacts/short").text
    for number, notes in enumerate(["x" * 256, "1\n2\n3\n4\n5\n6"]):
        create_row("contacts", id=f"long-{number}", name="Ann", notes=notes)
        page = signed_in_client.get(f"/data/contacts/long-{number}").text
        assert f'tabindex="0" role="region" aria-labelledby="long-notes">{notes}</div>' in page
        assert "<dt>notes</dt>" not in page and "<dt>name</dt>" in page
    create_row("conversations", id="c", tags=[f"tag-{number}" for number in range(50)])
    assert signed_in_client.get("/data/conversations/c").text.count('<span class="tag">tag-') == 50
    [[*_others, tags]] = texts(signed_in_client.get("/data/conversations?fields=id,tags").text)[0]
    assert tags == "tag-0 tag-1 +48"


def test_a_history_names_the_keys_and_shows_long_values_from_where_they_differ(
    app: Flask, signed_in_client: FlaskClient, writer: FlaskClient, link_token: str, query: Query
) -> None:
    same = "same " * 100
    for notes in f"{same}old {same}", f"{same}new {same}", "short":
        writer.post(f"{API}/contacts?matchOn=id", json={"id": "a", "name": "Ann", "notes": notes})

    [history] = texts(signed_in_client.get("/data/contacts/a").text)
    assert [row[2].rpartition(" ")[0] for row in history] == ["the write client's"] * 3
    before, after = re.findall("notes …(.*) → …(.*)", history[1][1])[0]
    assert (len(before), before.replace("old", "new"), "old" in before) == (201, after, True)
    assert history[0][1].startswith("updated notes same same") and history[0][1].endswith("… → short")

    [[key_id]] = query("SELECT id FROM api_keys WHERE scope = 'write'")
    query("DELETE FROM api_keys WHERE scope = 'write'")
    [history] = texts(signed_in_client.get("/data/contacts/a").text)
    assert history[0][2].startswith(f"{key_id} (deleted)")


def test_numbers_are_on_the_right_with_their_header_and_without_a_value(
    signed_in_client: FlaskClient, create_row: CreateRow
) -> None:
    create_row("companies", name="Acme", dealValue=1)
    create_row("companies", name="Lee")
    page = signed_in_client.get("/data/companies?fields=name,dealValue,position").text
    assert re.findall(r'<t[hd] (?:scope="col"|data-label="\w+") class="(number[^"]*)"', page) == [
        *["number"] * 4,
        "number empty",
        "number",
    ]


def test_a_version_leads_to_rows_as_they_were_then(
    signed_in_client: FlaskClient, writer: FlaskClient, create_row: CreateRow
) -> None:
    create_row("companies", id="acme", name="Acme")
    create_row("contacts", id="ann", name="Ann", companyId="acme")
    create_row("contacts", id="bob", name="Bob", companyId="acme")
    version = 3
    writer.patch(f"{API}/companies/acme", json={"name": "Apex"})
    writer.delete(f"{API}/contacts/bob")

    page = signed_in_client.get(f"/data/companies?asOf={version}").text
    assert href(page, "Acme") == f"/data/companies/acme?asOf={version}"
    company = signed_in_client.get(href(page, "Acme")).text
    assert "Apex" not in company and f"as of {version}" in company and f"/companies/acme?asOf={version}" in company
    contacts, history = texts(company)
    assert ([row[0] for row in contacts], [row[1] for row in history]) == (["Ann", "Bob"], ["created"])
    contact = signed_in_client.get(href(company, "Bob")).text
    assert href(contact, "Acme") == f"/data/companies/acme?asOf={version}"
    assert href(contact, "Contacts") == f"/data/contacts?asOf={version}"
    assert signed_in_client.get("/data/contacts/bob").status_code == 404


@pytest.mark.parametrize(("resource", "title"), [("contacts", "name"), ("conversations", "visitorName")])
def test_a_row_links_to_its_company_by_name(
    signed_in_client: FlaskClient, create_row: CreateRow, resource: str, title: str
) -> None:
    create_row("companies", id="acme", name="Acme & Sons")
    create_row(resource, id="a", companyId="acme", **{title: "Ann"})
    create_row(resource, id="b", **{title: "Bob"})

    for path in resource, f"{resource}/a":
        assert href(signed_in_client.get(f"/data/{path}").text, "Acme &amp; Sons") == "/data/companies/acme"
    assert "/data/companies/" not in signed_in_client.get(f"/data/{resource}/b").text


def test_a_history_that_is_no_longer_kept_shows_no_differences(
    signed_in_client: FlaskClient, writer: FlaskClient, query: Query
) -> None:
    for title in "CEO", "CTO", "CFO":
        writer.post(f"{API}/contacts?matchOn=id", json={"id": "a", "name": "Ann", "title": title})
    query("UPDATE dataset SET oldest_version = 3")
    query("UPDATE changes SET data = NULL WHERE seq <= 2")

    [history] = texts(signed_in_client.get("/data/contacts/a").text)
    assert [row[1] for row in history] == ["updated", "updated", "created"]


def test_a_row_that_came_back_is_compared_with_nothing(signed_in_client: FlaskClient, writer: FlaskClient) -> None:
    writer.put(f"{API}/contacts/a", json={"name": "Ann"})
    writer.delete(f"{API}/contacts/a")
    writer.put(f"{API}/contacts/a", json={"name": "Bob"})

    [history] = texts(signed_in_client.get("/data/contacts/a").text)
    assert [row[1] for row in history] == ["created", "deleted", "created"]


def test_a_long_history_shows_the_last_changes(
    signed_in_client: FlaskClient, writer: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.data.MAX_HISTORY", 2)
    for title in "CEO", "CTO", "CFO", "COO":
        writer.post(f"{API}/contacts?matchOn=id", json={"id": "a", "name": "Ann", "title": title})
        writer.post(f"{API}/contacts", json={"name": "Bob"})
        page = signed_in_client.get("/data/contacts/a").text
        assert ("These are the last 2 changes" in page) is (title in {"CFO", "COO"})

    assert [row[1] for row in texts(page)[0]] == ["updated title CFO → COO", "updated title CTO → CFO"]


def test_html_in_rows_is_escaped(signed_in_client: FlaskClient, create_row: CreateRow) -> None:
    bad = "<script>alert(1)</script>"
    create_row("conversations", id="a", visitorName=bad, pageUrl="javascript:alert(1)", tags=[bad], userAgent=bad)
    for path in "conversations", "conversations/a", "conversations?fields=pageUrl,tags", f"conversations?q={bad}":
        page = signed_in_client.get(f"/data/{path}").text
        assert "<script" not in page and 'href="javascript' not in page
        assert "alert(1)" in page


def test_a_page_takes_no_more_statements_than_the_requests_to_the_api(
    signed_in_client: FlaskClient, reader: FlaskClient, create_row: CreateRow, statements: list[ExecutedStatement]
) -> None:
    create_row("companies", id="acme")
    create_row("contacts", id="ann", companyId="acme")

    def count(client: FlaskClient, *paths: str) -> int:
        for path in paths:
            # The first time, more may be read once.
            assert client.get(path).status_code == 200
        statements.clear()
        for path in paths:
            client.get(path)
        return len([each for each in statements if "webhooks" not in each.sql])

    of_row = "companies/acme", "contacts?companyId=acme", "conversations?companyId=acme", "changes?id=acme"
    for page, requests in ("contacts?limit=5", ["contacts?limit=5"]), ("companies/acme", of_row):
        by_api = count(reader, *(f"{API}/{path}" for path in requests))
        assert count(signed_in_client, f"/data/{page}") <= by_api


def test_the_shown_requests_return_all_rows_of_the_page(
    app: Flask, signed_in_client: FlaskClient, reader: FlaskClient
) -> None:
    with app.app_context():
        load_demo(40)
    page = signed_in_client.get("/data/companies?industry=Retail&dealValue%5Bgte%5D=1&q=it's+$HOME&limit=2")
    commands = [shlex.split(unescape(text)) for text in re.findall("<pre.*?<code>(.*?)</code>", page.text, re.S)]
    assert [command[:3] for command in commands] == [["curl", "-u", "YOUR_API_KEY:"]] * 2
    assert commands[0][-1] == commands[1][-1]
    # A shell would end the command at the first &.
    assert unescape(page.text).count(shlex.quote(commands[0][-1])) == 2
    assert commands[0][-1] == f"http://localhost{API}/companies?industry=Retail&dealValue%5Bgte%5D=1&q=it%27s+%24HOME"

    page = signed_in_client.get("/data/companies?stageId=stage-lead&limit=2")
    [url, _again] = [shlex.split(unescape(text))[-1] for text in re.findall("<code>(curl.*?)</code>", page.text)]
    rows = reader.get(url.removeprefix("http://localhost")).json
    assert titles(page.text) == [row["name"] for row in rows[:2]] and len(rows) > 2


def test_the_csv_of_a_page_is_that_of_the_api(
    app: Flask, signed_in_client: FlaskClient, anonymous: FlaskClient, reader: FlaskClient
) -> None:
    with app.app_context():
        load_demo(40)
    page = signed_in_client.get("/data/contacts?sort=-name&limit=2&isPrimary=true")
    url = href(page.text, "Download")
    assert url == "/data/contacts.csv?sort=-name&isPrimary=true"
    response = signed_in_client.get(url)
    same = reader.get(f"{API}/contacts?sort=-name&isPrimary=true", headers={"Accept": "text/csv"})

    assert (response.data, response.content_type) == (same.data, same.content_type)
    assert response.headers["Content-Disposition"] == "attachment; filename=contacts.csv"
    assert response.headers["Cache-Control"] == "no-store"
    assert anonymous.get(url).status_code == 303
    refused = signed_in_client.get("/data/companies.csv?include=contacts")
    assert (refused.status_code, refused.mimetype) == (400, "text/html")


@pytest.mark.parametrize("resource", ["companies", "contacts", "conversations"])
def test_an_empty_list_says_how_rows_come(signed_in_client: FlaskClient, resource: str) -> None:
    page = signed_in_client.get(f"/data/{resource}").text
    assert f"There are no {resource} yet" in page
    assert "<table" not in page


@pytest.mark.parametrize("path", ["/data", "/data/"])
def test_data_redirects_to_the_first_resource(signed_in_client: FlaskClient, create_row: CreateRow, path: str) -> None:
    create_row("companies")
    page = signed_in_client.get(path, follow_redirects=True)

    assert page.request.path == "/data/companies"
    assert re.findall(r'<a href="([^"]+)" aria-current="page">', page.text) == ["/data", "/data/companies"]


def test_an_empty_company_says_so(signed_in_client: FlaskClient, create_row: CreateRow) -> None:
    page = signed_in_client.get(f"/data/companies/{create_row('companies')}").text

    assert "This company has no contacts." in page
    assert "This company has no conversations." in page


def test_a_row_takes_no_parameters(signed_in_client: FlaskClient, create_row: CreateRow) -> None:
    response: Any = signed_in_client.get(f"/data/companies/{create_row('companies')}?fields=id")

    assert (response.status_code, response.mimetype) == (400, "text/html")

"""`asOf`: lists and rows as they were at any version or time."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from schemas import RESOURCES
from seed import load_demo
from tests.conftest import CreateRow, ExecutedStatement, Query, run_external_sql
from tests.core.conftest import NOON, pages
from tests.history.conftest import feed, rows, version

pytestmark = pytest.mark.databases("sqlite", "postgresql")

CONTACTS = "/api/v1/contacts"
QUERIES = [
    "companies",
    "companies/special",
    "companies/nobody",
    "companies?limit=7",
    "companies?sort=-dealValue,name",
    "companies?sort=isCustomer,-lastContact&limit=4",
    "companies?sort=name",
    "companies?dealValue=1999.5",
    "companies?dealValue=1999.509",
    "companies?dealValue=null&dealValue=1999.50",
    "companies?dealValue[gte]=1999.5&dealValue[lt]=999999999999.99&sort=id",
    "companies?dealValue=999999999999.99",
    "companies?dealValue[ne]=null&position[gt]=0",
    "companies?position=7",
    "companies?isCustomer=true",
    "companies?isCustomer=false&sort=-position",
    "companies?lastContact[gte]=2024-01-01T12:00:00.5%2B01:00",
    "companies?lastContact=null",
    "companies?createdAt=2024-01-01T12:00:00Z",
    "companies?name=STRA%C3%9FE",
    "companies?name=stra%C3%9Fe",
    "companies?website=HTTP://ACME.example:80/",
    "companies?stageId=null",
    "companies?q=strasse",
    "companies?q=cafe",
    "companies?q=CAF%C3%89+acme",
    "companies?q=%25",
    "companies?q=a&limit=3",
    "companies?fields=name,id",
    "companies?include=contacts,conversations",
    "companies?include=contacts&fields=name&limit=2",
    "companies?include=contacts,conversations,contacts,contacts&fields=name,name&limit=2",
    "companies?include=contacts,conversations&sort=-name&q=a",
    "companies/special?include=conversations,contacts",
    "companies/special?fields=dealValue",
    "companies?id=special&id=nobody",
    "contacts",
    "contacts?email=ANN@Acme.example",
    "contacts?email=null",
    "contacts?companyId=special",
    "contacts?companyId=null",
    "contacts?companyId=nobody",
    "contacts?include=company&limit=5",
    "contacts?isPrimary=true&sort=-name",
    "contacts/ann?include=company",
    "contacts?phone=+49+30+1",
    "conversations",
    "conversations?tags=urgent",
    "conversations?tags=%22quoted%22&tags=caf%C3%A9",
    "conversations?tags=nothing",
    "conversations?visitorIp=2001:DB8::1",
    "conversations?visitorEmail=VISITOR@example.com",
    "conversations?status=open&status=closed&sort=-lastMessageAt,status",
    "conversations?isRead=false&trustUploads=true",
    "conversations/chat",
    "conversations?include=company&q=visitor",
    "conversations?include=company&sort=-status",
]


@pytest.fixture
def special_rows(app: Flask, create_row: CreateRow) -> None:
    """Store demo data, and rows with values that databases show and compare differently."""
    with app.app_context():
        load_demo(12)
    create_row(
        "companies",
        id="special",
        name="Straße \"Café\" 😀 {1} %\\",
        website="http://acme.example",
        dealValue=1999.5,
        position=7,
        isCustomer=True,
        lastContact=NOON,
        createdAt=NOON,
        notes='","notes":null,\n"name":"x"}',
    )  # fmt: skip
    create_row("companies", name="STRASSE", website="http://ACME.example/", dealValue=999999999999.99)
    create_row("companies", name="Cafe\u0301 Acme", dealValue=0)
    create_row("contacts", id="ann", name="Ann", email="ann@ACME.example", companyId="special", phone="+49 30 1")
    create_row("contacts", name="ann", email="aNN@acme.example")
    create_row(
        "conversations",
        id="chat",
        companyId="special",
        visitorIp="2001:db8:0:0::1",
        visitorEmail="visitor@EXAMPLE.com",
        trustUploads=True,
        tags=["urgent", '"quoted"', "café", "a,b", "null"],
    )


def change_everything(query: Query) -> None:
    """Update each row, delete many, create some with the same ids."""
    query("UPDATE companies SET name = 'New', deal_value = 1, position = 9, notes = 'cafe', is_customer = false")
    query("UPDATE contacts SET email = 'new@acme.example', name = 'New', phone = '+49 30 1', is_primary = true")
    query("UPDATE conversations SET tags = '[\"urgent\"]', visitor_ip = '10.0.0.1', status = 'open', is_read = true")
    query("DELETE FROM companies WHERE position = 9")
    query("DELETE FROM contacts WHERE id <> 'ann'")
    query(
        "INSERT INTO companies (id, name, position, is_customer, created_at, updated_at)"
        " VALUES ('special', 'Again', 0, true, '2024-01-01T12:00:00Z', '2024-01-01T12:00:00Z')"
    )
    query("UPDATE contacts SET company_id = 'special'")


def answers(client: FlaskClient, more: str = "") -> dict[str, Any]:
    """Return the response to each of the QUERIES: status, body, and the count of all rows."""
    found = {}
    for path in QUERIES:
        url = f"/api/v1/{path}{more and ('&' if '?' in path else '?') + more}"
        response = client.get(url, headers={"Prefer": "count=exact"})
        body = response.json["detail"] if response.status_code >= 400 else response.text
        found[path] = response.status_code, body, response.headers.get("X-Total-Count")
    return found


def test_as_of_returns_the_response_of_then_for_every_query(
    special_rows: None, reader: FlaskClient, query: Query
) -> None:
    then, at = answers(reader), version(reader)
    assert [path for path in QUERIES if then[path][0] != 200] == ["companies/nobody"], then
    change_everything(query)

    found = answers(reader, f"asOf={at}")
    for path in QUERIES:
        assert found[path] == then[path], path


def test_as_of_returns_whole_lists_of_several_pages(
    special_rows: None, reader: FlaskClient, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, paths = version(reader), ["contacts", "contacts?sort=-name", "companies?include=contacts&sort=-dealValue"]
    then = [reader.get(f"/api/v1/{path}").text for path in paths]
    change_everything(query)
    monkeypatch.setattr("api.query.MAX_PAGE", 10)

    assert [reader.get(f"/api/v1/{path}{'&' if '?' in path else '?'}asOf={at}").text for path in paths] == then


@pytest.mark.parametrize(
    ("path", "sorts"),
    [("contacts?asOf=VERSION", 1), ("contacts?asOf=VERSION&sort=-name", 1), ("contacts?sort=name", 1), ("contacts", 0)],
)
def test_all_pages_of_a_whole_list_sort_its_rows_once(
    special_rows: None,
    reader: FlaskClient,
    statements: list[ExecutedStatement],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    sorts: int,
) -> None:
    path = f"/api/v1/{path.replace('VERSION', str(version(reader)))}"
    monkeypatch.setattr("api.query.MAX_PAGE", 10)
    statements.clear()
    count = len(json.loads(reader.get(path).data))

    pages = [each.sql for each in statements if "AS page" in each.sql]
    of_all_rows = [sql for sql in pages if "LIMIT" not in sql.partition("AS page")[0] and "numbers" not in sql]
    assert len(of_all_rows) == sorts
    assert len(pages) - sorts == -(-count // 10) > 1
    assert sum("GROUP BY changes.row_id" in sql for sql in pages) == ("asOf" in path)


@pytest.mark.parametrize("as_of", ["version", "time"])
def test_later_pages_have_the_version_of_the_first_while_others_write(
    special_rows: None, reader: FlaskClient, create_row: CreateRow, query: Query, as_of: str
) -> None:
    at = str(version(reader))
    then = reader.get(f"{CONTACTS}?sort=name").json
    text = at if as_of == "version" else (datetime.now(UTC) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    if as_of == "time":
        then = reader.get(f"{CONTACTS}?sort=name&asOf={text}").json
    found = []
    for number, page in enumerate(pages(reader, f"{CONTACTS}?sort=name&limit=5&asOf={text}")):
        found += page
        create_row("contacts", name=f"A{number}")
        query("UPDATE contacts SET name = 'Zoe' WHERE name > 'M'")

    assert found == then


def test_the_cursor_of_one_version_is_refused_for_another(special_rows: None, reader: FlaskClient) -> None:
    def cursor(query_string: str) -> str:
        link = reader.get(f"{CONTACTS}?limit=2{query_string}").headers["Link"]
        return re.findall("cursor=([^&>]+)", link)[0]

    at = version(reader)
    past, present = cursor(f"&asOf={at - 1}"), cursor("")
    for query_string in f"&cursor={past}", f"&cursor={past}&asOf={at}", f"&cursor={present}&asOf={at}":
        assert reader.get(f"{CONTACTS}?limit=2{query_string}").status_code == 400
    assert reader.get(f"{CONTACTS}?limit=2&cursor={past}&asOf={at - 1}").status_code == 200


def test_every_version_of_a_row_can_be_read(writer: FlaskClient) -> None:
    path, states = f"{CONTACTS}/a", [None]
    for method, body in [
        ("PUT", {"name": "one"}), ("PATCH", {"title": "CEO"}), ("DELETE", None),
        ("PUT", {"name": "two", "createdAt": "2020-01-01T00:00:00Z"}), ("PUT", {"name": "two"}), ("DELETE", None),
    ]:  # fmt: skip
        writer.open(path, method=method, json=body)
        response = writer.get(path)
        if version(writer) == len(states):
            states.append(response.text if response.status_code == 200 else None)

    assert len(states) == 6
    for at, text in enumerate(states):
        response = writer.get(f"{path}?asOf={at}")
        assert (response.text if response.status_code == 200 else None) == text
        assert writer.get(f"{CONTACTS}?asOf={at}").text == f"[{text or ''}]"


def log_change(query: Query, number: int, at: str, first: int = 0) -> None:
    """Log the creation of a contact, and with `first`, that the transaction from that number on ends with it."""
    data = json.dumps({"id": f"c{number}", "name": str(number)})
    query(
        "INSERT INTO changes (seq, resource, row_id, action, at, data)"
        f" VALUES ({number}, 'contacts', 'c{number}', 'created', '{at}', :data)",
        data=data,
    )
    if first:
        query(f"INSERT INTO writes VALUES ({first}, {number}, NULL, 'r{number}', '{at}')")


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2024-01-01T00:00:09Z", 0),
        ("2024-01-01T00:00:10Z", 2),
        ("2024-01-01T00:00:10.999Z", 2),
        # 3 to 5 are one transaction, which ended a second after it began.
        ("2024-01-01T00:00:20Z", 2),
        ("2024-01-01T00:00:21Z", 5),
        ("2024-01-01T01:00:21%2B01:00", 5),
        ("2024-01-01t00:00:21.5z", 5),
        ("2024-01-01T00:00:30Z", 6),
        ("2026-01-01T00:00:00Z", 6),
        ("0001-01-01T00:00:00Z", 0),
    ],
)
def test_a_time_stands_for_the_last_transaction_that_had_ended(
    reader: FlaskClient, query: Query, time: str, expected: int
) -> None:
    for number, second, first in [(1, 10, 0), (2, 10, 2), (3, 20, 0), (4, 20, 0), (5, 21, 3), (6, 30, 0)]:
        log_change(query, number, f"2024-01-01T00:00:{second}Z", first)

    response = reader.get(f"{CONTACTS}?asOf={time}")
    assert response.headers["Dataset-Version"] == str(expected)
    assert len(response.json) == expected
    assert reader.get(f"{CONTACTS}/c5?asOf={time}").status_code == (200 if expected >= 5 else 404)


def test_fields_that_a_later_schema_added_are_null(reader: FlaskClient, query: Query) -> None:
    log_change(query, 1, NOON)

    [row] = reader.get(f"{CONTACTS}?asOf=1").json
    assert row == reader.get(f"{CONTACTS}/c1?asOf=1").json
    assert [*row] == [str(each.data_key) for each in RESOURCES["contacts"].fields.values()]
    assert (row["name"], row["email"], row["companyId"], row["updatedAt"]) == ("1", None, None, None)
    assert reader.get(f"{CONTACTS}?asOf=1&email=null&sort=-createdAt&fields=id").json == [{"id": "c1"}]

    for number in range(2, 4):
        log_change(query, number, NOON)
    assert [[row["id"] for row in page] for page in pages(reader, f"{CONTACTS}?asOf=3&sort=createdAt&limit=1")] == [
        ["c1"], ["c2"], ["c3"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("as_of", "status", "detail"),
    [
        ("2", 400, "asOf must be a whole number from 0 to 1, not '2'."),
        ("9223372036854775808", 400, "asOf must be a whole number from 0 to 1"),
        ("1" * 5_000, 400, "asOf must be a whole number from 0 to 1"),
        ("%D9%A1", 400, "asOf must be a whole number from 0 to 1"),
        ("-1", 400, "asOf can be a version or a time, not '-1'. Must be a time with an offset"),
        ("1.0", 400, "asOf can be a version or a time"),
        ("", 400, "asOf can be a version or a time"),
        ("yesterday", 400, "asOf can be a version or a time"),
        ("%00", 400, "asOf can be a version or a time"),
        ("%ED%A0%80", 400, "The query string must be in UTF-8."),
        ("2024-01-01", 400, "Must be a time with an offset"),
        ("2024-01-01T00:00:00", 400, "Must be a time with an offset"),
        ("2024-13-01T00:00:00Z", 400, "Must be a time that exists"),
        ("2024-01-01T00:00:00+01:00", 400, "send %2B for a plus sign"),
        ("9999-12-31T23:59:59Z", 400, "asOf can't be '9999-12-31T23:59:59Z': that is in the future."),
        ("0&asOf=1", 400, "asOf must be given once"),
        ("0", 200, ""),
        ("1", 200, ""),
        ("01", 200, ""),
    ],
)
@pytest.mark.databases("sqlite")
def test_an_invalid_version_or_one_in_the_future_is_400(
    reader: FlaskClient, create_row: CreateRow, as_of: str, status: int, detail: str
) -> None:
    create_row("contacts", id="a")

    for path in "contacts", "contacts/a", "contacts?include=company&limit=1":
        response = reader.get(f"/api/v1/{path}{'&' if '?' in path else '?'}asOf={as_of}")
        expected = 404 if path == "contacts/a" and as_of == "0" else status
        assert response.status_code == expected, response.text
        assert status == 200 or detail in response.json["detail"]


@pytest.mark.parametrize("path", ["contacts?x=1&asOf=1", "changes?asOf=1", "keys?asOf=1", "contacts?asof=1"])
@pytest.mark.databases("sqlite")
def test_only_lists_and_rows_of_resources_take_as_of(admin: FlaskClient, create_row: CreateRow, path: str) -> None:
    create_row("contacts")
    assert admin.get(f"/api/v1/{path}").status_code == 400


@pytest.mark.parametrize("path", ["contacts", "contacts/a", "contacts?include=company&limit=1", "contacts/a?fields=id"])
def test_the_response_for_a_version_is_immutable(
    reader: FlaskClient, create_row: CreateRow, statements: list[ExecutedStatement], path: str
) -> None:
    create_row("contacts", id="a")
    create_row("contacts", id="b")
    url = f"/api/v1/{path}{'&' if '?' in path else '?'}asOf="
    first = reader.get(f"{url}1")
    create_row("contacts", id="c")

    assert first.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert first.headers["Vary"] == "Authorization, Accept"
    assert first.headers["Dataset-Version"] == "1"
    again = reader.get(f"{url}1", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert [again.headers[name] for name in ("ETag", "Cache-Control", "Dataset-Version")] == [
        first.headers[name] for name in ("ETag", "Cache-Control", "Dataset-Version")
    ]
    head = reader.head(f"{url}1")
    assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", first.headers["ETag"])
    assert head.headers["Content-Length"] == str(len(first.data))
    by_time = reader.get(f"{url}{datetime.now(UTC).isoformat()[:19]}Z")
    assert by_time.status_code == 200 and "Cache-Control" not in by_time.headers
    assert reader.get(f"{url}0", headers={"If-None-Match": first.headers["ETag"]}).status_code != 304


def test_a_forgotten_row_is_in_no_version(admin: FlaskClient, writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="other")
    create_row("contacts", id="a", title="a secret")
    url = f"{CONTACTS}?asOf=2"
    list_tag, row_tag = (writer.get(each).headers["ETag"] for each in (url, f"{CONTACTS}/a?asOf=2"))
    assert "secret" in writer.get(url).text
    admin.post(f"{CONTACTS}/a/forget")
    writer.put(f"{CONTACTS}/a", json={"name": "new"})

    assert [row["id"] for row in writer.get(url, headers={"If-None-Match": list_tag}).json] == ["other"]
    for tag in row_tag, "*", row_tag.replace("-2", "-4"):
        assert writer.get(f"{CONTACTS}/a?asOf=2", headers={"If-None-Match": tag}).status_code == 404
    assert writer.get(f"{CONTACTS}/a?asOf=5").json["name"] == "new"
    assert all("secret" not in writer.get(f"{CONTACTS}?asOf={at}&include=company").text for at in range(6))


def test_versions_before_the_oldest_one_are_410(reader: FlaskClient, create_row: CreateRow, query: Query) -> None:
    for _number in range(3):
        create_row("contacts")
    query("UPDATE dataset SET oldest_version = 2")

    response = reader.get(f"{CONTACTS}?asOf=1")
    assert (response.status_code, response.json["detail"]) == (
        410, "The rows as of version 1 are no longer kept: the oldest version is 2.",
    )  # fmt: skip
    assert reader.get(f"{CONTACTS}?asOf=2").status_code == 200


def test_changes_by_a_database_shell_are_versions_too(
    reader: FlaskClient, create_row: CreateRow, database: str
) -> None:
    create_row("contacts", id="a", title="one")
    run_external_sql(database, "UPDATE contacts SET title = 'two'")
    run_external_sql(database, "DELETE FROM contacts")

    titles = [[row["title"] for row in reader.get(f"{CONTACTS}?asOf={at}").json] for at in range(4)]
    assert titles == [[], ["one"], ["two"], []]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.tools)])
def test_an_old_log_shows_its_versions(upgraded: FlaskClient) -> None:
    last = version(upgraded)
    assert rows(upgraded, f"asOf={last}") == rows(upgraded)
    rebuilt: dict[tuple[str, str], Any] = {}
    for entry in feed(upgraded):
        rebuilt.pop((entry["resource"], entry["id"]), None)
        if entry["data"]:
            rebuilt[entry["resource"], entry["id"]] = entry["data"]
        if entry["seq"] % 20 == 0:
            assert rows(upgraded, f"asOf={entry['seq']}") == rebuilt
    assert rows(upgraded, "asOf=2026-01-01T00:00:00Z") == {}

"""Lists: pages, sorting, filters, search, fields and embedded rows."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database import db
from seed import load_demo
from tests.conftest import CreateRow, ExecutedStatement, Query, run_external_sql

pytestmark = pytest.mark.databases("sqlite", "postgresql")

COMPANIES = "/api/v1/companies"


def names(client: FlaskClient, query_string: str) -> list[str]:
    response = client.get(f"{COMPANIES}?{query_string}")
    assert response.status_code == 200, response.text
    return [row["name"] for row in response.json]


def pages(client: FlaskClient, path: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each page, following the Link header."""
    last = ""
    while path:
        assert path != last
        last = path
        response = client.get(path)
        assert response.status_code == 200, response.text
        yield response.json
        link = response.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        path = link.removesuffix('>; rel="next"').removeprefix("<http://localhost")


@pytest.fixture
def five_companies(create_row: CreateRow) -> None:
    """Store five companies that every sort orders differently."""
    for name, value, day, customer in [
        ("Delta", 40, 4, True),
        ("alpha", None, 1, False),
        ("Beta", 20.5, 2, True),
        ("Gamma", 20.5, None, False),
        ("Epsilon", 1000, 5, False),
    ]:
        last = day and f"2024-01-0{day}T00:00:00Z"
        create_row("companies", name=name, dealValue=value, lastContact=last, isCustomer=customer, industry=name[:2])


@pytest.mark.parametrize(
    "sort", ["", "createdAt", "-createdAt", "name", "-dealValue,name", "lastContact", "-lastContact,-id"]
)
@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
def test_all_pages_together_are_the_whole_list(app: Flask, reader: FlaskClient, sort: str, limit: int) -> None:
    with app.app_context():
        load_demo(60)
    parameters = f"sort={sort}&" if sort else ""

    whole = reader.get(f"{COMPANIES}?{parameters}").json
    paged = [row for page in pages(reader, f"{COMPANIES}?{parameters}limit={limit}") for row in page]
    assert paged == whole
    assert len({row["id"] for row in paged}) == 60


def test_pages_have_at_most_limit_rows_and_the_last_page_has_no_link(five_companies: None, reader: FlaskClient) -> None:
    assert [len(page) for page in pages(reader, f"{COMPANIES}?limit=2")] == [2, 2, 1]
    assert [len(page) for page in pages(reader, f"{COMPANIES}?limit=5")] == [5]


def test_writes_between_pages_neither_repeat_nor_skip_rows(
    app: Flask, reader: FlaskClient, query: Query, create_row: CreateRow
) -> None:
    with app.app_context():
        load_demo(40)
    before = [row["id"] for row in reader.get(COMPANIES).json]
    seen: list[str] = []
    for number, page in enumerate(pages(reader, f"{COMPANIES}?limit=5")):
        seen += [row["id"] for row in page]
        create_row("companies", createdAt=f"2024-0{1 + number % 9}-01T00:00:00Z", id=f"new-{number}")
        query("DELETE FROM companies WHERE id = :id", id=seen[number * 2])

    assert [row_id for row_id in seen if not row_id.startswith("new-")] == before
    assert len(seen) == len(set(seen))


def test_the_next_link_keeps_the_filters(create_row: CreateRow, reader: FlaskClient) -> None:
    wanted = ["a&b", "c=d", "e>f", "g+h i", "ü%"]
    for name in [*wanted, "another"]:
        create_row("companies", name=name)
    filters = "&".join(f"name={quote(name)}" for name in wanted)

    assert [row["name"] for page in pages(reader, f"{COMPANIES}?limit=2&{filters}") for row in page] == wanted


def test_a_cursor_is_valid_only_for_its_sort(five_companies: None, reader: FlaskClient) -> None:
    [first, *_rest] = [reader.get(f"{COMPANIES}?limit=1&sort=name").headers["Link"]]
    path = first[len("<http://localhost") :].split(">")[0]

    assert reader.get(path).status_code == 200
    assert reader.get(path.replace("sort=name", "sort=-name")).status_code == 400


def test_the_total_is_counted_on_request(five_companies: None, reader: FlaskClient) -> None:
    counted = reader.get(f"{COMPANIES}?limit=1&isCustomer=false", headers={"Prefer": "count=exact"})

    assert (counted.headers["X-Total-Count"], counted.headers["Preference-Applied"]) == ("3", "count=exact")
    assert "X-Total-Count" not in reader.get(f"{COMPANIES}?limit=1").headers


@pytest.mark.parametrize(
    ("query_string", "expected"),
    [
        ("sort=name", ["Beta", "Delta", "Epsilon", "Gamma", "alpha"]),
        ("sort=-name", ["alpha", "Gamma", "Epsilon", "Delta", "Beta"]),
        ("sort=dealValue,name", ["Beta", "Gamma", "Delta", "Epsilon", "alpha"]),
        ("sort=-dealValue,name", ["Epsilon", "Delta", "Beta", "Gamma", "alpha"]),
        ("sort=lastContact", ["alpha", "Beta", "Delta", "Epsilon", "Gamma"]),
        ("sort=-lastContact", ["Epsilon", "Delta", "Beta", "alpha", "Gamma"]),
        ("sort=isCustomer,-name", ["alpha", "Gamma", "Epsilon", "Delta", "Beta"]),
        ("sort=name&isCustomer=true", ["Beta", "Delta"]),
        ("sort=name&dealValue=20.5", ["Beta", "Gamma"]),
        ("sort=name&dealValue=20.50", ["Beta", "Gamma"]),
        ("sort=name&dealValue=20.5&dealValue=1e3", ["Beta", "Epsilon", "Gamma"]),
        ("sort=name&dealValue=null", ["alpha"]),
        ("sort=name&dealValue=null&dealValue=40", ["Delta", "alpha"]),
        ("sort=name&dealValue[gte]=40", ["Delta", "Epsilon"]),
        ("sort=name&dealValue[gt]=40", ["Epsilon"]),
        ("sort=name&dealValue[gt]=20&dealValue[lt]=1000", ["Beta", "Delta", "Gamma"]),
        ("sort=name&dealValue[lte]=20.5", ["Beta", "Gamma"]),
        ("sort=name&dealValue[ne]=20.5", ["Delta", "Epsilon", "alpha"]),
        ("sort=name&dealValue[ne]=null", ["Beta", "Delta", "Epsilon", "Gamma"]),
        ("sort=name&lastContact[gte]=2024-01-04T01:00:00%2B01:00", ["Delta", "Epsilon"]),
        ("sort=name&lastContact=2024-01-01T00:00:00Z", ["alpha"]),
        ("sort=name&position[ne]=0", []),
        ("sort=name&name=alpha&name=Beta", ["Beta", "alpha"]),
        ("sort=name&name=null", []),
        ("q=elt", ["Delta"]),
        ("q=ELT", ["Delta"]),
        ("q=al", ["alpha"]),
        ("q=lta+de", ["Delta"]),
        ("q=lta+be", []),
        ("q=%25", []),
        ("q=%22del", []),
        ("q=delta+OR+beta", []),
    ],
)  # fmt: skip
def test_lists_are_sorted_filtered_and_searched(
    five_companies: None, reader: FlaskClient, query_string: str, expected: list[str]
) -> None:
    assert names(reader, query_string) == expected


def test_a_tags_filter_matches_whole_tags(reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("conversations", id="a", tags=["urgent", "sales"])
    create_row("conversations", id="b", tags=["very urgent"])
    create_row("conversations", id="c", tags=["sales"], status="closed")

    def found(query_string: str) -> list[str]:
        return [row["id"] for row in reader.get(f"/api/v1/conversations?sort=id&{query_string}").json]

    assert found("tags=urgent") == ["a"]
    assert found("tags=urgent&tags=sales") == ["a", "c"]
    assert found("tags=sales&status=closed") == ["c"]


def test_a_search_finds_the_current_values(reader: FlaskClient, create_row: CreateRow, query: Query) -> None:
    create_row("contacts", id="x", name="Zoë Ångström", notes="likes gardening", email="zoe@acme.com")

    def found(text: str) -> list[str]:
        return [row["id"] for row in reader.get("/api/v1/contacts", query_string={"q": text}).json]

    assert found("ÅNGSTR") == found("gard zoe@") == ["x"]
    query("UPDATE contacts SET notes = 'likes sailing'")
    assert (found("gardening"), found("sailing")) == ([], ["x"])
    query("DELETE FROM contacts")
    assert found("sailing") == []


@pytest.mark.databases("sqlite")
def test_a_search_works_after_a_vacuum(reader: FlaskClient, create_row: CreateRow, query: Query, app: Flask) -> None:
    for name in "first", "second", "third":
        create_row("contacts", id=name, name=name)
    query("DELETE FROM contacts WHERE id = 'first'")
    with app.app_context(), db.engine.connect() as connection:
        connection.exec_driver_sql("VACUUM")

    assert [row["id"] for row in reader.get("/api/v1/contacts?q=third").json] == ["third"]


def test_selected_fields_are_in_the_order_of_the_resource(five_companies: None, reader: FlaskClient) -> None:
    row = reader.get(f"{COMPANIES}?fields=name,id&limit=1").json[0]
    assert list(row) == ["id", "name"]

    one = reader.get(f"{COMPANIES}/{row['id']}?fields=isCustomer,name").json
    assert list(one) == ["name", "isCustomer"]


def test_embedded_rows_are_complete_and_in_order(reader: FlaskClient, create_row: CreateRow) -> None:
    acme, empty = (
        create_row("companies", createdAt="2024-01-01T00:00:00Z"),
        create_row("companies", createdAt="2024-01-02T00:00:00Z"),
    )
    second = create_row("contacts", companyId=acme, createdAt="2024-02-02T00:00:00Z")
    first = create_row("contacts", companyId=acme, createdAt="2024-02-01T00:00:00Z", isPrimary=True)
    chat = create_row("conversations", companyId=acme, tags=["a"])
    alone = create_row("contacts", createdAt="2024-02-03T00:00:00Z")

    rows = reader.get(f"{COMPANIES}?include=conversations,contacts").json
    assert list(rows[0])[-3:] == ["updatedAt", "contacts", "conversations"]
    assert rows[0]["contacts"] == [reader.get(f"/api/v1/contacts/{each}").json for each in (first, second)]
    assert rows[0]["conversations"] == [reader.get(f"/api/v1/conversations/{chat}").json]
    assert (rows[1]["id"], rows[1]["contacts"], rows[1]["conversations"]) == (empty, [], [])

    contacts = reader.get("/api/v1/contacts?include=company&fields=id").json
    assert [list(row) for row in contacts] == [["id", "company"]] * 3
    assert contacts[0]["company"] == reader.get(f"{COMPANIES}/{acme}").json
    assert contacts[2] == {"id": alone, "company": None}
    assert reader.get(f"/api/v1/conversations/{chat}?include=company").json["company"]["id"] == acme


@pytest.mark.parametrize(
    "path", ["companies?include=contacts,conversations", "contacts?include=company", "contacts?limit=5&q=ann"]
)
def test_query_parameters_add_no_statements(
    app: Flask, reader: FlaskClient, statements: list[ExecutedStatement], path: str
) -> None:
    with app.app_context():
        load_demo(30)
    statements.clear()

    assert reader.get(f"/api/v1/{path}").status_code == 200
    # One statement finds the key, one reads the version and the rows.
    assert [each.verb for each in statements] == ["SELECT", "SELECT"]


@pytest.mark.parametrize(
    "sort", ["-isCustomer", "isCustomer,-name", "-position,-isCustomer", "-createdAt", "-notes,id"]
)
def test_the_pages_of_any_sort_have_every_row_once(reader: FlaskClient, create_row: CreateRow, sort: str) -> None:
    for number in range(7):
        create_row("companies", name=f"number {number}", isCustomer=number % 2 == 0, notes="" if number % 3 else None)

    whole = names(reader, f"sort={sort}")
    assert len(set(whole)) == 7
    assert [row["name"] for page in pages(reader, f"{COMPANIES}?sort={sort}&limit=2") for row in page] == whole


def test_a_row_with_an_invalid_value_does_not_stop_pagination(
    reader: FlaskClient, create_row: CreateRow, query: Query
) -> None:
    for name in "a", "b":
        create_row("contacts", id=name, email=f"{name}@acme.com")
    query("UPDATE contacts SET email = 'a b@c' WHERE id = 'a'")

    found = [row["id"] for page in pages(reader, "/api/v1/contacts?sort=email&limit=1") for row in page]
    assert found == ["a", "b"]


def test_a_streamed_list_is_complete(reader: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    with app.app_context():
        load_demo(30)
    whole = {path: reader.get(path).data for path in (COMPANIES, f"{COMPANIES}?industry=Retail&industry=Energy")}
    sorted_ = reader.get(f"{COMPANIES}?sort=-name").data
    monkeypatch.setattr("api.query.MAX_PAGE", 4)
    monkeypatch.setattr("api.query.MAX_SORTED_PAGE", 7)

    for path, body in whole.items():
        response = reader.get(path)
        assert "Content-Length" not in response.headers
        assert response.data == body
    assert reader.get(f"{COMPANIES}?sort=-name").data == sorted_


def test_a_streamed_list_is_read_from_one_snapshot(
    database: str, reader: FlaskClient, create_row: CreateRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.query.MAX_PAGE", 1)
    for name in "a", "b", "c":
        create_row("contacts", id=name, createdAt=f"2024-01-0{ord(name) - 96}T00:00:00Z")
    response = reader.get("/api/v1/contacts?fields=id,name", buffered=False)
    pieces = iter(response.response)
    first = next(pieces)
    run_external_sql(database, "DELETE FROM contacts WHERE id = 'b'")
    run_external_sql(database, "UPDATE contacts SET name = 'later'")

    assert [row["name"] for row in json.loads(b"".join([first, *pieces]))] == ["Acme"] * 3
    assert response.headers["Dataset-Version"] == "3"
    response.close()


def test_a_filter_with_1200_values_matches_any_of_them(reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("conversations", id="x", tags=["7"])
    wanted = "&".join(f"tags={number}" for number in range(1200))

    assert [row["id"] for row in reader.get(f"/api/v1/conversations?{wanted}").json] == ["x"]


@pytest.mark.parametrize("path", ["companies/%00", "companies/a%00b", "contacts/%00?include=company", "keys/%00"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_path_with_nul_is_404(admin: FlaskClient, method: str, path: str) -> None:
    assert admin.open(f"/api/v1/{path}", method=method, json={"name": "a"}).status_code == 404


@pytest.mark.parametrize(("word", "found"), [("Ä", True), ("äÖ", True), ("É", False), ("_", False), ("%", False)])
def test_a_search_for_a_short_word_is_case_insensitive(
    reader: FlaskClient, create_row: CreateRow, word: str, found: bool
) -> None:
    create_row("contacts", name="Mäö")

    assert len(reader.get(f"/api/v1/contacts?q={quote(word)}").json) == found


@pytest.mark.parametrize(
    ("prefer", "counted"),
    [("count=exact", True), ('a, Count="exact"; b', True), ("xcount=exact", False), ("count=exactly", False)],
)
def test_the_total_is_counted_only_for_count_exact(reader: FlaskClient, prefer: str, counted: bool) -> None:
    response = reader.get(f"{COMPANIES}?limit=1", headers={"Prefer": prefer})
    assert ("X-Total-Count" in response.headers) is counted


@pytest.mark.parametrize(
    ("path", "plan"),
    [
        ("companies?limit=5", ["SCAN companies USING INDEX ix_companies_created_at_id"]),
        ("companies?sort=updatedAt&limit=5", ["SCAN companies USING INDEX ix_companies_updated_at_id"]),
        ("companies?updatedAt[gt]=2024-01-01T00:00:00Z&sort=updatedAt", ["USING INDEX ix_companies_updated_at_id"]),
        ("companies?name=Acme", ["SEARCH companies USING INDEX ix_companies_name_created_at_id"]),
        ("companies?website=https://acme.com", ["SEARCH companies USING INDEX ix_companies_website_created_at_id"]),
        ("companies?stageId=won&limit=5", ["SEARCH companies USING INDEX ix_companies_stage_id_created_at_id"]),
        ("contacts?companyId=a&limit=5", ["SEARCH contacts USING INDEX ix_contacts_company_id_created_at_id"]),
        ("conversations?companyId=a", ["SEARCH conversations USING INDEX ix_conversations_company_id_created_at_id"]),
        ("contacts?sort=-createdAt&limit=5", ["SCAN contacts USING INDEX ix_contacts_created_at_id"]),
        ("contacts?email=a@acme.com", ["SEARCH contacts USING INDEX ix_contacts_email_created_at_id"]),
        ("conversations?status=open", ["SEARCH conversations USING INDEX ix_conversations_status_created_at_id"]),
        ("contacts?q=ann", ["SEARCH contacts USING INTEGER PRIMARY KEY", "SCAN contacts_search VIRTUAL TABLE INDEX"]),
        ("companies/x?include=contacts", ["sqlite_autoindex_companies", "contacts USING INDEX ix_contacts_company_id"]),
        ("companies?sort=-updatedAt,name&limit=5", ["SEARCH companies USING INDEX ix_companies_updated_at_id"]),
        ("changes?since=5", ["SEARCH changes USING INTEGER PRIMARY KEY"]),
    ],
)  # fmt: skip
def test_every_documented_query_uses_an_index(explain: Callable[[str], str], path: str, plan: list[str]) -> None:
    found = explain(f"/api/v1/{path}")

    if "Scan" in found:
        # PostgreSQL's plans have other words and the same indexes, except that q uses none.
        plan = re.findall(r"ix_\w+", " ".join(plan))
    for step in plan:
        assert step in found
    # Among rows with equal first terms, SQLite may sort by the last terms without an index.
    assert not re.search("TEMP B-TREE FOR ORDER BY|TEMP B-TREE$|Sort$", found) or "q=" in path or "include" in path


@pytest.mark.parametrize(
    ("sort", "condition"),
    [
        ("createdAt", "(created_at,id)>(?,?)"),
        ("-createdAt", "created_at<?"),
        ("-updatedAt,name", "updated_at<?"),
        ("updatedAt,-name", "updated_at>?"),
    ],
)
def test_the_query_of_a_next_page_uses_an_index(
    explain: Callable[[str], str], create_row: CreateRow, reader: FlaskClient, sort: str, condition: str
) -> None:
    for _number in range(3):
        create_row("contacts")
    link = reader.get(f"/api/v1/contacts?limit=1&sort={sort}").headers["Link"]

    found = explain(link[len("<http://localhost") :].split(">")[0])
    column = "created_at" if "createdAt" in sort else "updated_at"
    index = f"ix_contacts_{column}_id"
    assert f"SEARCH contacts USING INDEX {index} ({condition})" in found or (
        "Scan" in found
        and f"using {index} on contacts" in found
        and re.search(rf"Index Cond: \(.*{column}[ ,].*[<>]", found)
    )


@pytest.fixture
def explain(app: Flask, reader: FlaskClient, statements: list[ExecutedStatement]) -> Callable[[str], str]:
    """Return a function that returns the query plans of a GET request, without the lookup of the key."""

    def plan_of(path: str) -> str:
        statements.clear()
        assert reader.get(path).status_code in {200, 404}
        with app.app_context():
            own = app.extensions["connections"].open()
            command = "EXPLAIN QUERY PLAN"
            if db.engine.dialect.name == "postgresql":
                # PostgreSQL would otherwise scan a table of a few rows.
                for node in "seqscan", "bitmapscan", "sort":
                    own.driver.execute(f"SET enable_{node} = off")
                command = "EXPLAIN"
            found = []
            for each in statements[1:]:
                found += [row[-1] for row in own.driver.execute(f"{command} {each.sql}", each.values)]
            own.pooled.invalidate()
            return "\n".join(found)

    return plan_of

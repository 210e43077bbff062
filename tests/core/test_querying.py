"""Lists: sorting, filters, search, fields and embedded rows."""

from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database import db
from seed import load_demo
from tests.conftest import CreateRow, ExecutedStatement, Query
from tests.core.conftest import names, pages

pytestmark = pytest.mark.databases("sqlite", "postgresql")

COMPANIES = "/api/v1/companies"


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


# For each operator, whether it finds a row with the same value, and one whose value is the finer one rounded down.
FOUND_BY = {"[lt]": (0, 1), "[lte]": (1, 1), "[gt]": (0, 0), "[gte]": (1, 0), "[ne]": (0, 1), "": (1, 0)}


@pytest.mark.parametrize(
    ("resource", "field", "value", "finer_value"),
    [
        *(
            (resource, field, "2024-01-15T10:30:00.000Z", finer)
            for resource, field in [
                ("companies", "lastContact"),
                ("companies", "createdAt"),
                ("contacts", "updatedAt"),
                ("conversations", "lastMessageAt"),
            ]
            for finer in ("2024-01-15T10:30:00.500Z", "2024-01-15T12:30:00.000000001+02:00")
        ),
        ("companies", "dealValue", "1999.5", "1999.5000001"),
        ("companies", "dealValue", "1999.500", "1999.509"),
        ("companies", "position", "7", "7.5"),
    ],
)
def test_a_filter_compares_the_whole_value(
    reader: FlaskClient, create_row: CreateRow, resource: str, field: str, value: str, finer_value: str
) -> None:
    times = {"createdAt": "2024-01-15T10:30:00Z", "updatedAt": "2024-01-15T10:30:00Z"}
    stored = {"dealValue": 1999.5, "position": 7}.get(field, "2024-01-15T10:30:00Z")
    create_row(resource, **times | {field: stored})

    found = {
        operator: tuple(
            len(reader.get(f"/api/v1/{resource}?{field}{operator}={quote(text)}").json) for text in (value, finer_value)
        )
        for operator in FOUND_BY
    }
    assert found == FOUND_BY


def test_a_finer_value_among_others_matches_nothing(reader: FlaskClient, five_companies: None) -> None:
    assert names(reader, "dealValue=20.501&dealValue=40") == ["Delta"]
    assert names(reader, "dealValue=20.501&dealValue=null") == ["alpha"]
    assert names(reader, "dealValue=20.501") == []


@pytest.mark.parametrize(
    ("query_string", "expected"),
    [
        ("contacts?phone=+4930555010", {"plus"}),
        ("contacts?phone=%2B4930555010", {"plus"}),
        ("contacts?phone=+49+30+555010", {"blanks"}),
        ("contacts?phone=%2B49+30+555010", {"blanks"}),
        ("contacts?phone=%2B49%2030%20555010", {"blanks"}),
        ("contacts?name=Jane+Roe", {"plus"}),
        ("contacts?name=Jane%20Roe", {"plus"}),
        ("contacts?name=Jane%2BRoe", set()),
        ("contacts?name=C++", {"blanks"}),
        ("contacts?title=C++%20dev", {"plus"}),
        ("contacts?title=C%2B%2B+dev", {"plus"}),
        ("contacts?title=C+++dev", {"plus"}),
        ("contacts?title=%2BC+++dev+&title=C+++dev", {"plus"}),
        ("contacts?title=C++%2Bdev", set()),
        ("contacts?title=+1+C++%20x+y", {"blanks"}),
        ("contacts?title=+1+C++%20x+y&q=c++&name=C++&role=a+b+c+d+e+f+g+h", {"blanks"}),
        ("contacts?role=a+b+c+d+e+f+g+h", {"blanks"}),
        ("contacts?role=%61+b+c+d+e+f+g+h&role=+1+2+3+4+5+6+7", {"blanks", "plus"}),
        ("conversations?tags=d+++e", {"chat"}),
        ("contacts?name=C++&name=Jane+Roe", {"plus", "blanks"}),
        ("contacts?email=jane%2Bnews@lee.example", {"plus"}),
        ("contacts?q=roe+jane", {"plus"}),
        ("contacts?q=%2B4930", {"plus"}),
        ("contacts?createdAt[gte]=2024-01-01T00:00:00%2B02:00", {"plus", "blanks"}),
        ("contacts?createdAt[gte]=2024-01-01+00:00:00Z", {"plus", "blanks"}),
        ("conversations?visitorEmail=jane+news@lee.example", {"chat"}),
        ("conversations?visitorEmail=jane%20news@lee.example", set()),
        ("conversations?tags=c+c", {"chat"}),
        ("conversations?tags=a+b", {"chat"}),
        ("conversations?tags=a%20b", {"chat"}),
        ("conversations?tags=c%20c", set()),
        ("conversations?pageUrl=https://a.example/?q=a+b", {"chat"}),
    ],
)  # fmt: skip
def test_a_plus_in_a_filter_on_text_is_a_blank_or_a_plus_sign(
    reader: FlaskClient, create_row: CreateRow, query_string: str, expected: set[str]
) -> None:
    values = {"email": "jane+news@lee.example", "title": "C++ dev", "role": "+1 2 3 4 5 6 7"}
    create_row("contacts", id="plus", name="Jane Roe", phone="+4930555010", **values)
    values = {"title": "+1 C++ x+y", "role": "a b c d e f g h"}
    create_row("contacts", id="blanks", name="C++", phone="+49 30 555010", **values)
    values = {"visitorEmail": "jane+news@lee.example", "pageUrl": "https://a.example/?q=a+b"}
    values["tags"] = ["c+c", "a b", "d++ e"]
    create_row("conversations", id="chat", **values)

    assert {row["id"] for row in reader.get(f"/api/v1/{query_string}").json} == expected


def test_2000_values_with_blanks_are_accepted(reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", name="number 7")
    filters = "&".join(f"name=number+{number}" for number in range(2000))

    assert [row["name"] for row in reader.get(f"/api/v1/contacts?{filters}").json] == ["number 7"]


def test_a_plus_has_the_same_meanings_on_every_page(reader: FlaskClient, create_row: CreateRow) -> None:
    for name in "a b", "a+b", "a b", "a+b":
        create_row("contacts", name=name)

    def read(query_string: str) -> list[str]:
        return [row["name"] for page in pages(reader, f"/api/v1/contacts?limit=1&{query_string}") for row in page]

    assert read("name=a+b") == ["a b", "a+b", "a b", "a+b"]
    assert (read("name=a%20b"), read("name=a%2Bb")) == (["a b"] * 2, ["a+b"] * 2)


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

    assert found("ÅNGSTR") == found("gard zoe@") == found("angstrom") == found("A\u030angstr") == ["x"]
    query("UPDATE contacts SET notes = 'likes sailing'")
    assert (found("gardening"), found("sailing")) == ([], ["x"])
    query("DELETE FROM contacts")
    assert found("sailing") == []


@pytest.mark.parametrize("name", ["Caf\u00e9 Müller", "Cafe\u0301 Müller", "CAFÉ MU\u0308LLER", "cafe muller"])
def test_a_search_ignores_case_and_accents(reader: FlaskClient, create_row: CreateRow, name: str) -> None:
    create_row("companies", name=name)
    create_row("companies", name="Koch")

    for text in "caf\u00e9", "CAFE\u0301", "cafe", "mül fé", "u\u0308", "MU", "é":
        assert names(reader, f"q={quote(text)}") == [name], text


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
    conversation = create_row("conversations", companyId=acme, tags=["a"])
    without_company = create_row("contacts", createdAt="2024-02-03T00:00:00Z")

    rows = reader.get(f"{COMPANIES}?include=conversations,contacts").json
    assert list(rows[0])[-3:] == ["updatedAt", "contacts", "conversations"]
    assert rows[0]["contacts"] == [reader.get(f"/api/v1/contacts/{each}").json for each in (first, second)]
    assert rows[0]["conversations"] == [reader.get(f"/api/v1/conversations/{conversation}").json]
    assert (rows[1]["id"], rows[1]["contacts"], rows[1]["conversations"]) == (empty, [], [])

    contacts = reader.get("/api/v1/contacts?include=company&fields=id").json
    assert [list(row) for row in contacts] == [["id", "company"]] * 3
    assert contacts[0]["company"] == reader.get(f"{COMPANIES}/{acme}").json
    assert contacts[2] == {"id": without_company, "company": None}
    assert reader.get(f"/api/v1/conversations/{conversation}?include=company").json["company"]["id"] == acme


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


def test_a_filter_with_1200_values_matches_any_of_them(reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("conversations", id="x", tags=["7"])
    filters = "&".join(f"tags={number}" for number in range(1200))

    assert [row["id"] for row in reader.get(f"/api/v1/conversations?{filters}").json] == ["x"]


@pytest.mark.parametrize("path", ["companies/%00", "companies/a%00b", "contacts/%00?include=company", "keys/%00"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_path_with_nul_is_404(admin: FlaskClient, method: str, path: str) -> None:
    assert admin.open(f"/api/v1/{path}", method=method, json={"name": "a"}).status_code == 404


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("Ä", True),
        ("äÖ", True),
        ("É", False),
        ("aO", True),
        ("A\u0308", True),
        ("ao\u0301", True),
        ("_", False),
        ("%", False),
    ],
)
def test_a_search_for_a_short_word_is_case_insensitive(
    reader: FlaskClient, create_row: CreateRow, word: str, found: bool
) -> None:
    create_row("contacts", name="Mäö")

    assert len(reader.get(f"/api/v1/contacts?q={quote(word)}").json) == found

"""Lists: pages, cursors, totals and streamed responses."""

import json
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from seed import load_demo
from tests.conftest import CreateRow, Query, run_external_sql
from tests.core.conftest import names, pages

pytestmark = pytest.mark.databases("sqlite", "postgresql")

COMPANIES = "/api/v1/companies"


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


@pytest.mark.parametrize(
    ("query_string", "again"),
    [
        ("limit=2&sort=name", "limit=2&sort=name"),
        ("sort=name&limit=2", "sort=n%61me"),
        ("limit=2&isCustomer=false&position[gte]=0", "position%5Bgte%5D=0&isCustomer=false"),
        ("limit=2&q=a&fields=id,name", "fields=id%2Cname&q=a&&"),
    ],
)
def test_the_parameters_of_the_next_link_may_be_repeated(
    five_companies: None, reader: FlaskClient, query_string: str, again: str
) -> None:
    link = reader.get(f"{COMPANIES}?{query_string}").headers["Link"]
    path = link.removeprefix("<http://localhost").removesuffix('>; rel="next"')
    response = reader.get(f"{path}&{again}")

    assert (response.status_code, response.data) == (200, reader.get(path).data)
    assert response.headers.get("Link", "").count("limit=") <= 1
    assert reader.get(f"{path}&limit=3").json["detail"] == "limit must be given once, not as '2' and '3'."


def test_the_next_link_names_a_repeated_parameter_once(five_companies: None, reader: FlaskClient) -> None:
    repeated = "limit=1&sort=name&limit=1&name=alpha&sort=name&name=Beta&name=alpha"
    link = reader.get(f"{COMPANIES}?{repeated}").headers["Link"]

    assert link.startswith("<http://localhost/api/v1/companies?sort=name&name=alpha&name=Beta&limit=1&cursor=")


def test_a_link_has_no_characters_that_end_it(five_companies: None, reader: FlaskClient) -> None:
    raw = 'limit=1&name=alpha&name=Beta&name=">; rel=x, <ü\\'.encode().decode("latin-1")
    link = reader.get(COMPANIES, environ_overrides={"QUERY_STRING": raw}).headers["Link"]

    assert "&name=%22%3E%3B%20rel=x%2C%20%3C%C3%BC%5C&" in link


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


WHOLE_LISTS = (
    "industry=Retail&industry=Energy",
    "sort=-name",
    "sort=-dealValue,name&include=contacts,conversations",
    "sort=lastContact&fields=id,lastContact",
    "q=a+e",
)


def test_a_streamed_list_is_complete(reader: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    with app.app_context():
        load_demo(60)
    paths = [COMPANIES, *(f"{COMPANIES}?{query}" for query in WHOLE_LISTS)]
    whole = {path: reader.get(path).data for path in paths}
    monkeypatch.setattr("api.query.MAX_PAGE", 4)

    for path, body in whole.items():
        with reader.get(path, headers={"Prefer": "count=exact"}) as response:
            assert "Content-Length" not in response.headers
            assert (response.data, response.headers["X-Total-Count"]) == (body, str(len(json.loads(body))))


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


@pytest.mark.parametrize(
    ("prefer", "counted"),
    [("count=exact", True), ('a, Count="exact"; b', True), ("xcount=exact", False), ("count=exactly", False)],
)
def test_the_total_is_counted_only_for_count_exact(reader: FlaskClient, prefer: str, counted: bool) -> None:
    response = reader.get(f"{COMPANIES}?limit=1", headers={"Prefer": prefer})
    assert ("X-Total-Count" in response.headers) is counted

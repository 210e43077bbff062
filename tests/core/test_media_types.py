"""Lists as JSON, NDJSON and CSV: which one Accept chooses (RFC 9110 §12.5.1), their ETags, rows and cells."""

import csv
import io
import json
import sys
import tracemalloc

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from seed import load_demo
from tests.conftest import CreateRow
from tests.core.conftest import COMPANIES
from tests.core.test_pagination import WHOLE_LISTS

pytestmark = pytest.mark.databases("sqlite", "postgresql")

JSON, NDJSON = "application/json", "application/x-ndjson"
CSV = "text/csv; charset=utf-8; header=present"
CHANGES = "/api/v1/changes"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
DISPOSITION = "attachment; filename=companies.csv"
NOT_ACCEPTABLE = "Accept must allow one of application/json, application/x-ndjson, text/csv."


def accept(header: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Accept": header}}


def read(client: FlaskClient, url: str, header: str = "*/*") -> TestResponse:
    """Return a response that was read to its end and closed."""
    with client.get(url, **accept(header)) as response:
        response.get_data()
        assert response.status_code == 200
        return response


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", JSON),
        (" ", JSON),
        ("*/*", JSON),
        (JSON, JSON),
        ("application/*", JSON),
        ("application/json, text/plain, */*", JSON),
        ("application/json;charset=UTF-8", JSON),
        ("application/problem+json, application/json", JSON),
        (BROWSER, JSON),
        ("text/csv", CSV),
        ("TEXT/CSV", CSV),
        ("text/*", CSV),
        ("text/csv;charset=utf-8", CSV),
        ("text/csv; header=absent", CSV),
        ("text/csv, */*", CSV),
        ("text/csv, */*;q=0.1", CSV),
        ("image/png, text/csv;q=0.001", CSV),
        (NDJSON, NDJSON),
        (f"{NDJSON}, application/json;q=0.9", NDJSON),
        (f"{JSON};q=0.5, text/csv;q=0.4, {NDJSON};q=0.6", NDJSON),
        ("application/json, text/csv", JSON),
        ("text/csv, application/json", JSON),
        # The most specific range decides about a type.
        ("*/*, application/json;q=0", NDJSON),
        ("*/*;q=0.5, application/*;q=0.1", CSV),
        ("text/csv;q=0, */*;q=0.1", JSON),
        # Ranges with an invalid weight say nothing.
        ("text/csv;q=high", JSON),
        ("text/csv;q=2, application/x-ndjson", NDJSON),
        ("text/csv;q=0", None),
        (f"{'a/b,' * 3_500}text/csv", None),
        ("*/*;q=0", None),
        ("text/html", None),
        ("csv", None),
        ("application/xml, image/*", None),
    ],
)
def test_accept_chooses_the_media_type_of_a_list(
    reader: FlaskClient, create_row: CreateRow, header: str, chosen: str | None
) -> None:
    create_row("companies")

    for response in reader.get(COMPANIES, **accept(header)), reader.head(f"{COMPANIES}?limit=1", **accept(header)):
        assert response.content_type == (chosen or "application/problem+json")
        assert response.status_code == (200 if chosen else 406)
        if chosen:
            assert response.headers["Vary"] == "Accept"
        elif response.data:
            assert response.json["detail"] == NOT_ACCEPTABLE


def test_without_accept_a_list_is_json(reader: FlaskClient) -> None:
    assert reader.get(COMPANIES).content_type == JSON
    assert reader.get(CHANGES).content_type == JSON


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("path", ["companies/a", "keys/me", "companies/nobody", "companies?limt=1", "nothing"])
def test_other_responses_are_json_for_any_accept(reader: FlaskClient, create_row: CreateRow, path: str) -> None:
    create_row("companies", id="a")
    plain = reader.get(f"/api/v1/{path}")

    for header in "text/csv", "image/png", "q":
        response = reader.get(f"/api/v1/{path}", **accept(header))
        if path == "companies?limt=1" and header != "text/csv":
            assert response.status_code == 406
        else:
            assert (response.status_code, response.content_type) == (plain.status_code, plain.content_type)


@pytest.mark.databases("sqlite")
def test_the_response_to_a_write_is_json_for_any_accept(writer: FlaskClient) -> None:
    for header in "text/csv", "image/png":
        response = writer.post(COMPANIES, json=[{"name": "Acme"}], **accept(header))
        assert (response.status_code, response.content_type) == (201, JSON)


@pytest.mark.parametrize("max_page", [4, 1_000])
def test_a_whole_list_has_the_same_rows_in_every_media_type(
    reader: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch, max_page: int
) -> None:
    with app.app_context():
        load_demo(30)
    monkeypatch.setattr("api.query.MAX_PAGE", max_page)

    for query in ("", "limit=3", "asOf=60", *WHOLE_LISTS):
        url = f"{COMPANIES}?{query}"
        rows = read(reader, url).json
        lines = read(reader, url, NDJSON)
        assert (lines.content_type, "Content-Disposition" in lines.headers) == (NDJSON, False)
        assert [json.loads(line) for line in lines.text.splitlines()] == rows
        if "include" not in query:
            table = read(reader, url, "text/csv")
            assert (table.content_type, table.headers["Content-Disposition"]) == (CSV, DISPOSITION)
            expected = [{name: as_cell(value) for name, value in row.items()} for row in rows]
            assert [*csv.DictReader(io.StringIO(table.text))] == expected


def as_cell(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, separators=(",", ":"))


def test_the_cells_are_text_as_it_is_json_or_nothing(reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("companies", id="a", name='"Acme", Inc.', industry="", notes="two\nlines", dealValue=1999.5)
    create_row("companies", id="b", name="},{", dealValue=50000, notes="{'a'}", isCustomer=True)
    create_row("conversations", id="c", tags=["a", 'b"', "},{"])

    fields = "isCustomer,dealValue,notes,industry,name"
    assert reader.get(f"{COMPANIES}?fields={fields}", **accept("text/csv")).text == (
        "name,industry,dealValue,notes,isCustomer\n"
        '"""Acme"", Inc.","",1999.5,"two\nlines",false\n'
        "\"},{\",,50000,{'a'},true\n"
    )
    assert reader.get("/api/v1/conversations?fields=tags", **accept("text/csv")).text == (
        'tags\n"[""a"",""b\\"""",""},{""]"\n'
    )
    assert reader.get(f"{COMPANIES}?fields=id,name", **accept(NDJSON)).text == (
        '{"id":"a","name":"\\"Acme\\", Inc."}\n{"id":"b","name":"},{"}\n'
    )


def test_a_row_of_one_null_is_not_an_empty_line(reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("companies", industry=None)

    assert reader.get(f"{COMPANIES}?fields=industry", **accept("text/csv")).text == 'industry\n""\n'


def test_an_empty_list_is_a_header_or_nothing(reader: FlaskClient) -> None:
    assert reader.get("/api/v1/contacts?fields=id,name", **accept("text/csv")).text == "id,name\n"
    assert reader.get("/api/v1/contacts", **accept(NDJSON)).data == b""


def test_csv_refuses_embedded_rows(reader: FlaskClient, create_row: CreateRow) -> None:
    company = create_row("companies")
    create_row("contacts", companyId=company)
    url = f"{COMPANIES}?include=contacts"

    refused = reader.get(url, **accept("text/csv"))
    assert (refused.status_code, refused.content_type) == (400, "application/problem+json")
    assert refused.json["detail"] == "include is for JSON and NDJSON: a cell of CSV can't hold other rows."
    [row] = map(json.loads, reader.get(url, **accept(NDJSON)).text.splitlines())
    assert [row] == reader.get(url).json and len(row["contacts"]) == 1


def test_pages_of_csv_are_linked_like_those_of_json(reader: FlaskClient, app: Flask) -> None:
    with app.app_context():
        load_demo(10)
    url, names = f"{COMPANIES}?limit=4&fields=name&sort=-name", []
    while url:
        page = reader.get(url, headers={"Accept": "text/csv", "Prefer": "count=exact"})
        assert page.headers["X-Total-Count"] == "10"
        header, *rows = csv.reader(io.StringIO(page.text))
        names += [name for [name] in rows]
        assert header == ["name"] and len(rows) <= 4
        url = page.headers.get("Link", "").removesuffix('>; rel="next"').removeprefix("<http://localhost")

    assert names == [row["name"] for row in reader.get(f"{COMPANIES}?sort=-name").json]


@pytest.mark.parametrize("path", [COMPANIES, f"{COMPANIES}?limit=1", f"{COMPANIES}?asOf=1", CHANGES])
def test_each_media_type_has_an_etag_of_its_own(reader: FlaskClient, create_row: CreateRow, path: str) -> None:
    create_row("companies", id="a")
    types = [JSON, NDJSON] if path == CHANGES else [JSON, NDJSON, "text/csv"]
    etags = {name: reader.get(path, **accept(name)).headers["ETag"] for name in types}
    assert len({*etags.values()}) == len(types)
    assert etags[JSON] == reader.get(path).headers["ETag"] and "json" not in etags[JSON]

    for asked in types:
        for name, etag in etags.items():
            for text in etag, f"W/{etag}":
                response = reader.get(path, headers={"Accept": asked, "If-None-Match": text})
                assert response.status_code == (304 if asked == name else 200)
                assert "Accept" in response.headers["Vary"]
                assert response.headers["ETag"] == etags[asked]
    if "asOf" not in path:
        create_row("companies", id="b")
        response = reader.get(path, headers={"Accept": "application/x-ndjson", "If-None-Match": etags[NDJSON]})
        assert response.status_code == 200


def test_a_cached_version_varies_by_key_and_media_type(reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("companies")
    for name in JSON, "text/csv":
        response = reader.get(f"{COMPANIES}?asOf=1", **accept(name))
        assert response.headers["Cache-Control"].endswith("immutable")
        assert response.headers["Vary"] == "Authorization, Accept"


def test_the_feed_is_also_ndjson_but_not_csv(
    reader: FlaskClient, create_row: CreateRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "a", "b", "c":
        create_row("companies", id=name, notes="},{\n")

    page = reader.get(f"{CHANGES}?limit=2", **accept(NDJSON))
    assert [json.loads(line) for line in page.text.splitlines()] == reader.get(f"{CHANGES}?limit=2").json
    assert "since=2" in page.headers["Link"]
    monkeypatch.setattr(sys.modules["api.feed"], "MAX_CHANGES", 2)
    whole = read(reader, f"{CHANGES}?net=true", NDJSON)
    assert whole.content_type == NDJSON
    assert [json.loads(line) for line in whole.text.splitlines()] == read(reader, f"{CHANGES}?net=true").json
    assert reader.get(f"{CHANGES}?since=3", **accept(NDJSON)).data == b""

    refused = reader.get(CHANGES, **accept("text/csv"))
    assert (refused.status_code, refused.json["detail"]) == (
        406,
        "Accept must allow one of application/json, application/x-ndjson.",
    )


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("header", ["text/csv", NDJSON])
def test_a_list_in_another_format_holds_one_form_of_the_page_that_is_sent(writer: FlaskClient, header: str) -> None:
    for _batch in range(21):
        writer.post(COMPANIES, json=[{"name": "a", "notes": "x" * 10_000}] * 50)
    tracemalloc.start()
    with writer.get(COMPANIES, **accept(header)) as response:
        pieces = response.iter_encoded()
        [next(pieces) for _piece in range(10)]
        assert tracemalloc.get_traced_memory()[0] < 15_000_000
    tracemalloc.stop()

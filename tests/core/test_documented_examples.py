"""The example objects of the documentation, loaded from a file, are returned byte for byte."""

import json
import random
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from seed import load_file
from tests.conftest import EXAMPLES, CreateRow

pytestmark = pytest.mark.databases("sqlite", "postgresql")

DOCUMENTED = json.loads(EXAMPLES.read_text(encoding="utf-8"))
COMPANY = "123e4567-e89b-12d3-a456-426614174000"


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@pytest.fixture(autouse=True)
def load_examples(app: Flask) -> None:
    with app.app_context():
        load_file(str(EXAMPLES))


@pytest.mark.parametrize("resource", DOCUMENTED)
def test_a_list_returns_the_documented_bytes(reader: FlaskClient, resource: str) -> None:
    response = reader.get(f"/api/v1/{resource}")

    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.data == compact(DOCUMENTED[resource])


@pytest.mark.parametrize("resource", DOCUMENTED)
def test_a_single_row_returns_the_documented_bytes(reader: FlaskClient, resource: str) -> None:
    [example] = DOCUMENTED[resource]

    assert reader.get(f"/api/v1/{resource}/{example['id']}").data == compact(example)


@pytest.mark.parametrize("resource", ["contacts", "conversations"])
def test_the_company_filter_returns_only_the_rows_of_that_company(
    reader: FlaskClient, resource: str, create_row: CreateRow
) -> None:
    other = create_row("companies")
    row_id = create_row(resource, companyId=other)

    assert reader.get(f"/api/v1/{resource}?companyId={COMPANY}").data == compact(DOCUMENTED[resource])
    assert [row["id"] for row in reader.get(f"/api/v1/{resource}?companyId={other}").json] == [row_id]


@pytest.mark.parametrize("resource", ["contacts", "conversations"])
def test_the_company_filter_accepts_several_values_and_null(
    reader: FlaskClient, resource: str, create_row: CreateRow
) -> None:
    without_company = create_row(resource)
    create_row(resource, companyId=create_row("companies"))

    [example] = DOCUMENTED[resource]
    response = reader.get(f"/api/v1/{resource}?companyId=null&companyId={COMPANY}")
    assert [row["id"] for row in response.json] == [example["id"], without_company]


def test_an_unknown_company_has_no_contacts(reader: FlaskClient) -> None:
    assert reader.get("/api/v1/contacts?companyId=nobody").data == b"[]"


def test_lists_are_sorted_by_time_of_creation_and_id(reader: FlaskClient, create_row: CreateRow) -> None:
    for row_id, created in ("z", "2023-01-01T00:00:00Z"), ("b", "2024-06-01T00:00:00Z"), ("a", "2024-06-01T00:00:00Z"):
        create_row("companies", id=row_id, createdAt=created)

    assert [row["id"] for row in reader.get("/api/v1/companies").json] == ["z", COMPANY, "a", "b"]


@pytest.mark.parametrize(("sent", "returned"), [(50000, "50000"), (1999.5, "1999.5"), (0, "0"), (0.29, "0.29")])
def test_amounts_are_returned_unchanged(reader: FlaskClient, sent: float, returned: str, create_row: CreateRow) -> None:
    company = create_row("companies", dealValue=sent)

    assert f'"dealValue":{returned},' in reader.get(f"/api/v1/companies/{company}").text


def test_the_largest_amount_is_exact(reader: FlaskClient, create_row: CreateRow) -> None:
    company = create_row("companies", dealValue=999999999999.99)

    assert '"dealValue":999999999999.99,' in reader.get(f"/api/v1/companies/{company}").text


def test_text_is_returned_in_utf8_without_escapes(reader: FlaskClient, create_row: CreateRow) -> None:
    company = create_row("companies", notes='Zoë "Z" 🦊 \u2028\t')

    assert '"notes":"Zoë \\"Z\\" 🦊 \u2028\\t"'.encode() in reader.get(f"/api/v1/companies/{company}").data


def test_1000_amounts_are_exact_in_responses_and_in_the_change_log(writer: FlaskClient) -> None:
    generator = random.Random(7)
    cents = [generator.randrange(10 ** generator.randrange(1, 15)) for _number in range(1000)]
    amounts = [f"{number // 100}.{number % 100:02}".rstrip("0").rstrip(".") for number in cents]
    body = ",".join(f'{{"name": "a", "dealValue": {amount}}}' for amount in amounts)
    seq = int(writer.get("/api/v1/companies").headers["Dataset-Version"])

    posted = writer.post("/api/v1/companies", data=f"[{body}]", content_type="application/json").text
    logged = writer.get(f"/api/v1/changes?since={seq}").text
    assert re.findall('"dealValue":([^,]+),', posted) == amounts
    assert re.findall('"dealValue":([^,]+),', logged) == amounts

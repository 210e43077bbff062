"""POST with `matchOn` updates the row that matches."""
# ruff: noqa: RUF001

from contextlib import closing

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from database.sqlite import driver
from formats.matching import EMAIL, NAME, WEBSITE
from tests.conftest import CreateRow, Query
from tests.core.conftest import last_change

pytestmark = pytest.mark.databases("sqlite", "postgresql")

CONTACTS = "/api/v1/contacts"
COMPANIES = "/api/v1/companies"


def test_match_on_updates_matching_rows_and_creates_the_others(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", email="john@acme.com", title="CEO")

    updated = writer.post(f"{CONTACTS}?matchOn=email", json={"email": "john@acme.com", "phone": "1"})
    assert (updated.status_code, "Location" in updated.headers) == (200, False)
    assert (updated.json["id"], updated.json["title"], updated.json["phone"]) == ("x", "CEO", "1")

    both = writer.post(f"{CONTACTS}?matchOn=email", json=[
        {"email": "jane@acme.com", "name": "Jane"},
        {"email": "john@acme.com", "name": "John"},
        {"email": "jane@acme.com", "phone": "2"},
    ])  # fmt: skip
    assert both.status_code == 201
    first, second, third = both.json
    assert (second["id"], second["name"], second["phone"]) == ("x", "John", "1")
    assert (third["id"], third["name"], third["phone"]) == (first["id"], "Jane", "2")


@pytest.mark.parametrize("field", ["website", "name"])
def test_two_matching_rows_are_a_conflict_that_lists_their_ids(
    writer: FlaskClient, create_row: CreateRow, query: Query, field: str
) -> None:
    for row_id in "a", "b":
        create_row("companies", id=row_id, website="https://acme.com")

    response = writer.post(f"{COMPANIES}?matchOn={field}", json={"name": "Acme", "website": "https://acme.com"})
    assert response.status_code == 409
    assert response.json["detail"] == f"More than one row has this {field}: a and b."
    assert last_change(query) == 2


def test_match_on_accepts_unchanged_read_only_fields(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("contacts", id="x", email="a@acme.com")
    row = writer.get(f"{CONTACTS}/x").json

    response = writer.post(f"{CONTACTS}?matchOn=email", json={**row, "title": "CEO"})
    assert (response.status_code, response.json["title"]) == (200, "CEO")
    other = writer.post(f"{CONTACTS}?matchOn=email", json={**response.json, "id": "other"})
    assert [error["pointer"] for error in other.json["errors"]] == ["/id"]
    new = writer.post(f"{CONTACTS}?matchOn=email", json={"id": "y", "name": "b", "email": "b@acme.com"})
    assert [error["pointer"] for error in new.json["errors"]] == ["/id"]


# Resource, field, a stored value, a sent value, and whether they are the same.
SAME = [
    ("contacts", "email", "jo.berg@acme.example", "Jo.Berg@ACME.example", True),
    ("contacts", "email", "Jo@Müller.example", "jo@xn--mller-kva.example", True),
    ("contacts", "email", "jo@xn--mller-kva.example", "JO@MÜLLER.example", True),
    ("contacts", "email", "jos\u00e9@lee.example", "JOSE\u0301@lee.example", True),
    ("contacts", "email", "jo@acme.example", "jo2@acme.example", False),
    ("contacts", "email", "jose@lee.example", "jos\u00e9@lee.example", False),
    ("companies", "website", "https://Acme.example", "https://acme.example/", True),
    ("companies", "website", "HTTPS://acme.example:443/", "https://acme.example", True),
    ("companies", "website", "http://acme.example:80", "HTTP://ACME.example/", True),
    ("companies", "website", "https://Müller.example/Team", "https://xn--mller-kva.example/Team", True),
    ("companies", "website", "https://acme.example/?a=B", "https://ACME.example?a=B", True),
    ("companies", "website", "https://acme.example/Team", "https://ACME.example/Team", True),
    ("companies", "website", "https://acme.example/Team", "https://acme.example/team", False),
    ("companies", "website", "https://acme.example/Team", "https://acme.example/Team/", False),
    ("companies", "website", "https://acme.example", "http://acme.example", False),
    ("companies", "website", "https://acme.example", "https://acme.example:80", False),
    ("companies", "website", "https://acme.example", "https://www.acme.example", False),
    ("companies", "website", "https://acme.example/~jo", "https://acme.example/%7Ejo", False),
    ("companies", "website", "https://acme.example/caf%c3%a9", "https://acme.example/caf%C3%A9", False),
    ("companies", "website", "https://Jo@acme.example", "https://Jo@ACME.example:443", True),
    ("companies", "website", "https://[2001:DB8::7]/", "https://[2001:db8::7]", True),
    ("companies", "name", "Acme", "aCME", True),
    ("companies", "name", "Cafe\u0301 Müller", "Caf\u00e9 MÜLLER", True),
    ("companies", "name", "CAFÉ MÜLLER", "café müller", True),
    ("companies", "name", "ΣΊΣΥΦΟΣ", "σίσυφος", True),
    ("companies", "name", "Cafe", "Café", False),
    ("companies", "name", "ООО Ромашка", "ООО Ромашка", True),
    ("companies", "name", "ООО РОМАШКА", "ооо ромашка", True),
    ("companies", "name", "ООО Ромашка", "ооо ромашка", True),
    ("companies", "name", "ООО «РОМАШКА»", "Ооо «Ромашка»", True),
    ("contacts", "name", "Иван ПЕТРОВ", "Иван Петров", True),
    ("contacts", "name", "И\u0306осиф БРОДСКИИ\u0306", "Йосиф Бродский", True),
    ("contacts", "name", "Иван ПЕТРОВ", "Ивана Петров", False),
    ("companies", "name", "ООО Новый Дом Ромашка", "ооо новый дом ромашка", False),
    ("companies", "name", "C\u00f4ng ty Vi\u00ea\u0323t Nam", "C\u00f4ng ty Vi\u00ea\u0323t Nam", True),
    ("companies", "website", "https://straße.example", "https://straße.example", True),
    ("companies", "website", "https://МойСайт.рф", "https://мойсайт.рф/", False),
    ("companies", "website", "https://МойСайт.рф", "HTTPS://МойСайт.рф/", True),
    ("companies", "website", "https://мойсайт.рф", "https://xn--80arbjktj.xn--p1ai/", True),
    ("contacts", "email", "a@straße.example", "A@straße.example", True),
    ("contacts", "email", "петров@почта.рф", "ПЕТРОВ@почта.рф", True),
    ("contacts", "email", "Иван@МойСайт.рф", "Иван@МойСайт.рф", True),
    ("contacts", "email", "éèêëé@éàü.example", "éèêëé@éàü.example", True),
    ("contacts", "email", "vi\u00ea\u0323t@x.example", "vi\u00ea\u0323t@x.example", True),
    ("companies", "name", "Acme", "Acme ", False),
    ("contacts", "name", "Zoë", "ZOE\u0308", True),
    ("conversations", "visitorEmail", "Jane@Lee.example", "jane@lee.EXAMPLE", True),
    ("conversations", "visitorEmail", "no address", "NO address", True),
    ("conversations", "visitorIp", "2001:DB8:0:0::7", "2001:db8::7", True),
    ("conversations", "visitorIp", "2001:db8::7", "2001:0DB8::7", True),
    ("conversations", "visitorIp", "::ffff:192.0.2.7", "::FFFF:c000:207", True),
    ("conversations", "visitorIp", "::ffff:c000:207", "0:0:0:0:0:ffff:192.0.2.7", True),
    ("conversations", "visitorIp", "::1.2.3.4", "::102:304", True),
    ("conversations", "visitorIp", "192.0.2.7", "192.0.2.7", True),
    ("conversations", "visitorIp", "192.0.2.7", "::ffff:192.0.2.7", False),
    ("conversations", "visitorIp", "2001:db8::7", "2001:db8::70", False),
]


@pytest.mark.parametrize(("resource", "field", "stored", "sent", "is_same"), SAME)
def test_a_filter_and_match_on_find_what_is_the_same(
    writer: FlaskClient, create_row: CreateRow, resource: str, field: str, stored: str, sent: str, is_same: bool
) -> None:
    row_id = create_row(resource, **{field: stored})

    found = writer.get(f"/api/v1/{resource}", query_string={field: sent}).json
    assert [row["id"] for row in found] == ([row_id] if is_same else [])
    assert [row[field] for row in found] == ([stored] if is_same else [])
    if resource == "conversations" or (resource, field) == ("contacts", "name"):
        return
    posted = writer.post(f"/api/v1/{resource}?matchOn={field}", json={field: sent, "name": sent[:255]})
    assert posted.status_code == (200 if is_same else 201)
    assert (posted.json["id"] == row_id, posted.json[field]) == (is_same, sent)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
HOSTS = st.text(st.sampled_from("aZäÖßéê\u0301\u0323ИйσΣ.-:/?#@[]1"), max_size=30)


@pytest.mark.databases("sqlite")
@given(text=TEXTS | HOSTS)
def test_every_text_matches_itself_by_few_keys(text: str) -> None:
    with closing(driver.connect(":memory:")) as connection:
        for matching in NAME, EMAIL, WEBSITE:
            for value in text, f"https://{text}", f"{text}@{text}":
                [key] = connection.execute(f"SELECT {matching.sqlite.format(':value')}", {"value": value}).fetchone()
                keys = matching.keys(value)
                assert key in keys
                assert len(keys) <= 200


def test_two_variants_of_a_value_in_a_batch_are_one_row(writer: FlaskClient) -> None:
    body = [{"name": "Jo", "email": "jo@acme.example"}, {"name": "Jo", "email": "JO@Acme.example"}]
    first, second = writer.post(f"{CONTACTS}?matchOn=email", json=body).json

    assert first["id"] == second["id"]


@pytest.mark.parametrize(
    ("resource", "row"),
    [("companies", {"name": "a"}), ("contacts", {"name": "a"}), ("conversations", {"visitorName": "a"})],
)
def test_match_on_id_updates_the_row_or_creates_it_with_that_id(
    writer: FlaskClient, resource: str, row: dict[str, str]
) -> None:
    path = f"/api/v1/{resource}?matchOn=id"
    created, updated = (writer.post(path, json={"id": "crm-1", **row}) for _time in range(2))

    assert (created.status_code, created.json["id"], updated.status_code) == (201, "crm-1", 200)
    assert created.json == updated.json
    batch = writer.post(path, json=[{"id": "crm-1", **row}, {"id": "crm-2", **row}])
    assert (batch.status_code, [each["id"] for each in batch.json]) == (201, ["crm-1", "crm-2"])
    for body in {**row}, {"id": "..", **row}, {"id": None, **row}, {"id": "crm-3", "createdAt": "2020-01-01T00:00:00Z"}:
        assert writer.post(path, json=body).status_code == 422
    assert writer.post(f"/api/v1/{resource}", json={"id": "crm-4", **row}).status_code == 422


def test_match_on_accepts_only_one_field(writer: FlaskClient) -> None:
    assert writer.post(f"{COMPANIES}?matchOn=website,name", json={"name": "a"}).status_code == 400


def test_a_conflict_in_an_array_has_a_pointer(writer: FlaskClient, create_row: CreateRow, query: Query) -> None:
    for name in "x", "y":
        create_row("companies", id=name, name="twice")

    response = writer.post(f"{COMPANIES}?matchOn=name", json=[{"name": "new"}, {"name": "twice"}])
    assert (response.status_code, response.json["errors"]) == (
        409,
        [{"pointer": "/1", "detail": "More than one row has this name: x and y."}],
    )
    both = writer.post(f"{COMPANIES}?matchOn=name", json=[{"nam": "new"}, {"name": "twice"}])
    assert both.status_code == 422
    assert {error["pointer"] for error in both.json["errors"]} >= {"/0/nam", "/1"}
    assert last_change(query) == 2


def test_a_refused_batch_has_the_version_of_the_stored_data(writer: FlaskClient, create_row: CreateRow) -> None:
    create_row("companies", name="Acme")
    batch = [{"name": "new"}, {"name": "Acme", "notes": "changed"}, {"name": "Acme", "position": -1}]
    refused = writer.post("/api/v1/companies?matchOn=name", json=batch)

    assert refused.status_code == 422
    assert refused.headers["Dataset-Version"] == writer.get("/api/v1/companies").headers["Dataset-Version"] == "1"
    assert "ETag" not in refused.headers

"""Demo data is reproducible and coherent; a file is loaded completely or not at all."""

import json
from collections import Counter
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database.columns import now
from formats.values import format_time
from schemas import RESOURCES
from seed import InvalidData, load_demo, load_file
from tests.conftest import EXAMPLES, CreateRow, Query

pytestmark = pytest.mark.databases("sqlite", "postgresql")

UNTIL = "2026-01-01"
Rows = dict[str, list[dict[str, Any]]]
# This conversation is later than the last contact with its company, and its visitor is not a contact.
DOCUMENTED_CONVERSATION = "conv-123"


def read_all(client: FlaskClient) -> dict[str, bytes]:
    return {name: client.get(f"/api/v1/{name}").data for name in RESOURCES}


@pytest.fixture
def demo(app: Flask, reader: FlaskClient) -> Rows:
    with app.app_context():
        load_demo(companies=200, until=UNTIL)
    return {name: json.loads(text) for name, text in read_all(reader).items()}


def test_demo_data_is_the_same_on_every_machine(app: Flask, reader: FlaskClient) -> None:
    with app.app_context():
        loaded = load_demo(until=UNTIL)

    digests = {name: sha256(text).hexdigest()[:12] for name, text in read_all(reader).items()}
    assert loaded == {"companies": 50, "contacts": 261, "conversations": 97}
    assert digests == {"companies": "3a2d0d88cb6b", "contacts": "f38306082851", "conversations": "f3961e02a31a"}


@pytest.mark.parametrize("until", [UNTIL, "2025-03-01", "2000-01-01"])
def test_demo_data_contains_the_documented_examples(app: Flask, reader: FlaskClient, until: str) -> None:
    with app.app_context():
        load_demo(5, until=until)

    for name, [documented] in json.loads(EXAMPLES.read_text(encoding="utf-8")).items():
        assert documented in json.loads(reader.get(f"/api/v1/{name}").data)


@pytest.mark.parametrize("companies", [0, 1, 2])
def test_the_documented_company_is_included_in_the_number_of_companies(app: Flask, companies: int) -> None:
    with app.app_context():
        loaded = load_demo(companies)

    assert loaded["companies"] == companies
    if companies == 1:
        assert loaded == {"companies": 1, "contacts": 1, "conversations": 1}


def test_another_seed_or_day_creates_other_data(app: Flask, reader: FlaskClient) -> None:
    seen = set()
    for arguments in {"number": 42}, {"number": 43}, {"number": 42, "until": "2026-06-01"}:
        with app.app_context():
            load_demo(5, reset=True, **arguments)
        seen.add(read_all(reader)["companies"])

    assert len(seen) == 3


def test_until_sets_the_last_day(app: Flask, reader: FlaskClient) -> None:
    with app.app_context():
        load_demo(20, until="2030-03-01")

    times = [row["updatedAt"] for text in read_all(reader).values() for row in json.loads(text)]
    assert "2029-12" < max(times) <= "2030-03-01T00:00:00Z"


@pytest.mark.parametrize("day", ["2026-01-02", "2026-01-04", "2031-07-31"])
def test_another_day_changes_the_times_alone(app: Flask, reader: FlaskClient, day: str) -> None:
    names = []
    for until in UNTIL, day:
        with app.app_context():
            load_demo(until=until, reset=True)
        rows = [row for text in read_all(reader).values() for row in json.loads(text)]
        names.append(Counter((row.get("name"), row.get("email"), row.get("visitorIp")) for row in rows))

    assert names[0] == names[1]


def test_demo_data_ends_today(app: Flask, reader: FlaskClient) -> None:
    with app.app_context():
        load_demo()

    times = [row["updatedAt"] for text in read_all(reader).values() for row in json.loads(text)]
    assert format_time(now() - timedelta(days=7)) < max(times) < format_time(now())


@pytest.mark.parametrize("companies", [1, 50, 1_000])
def test_the_log_shows_demo_data_as_if_it_had_come_in_the_last_30_days(
    app: Flask, reader: FlaskClient, query: Query, companies: int
) -> None:
    with app.app_context():
        load_demo(companies)

    changes = query("SELECT seq, at FROM changes ORDER BY seq")
    times = [datetime.fromisoformat(str(at)) for _seq, at in changes]
    assert times == sorted(times)
    assert timedelta(days=28) < now() - times[0] <= timedelta(days=30) or companies == 1
    assert now() - times[-1] < timedelta(minutes=1)
    writes = query("SELECT first_seq, last_seq, at, request_id FROM writes ORDER BY first_seq")
    assert [row[0] for row in writes] == [1, *(row[1] + 1 for row in writes[:-1])]
    assert (writes[-1][1], len({row[3] for row in writes})) == (len(changes), 1)
    assert {row[:1] + row[2:3] for row in writes} <= {*changes}
    past = reader.get(f"/api/v1/companies?asOf={format_time(now() - timedelta(days=15))}").json
    assert 0.4 * companies < len(past) <= 0.6 * companies or companies == 1
    with pytest.raises(Exception, match="the change log is only ever added to"):
        query("UPDATE changes SET at = '2020-01-01T00:00:00Z'")


def test_no_change_of_demo_data_is_dated_before_an_earlier_change(
    app: Flask, create_row: CreateRow, query: Query
) -> None:
    create_row("contacts")
    with app.app_context():
        load_demo(reset=True)

    times = [str(at) for [at] in query("SELECT at FROM changes ORDER BY seq")]
    assert times == sorted(times)


def test_every_demo_row_is_valid_in_the_api(demo: Rows) -> None:
    for name, rows in demo.items():
        for row in rows:
            assert RESOURCES[name].dump(RESOURCES[name].load(row)) == row


def test_demo_data_covers_two_years_with_five_contacts_and_two_conversations_per_company(demo: Rows) -> None:
    times = sorted(datetime.fromisoformat(row["createdAt"]) for row in demo["companies"])

    assert times[-1] - times[0] > timedelta(days=650)
    assert all(later - earlier < timedelta(days=40) for earlier, later in pairwise(times))
    assert 4.5 < len(demo["contacts"]) / 200 < 5.5
    assert 1.5 < len(demo["conversations"]) / 200 < 2.5


def test_demo_data_is_coherent(demo: Rows) -> None:
    companies = {row["id"]: row for row in demo["companies"]}
    assert len({row["name"] for row in companies.values()}) == len(companies)
    for company in companies.values():
        assert company["isCustomer"] is (company["stageId"] == "stage-won")
        assert company["createdAt"] <= (company["lastContact"] or company["createdAt"]) <= "2026-01-01T00:00:00Z"
    for contact in demo["contacts"]:
        company = companies[contact["companyId"]]
        assert contact["email"].endswith("@" + company["website"].removeprefix("https://"))
        assert company["createdAt"] <= contact["createdAt"] <= contact["updatedAt"]
    assert Counter(row["companyId"] for row in demo["contacts"] if row["isPrimary"]) == dict.fromkeys(companies, 1)
    conversations = [row for row in demo["conversations"] if row["id"] != DOCUMENTED_CONVERSATION]
    for conversation in conversations:
        company = companies[conversation["companyId"]]
        assert company["createdAt"] <= conversation["createdAt"]
        assert conversation["lastMessageAt"] <= company["lastContact"] <= company["updatedAt"]
        assert conversation["visitorEmail"] is None or any(
            contact["createdAt"] <= conversation["createdAt"]
            for contact in demo["contacts"]
            if contact["email"] == conversation["visitorEmail"] and contact["companyId"] == company["id"]
        )
        assert conversation["createdAt"] <= conversation["lastMessageAt"] <= "2026-01-01T00:00:00Z"
    last = {
        status: [row["lastMessageAt"] for row in conversations if row["status"] == status]
        for status in ("open", "resolved", "closed")
    }
    assert max(last["closed"]) < min(last["resolved"]) <= max(last["resolved"]) < min(last["open"])


def test_the_positions_of_every_stage_start_at_0(demo: Rows) -> None:
    for stage in {row["stageId"] for row in demo["companies"]}:
        positions = sorted(row["position"] for row in demo["companies"] if row["stageId"] == stage)
        assert positions == list(range(len(positions)))


def test_demo_data_is_refused_in_a_database_with_rows(app: Flask, create_row: CreateRow, query: Query) -> None:
    create_row("contacts")

    with app.app_context(), pytest.raises(InvalidData, match="has rows already: add --reset"):
        load_demo()
    assert query("SELECT count(*) FROM contacts") == [(1,)]


def test_reset_deletes_the_stored_rows_and_logs_it(app: Flask, create_row: CreateRow, query: Query) -> None:
    create_row("companies", id="old")
    with app.app_context():
        load_demo(3, reset=True)

    assert query("SELECT count(*) FROM companies") == [(3,)]
    assert query("SELECT action FROM changes WHERE row_id = 'old' ORDER BY seq") == [("created",), ("deleted",)]


def test_an_invalid_day_is_refused(app: Flask) -> None:
    for until in "soon", "2026-01-01T12:00:00+05:00", "2026-02-30", "1950-12-31", "9999-12-31":
        with app.app_context(), pytest.raises(InvalidData, match="--until must be a day"):
            load_demo(until=until)


COMPANY = {"id": "a", "name": "Acme"}
INVALID_ID = "Must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', '~' and '-', and not '.' or '..'."
BLANK = "Must not be blank, nor have line feeds or other control characters."
REQUIRED_ARRAYS = "be an object with the arrays companies, contacts, conversations, each at most once"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "There is no JSON: the text is empty."),
        ("[]", f"It must {REQUIRED_ARRAYS}."),
        ('{"companies": {}}', f"It must {REQUIRED_ARRAYS}."),
        ('{"contacts": [], "contacts": []}', f"It must {REQUIRED_ARRAYS}."),
        ('{"company": []}', "There is no resource company. Did you mean companies?"),
        ('{"companies": [{"name": "a"}, {"nam": "b"}]}', "/companies/1/nam: Is not a known field. Did you mean name?"),
        ('{"companies": [{"name": "a"}, {}]}', "/companies/1/name: Is required."),
        ('{"companies": [{"name": "a", "dealValue": "1"}]}', "/companies/0/dealValue: Must be a number."),
        ('{"companies": [{"name": "a", "name": "b"}]}', "/companies/0/name: Must not appear twice."),
        ('{"companies": [{"id":"x", "name":"a"}, {"id":"x", "name":"b"}]}', "/companies/1/id: Is another row's id."),
        ('{"companies": [{"id": "there", "name": "a"}]}', "/companies/0/id: Is another row's id."),
        ('{"contacts": [{"name": "a", "companyId": "x"}]}', "/contacts/0/companyId: Is not the id of a company."),
        ('{"conversations": [{}, {"tags": ["a", "a"]}]}', "/conversations/1/tags/1: Must not repeat."),
        ('{"companies": [7]}', "/companies/0: Must be an object."),
        ('{"contacts": [{"name": ""}]}', f"/contacts/0/name: {BLANK}"),
        ('{"companies": [{"id": "..", "name": "a"}]}', f"/companies/0/id: {INVALID_ID}"),
    ],
)  # fmt: skip
def test_a_file_with_an_invalid_record_loads_nothing(
    app: Flask, create_row: CreateRow, query: Query, tmp_path: Path, text: str, message: str
) -> None:
    create_row("companies", id="there")
    path = tmp_path / "data.json"
    path.write_text(text, encoding="utf-8")

    with app.app_context(), pytest.raises(InvalidData) as refused:
        load_file(str(path))
    assert str(refused.value) == f"{path}: {message}"
    assert query("SELECT count(*) FROM changes") == [(1,)]


def test_a_file_may_begin_with_a_byte_order_mark(app: Flask, query: Query, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"companies": [COMPANY]}), encoding="utf-8-sig")

    with app.app_context():
        load_file(str(path))
    assert query("SELECT name FROM companies") == [("Acme",)]


def test_a_file_can_refer_to_its_own_and_to_stored_companies(
    app: Flask, create_row: CreateRow, query: Query, tmp_path: Path
) -> None:
    create_row("companies", id="there")
    path = tmp_path / "data.json"
    contacts = [{"name": "John", "companyId": company} for company in ("a", "there", None)]
    path.write_text(json.dumps({"contacts": contacts, "companies": [COMPANY]}), encoding="utf-8")

    with app.app_context():
        assert load_file(str(path)) == {"companies": 1, "contacts": 3, "conversations": 0}
    assert query("SELECT company_id FROM contacts ORDER BY id") == [("a",), ("there",), (None,)]


@pytest.mark.parametrize("until", [UNTIL, "2025-03-01"])
def test_companies_are_stored_in_order_of_creation(app: Flask, reader: FlaskClient, query: Query, until: str) -> None:
    with app.app_context():
        load_demo(200, until=until)

    stored = [row_id for [row_id] in query("SELECT id FROM companies ORDER BY number")]
    assert stored == [company["id"] for company in json.loads(reader.get("/api/v1/companies").data)]

"""Settings → Overview: the HTML of the numbers and charts, without a browser."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from pages import overview
from pages.overview import round_up, stage_name
from pages.sessions import HOME
from seed import load_demo
from tests.conftest import CreateRow, ExecutedStatement, Query
from tests.pages.conftest import form_token, table_rows

pytestmark = pytest.mark.databases("sqlite", "postgresql")

PAGE = "/settings/overview"


def tiles(page: str) -> dict[str, str]:
    """Return the numbers of the tiles by name."""
    return dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page))


def test_the_overview_counts_rows_deals_and_statuses(signed_in_client: FlaskClient, create_row: CreateRow) -> None:
    for stage, value in ("won", 1999.5), ("won", 50_000), ("lead", None), (None, 7), ("", 100_000):
        create_row("companies", stageId=stage, dealValue=value)
    for status in "open", "closed", "closed":
        create_row("conversations", status=status)
    create_row("contacts")
    page = signed_in_client.get(PAGE).text

    assert tiles(page) == {
        "Companies": "5", "Contacts": "1", "Conversations": "3", "Deals": "152,006", "Changes": "9"
    }  # fmt: skip
    assert table_rows(page, "Deals by stage") == [
        ["“”", "1", "100,000"],
        ["Won", "2", "52,000"],
        ["No stage", "1", "7"],
        ["Lead", "1", "0"],
    ]
    assert table_rows(page, "Conversations by status") == [
        ["Open", "1"], ["Pending", "0"], ["Snoozed", "0"], ["Resolved", "0"], ["Closed", "2"],
    ]  # fmt: skip
    bars = re.findall('<rect width="([0-9.]+)" height="10"/>', page)
    assert [float(bar) for bar in bars] == [100, 52, 0.01, 0, 50, 0, 0, 0, 100]


def test_stages_without_values_are_drawn_by_their_companies(
    signed_in_client: FlaskClient, create_row: CreateRow
) -> None:
    for stage, value in ("won", None), ("won", 0), ("lead", None):
        create_row("companies", stageId=stage, dealValue=value)
    page = signed_in_client.get(PAGE).text

    assert [row[:2] for row in table_rows(page, "Deals by stage")] == [["Won", "2"], ["Lead", "1"]]
    assert re.findall('<rect width="([0-9.]+)" height="10"/>', page)[:2] == ["100.0", "50.0"]


def test_the_overview_sums_up_stages_after_the_first_eight(
    signed_in_client: FlaskClient, create_row: CreateRow
) -> None:
    for number in range(1, 12):
        create_row("companies", stageId=f"stage-{number}", dealValue=number)
    found = table_rows(signed_in_client.get(PAGE).text, "Deals by stage")

    assert found[0] == ["stage-11", "1", "11"]
    assert found[8:] == [["3 others", "3", "6"]]


def test_the_overview_counts_changes_by_day(signed_in_client: FlaskClient, query: Query, create_row: CreateRow) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days_ago = [45, 31, 30, 30, 29, 10, 10, 10, 1, 0, 0]
    for seq, days in enumerate(days_ago, 1):
        # The first and the last second of a day belong to that day.
        at = today - timedelta(days=days) + timedelta(seconds=86_399 if days == 30 and seq % 2 else 0)
        query(
            "INSERT INTO changes (seq, resource, row_id, action, at)"
            f" VALUES ({seq}, 'contacts', 'x', 'deleted', '{at:%Y-%m-%dT%H:%M:%SZ}')"
        )
    create_row("contacts")
    page = signed_in_client.get(PAGE).text

    found = {
        (today - datetime.fromisoformat(f"{day}T00:00:00Z")).days: int(n) for day, n in table_rows(page, "Day (UTC)")
    }
    assert list(found) == list(range(30))
    assert {days: number for days, number in found.items() if number} == {29: 1, 10: 3, 1: 1, 0: 3}
    assert "8 in total; most on" in page


def test_stages_of_demo_data_are_in_the_order_of_a_sale(app: Flask, signed_in_client: FlaskClient) -> None:
    with app.app_context():
        load_demo()

    names = [row[0] for row in table_rows(signed_in_client.get(PAGE).text, "Deals by stage")]
    assert names == ["Lead", "Qualified", "Proposal", "Negotiation", "Won", "Lost", "stage-123"]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("stage", "name"),
    [
        (None, "No stage"), ("", "“”"), ("stage-closed_won", "Closed won"), ("lead", "Lead"), ("stage-", "stage-"),
        ("Lead", "Lead"), ("stage-1", "stage-1"), ("018f4e2a-7c3b", "018f4e2a-7c3b"), ("stage-<b>", "stage-<b>"),
    ],
)  # fmt: skip
def test_the_words_of_a_stage_are_shown(stage: str | None, name: str) -> None:
    assert stage_name(stage) == name


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("count", "top"), [(0, 2), (1, 2), (3, 4), (9, 10), (10, 10), (11, 20), (24, 30), (41, 60), (99, 100), (1001, 2000)]
)
def test_the_scale_ends_at_a_round_number(count: int, top: int) -> None:
    assert round_up(count) == top


def test_without_data_the_pages_offer_the_first_steps(signed_in_client: FlaskClient, create_row: CreateRow) -> None:
    for path in PAGE, HOME:
        page = signed_in_client.get(path).text
        assert re.findall("<h3>(.*?)</h3>", page) == ["Create a key", "Load demo data", "Import a CSV file"]
    create_row("contacts")
    for path in PAGE, HOME:
        assert "There is no data yet" not in signed_in_client.get(path).text


def test_demo_data_is_loaded_once_by_the_key_of_the_session(signed_in_client: FlaskClient, query: Query) -> None:
    for _time in range(2):
        response = signed_in_client.post(f"{PAGE}/demo", data={"token": form_token(signed_in_client)})
        assert (response.status_code, response.headers["Location"]) == (303, PAGE)

    assert query("SELECT count(*) FROM companies") == [(50,)]
    assert query("SELECT DISTINCT key_id FROM writes") == query("SELECT id FROM api_keys")
    assert tiles(signed_in_client.get(PAGE).text)["Companies"] == "50"


def test_the_overview_reads_one_snapshot(
    signed_in_client: FlaskClient, create_row: CreateRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_row("companies")
    read_stages = overview.read_stages

    def write_meanwhile() -> object:
        create_row("contacts")
        return read_stages()

    monkeypatch.setattr("pages.overview.read_stages", write_meanwhile)
    assert tiles(signed_in_client.get(PAGE).text)["Contacts"] == "0"
    assert tiles(signed_in_client.get(PAGE).text)["Contacts"] == "1"


def test_the_overview_takes_five_statements_for_any_number_of_rows(
    signed_in_client: FlaskClient, create_row: CreateRow, statements: list[ExecutedStatement]
) -> None:
    for _number in range(20):
        create_row("companies", stageId="won")
    statements.clear()
    signed_in_client.get(PAGE)

    reads = [each.verb for each in statements if each.verb in {"SELECT", "WITH"}]
    assert reads == [*["SELECT"] * 4, "WITH"]

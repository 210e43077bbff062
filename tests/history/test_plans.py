"""The queries of history use indexes: none reads the whole log, or all transactions."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.conftest import CreateRow, ExecutedStatement
from tests.history.conftest import CHANGES, key_id, revert

SEQ = "SEARCH changes USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
RESOURCE = "SEARCH changes USING INDEX ix_changes_resource_seq (resource=? AND seq>? AND seq<?)"
ROW = "SEARCH changes USING INDEX ix_changes_resource_row_id_seq (resource=? AND row_id=?)"
KEY = "SEARCH writes USING COVERING INDEX ix_writes_key_id_last_seq (key_id=? AND last_seq>?)"
REQUEST = "SEARCH writes USING COVERING INDEX ix_writes_request_id_last_seq (request_id=? AND last_seq>?)"
# Of the writer, and for net, of the row's other changes.
WRITER = "SEARCH writes_1 USING INTEGER PRIMARY KEY (rowid<?)"
NUMBERS = "numbers VIRTUAL TABLE INDEX 1:"
READ_WHOLE = rf"page|edge|ids|rows|net|last|[0-9]+-ROW VALUES|CONSTANT ROW|dataset|{NUMBERS}|\(subquery-[0-9]+\)"


@pytest.fixture
def plan(app: Flask, writer: FlaskClient, create_row: CreateRow, statements: list[ExecutedStatement]) -> Any:
    """Return a function that makes a request and returns the query plans of what it read from the log."""
    create_row("companies", id="a")
    create_row("contacts", id="a", companyId="a")

    def plan_of(request: Callable[[], Any]) -> str:
        statements.clear()
        assert request().status_code in {200, 304}
        found = []
        with app.app_context():
            own = app.extensions["connections"].open()
            for each in statements[1:]:
                if each.verb in {"SELECT", "WITH", "INSERT"} and "changes" in each.sql:
                    found += [row[-1] for row in own.driver.execute(f"EXPLAIN QUERY PLAN {each.sql}", each.values)]
            own.release()
        return "\n".join(found)

    return plan_of


def assert_uses_indexes(found: str) -> None:
    """Assert that no table of history is scanned, but for one end of an index."""
    for step in found.splitlines():
        if step.startswith("SCAN"):
            assert re.fullmatch(rf"SCAN ({READ_WHOLE})", step) or (
                # The first row in the order of an index is all that is read.
                re.fullmatch(r"SCAN changes(_\d)? USING COVERING INDEX ix_changes_forgotten", step)
            ), f"{step} in\n{found}"


@pytest.mark.parametrize("net", ["", "net=true&"])
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("since=0", [SEQ]),
        ("since=1&until=2&limit=1", [SEQ]),
        ("resource=contacts", [RESOURCE]),
        ("id=a", [ROW]),
        ("resource=contacts&id=a", [ROW]),
        ("keyId=KEY", [KEY, "SEARCH changes USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        ("requestId=x&since=1&until=2", [REQUEST, "SEARCH changes USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        ("keyId=KEY&requestId=x", ["SEARCH writes USING INDEX ix_writes_"]),
        ("keyId=KEY&resource=contacts&id=a", ["SEARCH changes USING"]),
    ],
)
def test_each_filter_of_the_feed_has_an_index(
    plan: Callable[..., str], writer: FlaskClient, filters: str, expected: list[str], net: str
) -> None:
    url = f"{CHANGES}?{net}{filters}".replace("KEY", key_id(writer))
    found = plan(lambda: writer.get(url))

    assert_uses_indexes(found)
    # Of one row, net needs the last change alone.
    steps = ["SEARCH changes USING INTEGER PRIMARY KEY (rowid=?)"] if net and "contacts&id=a" in filters else expected
    for step in [*steps, WRITER]:
        assert step in found, f"{step} is not in\n{found}"
    # The order is that of the index, so that all pages cost the same. Only net=true groups the changes of a writer.
    by_writer = net and ("keyId" in filters or "requestId" in filters)
    assert "TEMP B-TREE FOR ORDER BY" not in found or filters == "id=a" or by_writer, found
    assert "TEMP B-TREE FOR GROUP BY" in found or not by_writer, found
    if net and not by_writer:
        newest = r"SEARCH changes_\d USING (COVERING )?INDEX ix_changes_resource_row_id_seq \(resource=\? AND row_id=\?"
        assert len(re.findall(newest, found)) >= 3, found


CHANGES_OF_ROW = "SEARCH changes USING COVERING INDEX ix_changes_resource_row_id_seq (resource=? AND row_id=?"


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("contacts?asOf=2", f"SCAN {NUMBERS}"),
        ("contacts/a?asOf=2", CHANGES_OF_ROW),
        ("contacts?asOf=2&limit=1", ""),
        ("contacts?asOf=2&include=company&limit=1", CHANGES_OF_ROW),
        ("companies?asOf=2&include=contacts", "SEARCH contacts USING AUTOMATIC COVERING INDEX (company_id=?)"),
    ],
)
def test_a_version_is_read_by_the_index_of_each_rows_changes(
    plan: Callable[..., str], writer: FlaskClient, path: str, step: str
) -> None:
    found = plan(lambda: writer.get(f"/api/v1/{path}"))

    key = "resource=? AND row_id=?" if "/" in path else "resource=?"
    assert f"SEARCH changes USING COVERING INDEX ix_changes_resource_row_id_seq ({key}" in found, found
    assert "SEARCH changes USING INTEGER PRIMARY KEY (rowid=?)" in found, found
    assert step in found, found
    assert_uses_indexes(found)


def test_an_unchanged_version_is_304_from_the_logs_indexes(plan: Callable[..., str], writer: FlaskClient) -> None:
    for path in "contacts?asOf=1", "contacts/a?asOf=2":
        tag = writer.get(f"/api/v1/{path}").headers["ETag"]
        found = plan(lambda path=path, tag=tag: writer.get(f"/api/v1/{path}", headers={"If-None-Match": tag}))
        assert_uses_indexes(found)
        assert "contacts" not in found


@pytest.mark.parametrize("body", [{"to": 1}, {"keyId": "KEY", "since": 0}, {"requestId": "x"}])
def test_a_revert_reads_no_more_than_its_rows_changes(
    plan: Callable[..., str], writer: FlaskClient, body: dict[str, Any]
) -> None:
    writer.patch("/api/v1/contacts/a", json={"name": "b"}, headers={"X-Request-Id": "x"})
    values = {name: key_id(writer) if value == "KEY" else value for name, value in body.items()}
    found = plan(lambda: revert(writer, "?dryRun=true", **values))

    assert_uses_indexes(found)

"""`net=true`: the net difference of a range of changes, one entry for each row."""

import json
import sys
import tracemalloc
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.conftest import Query, run_external_sql
from tests.core.conftest import NOON
from tests.history.conftest import CHANGES, feed, key_id, rows, timeless, version

pytestmark = pytest.mark.databases("sqlite", "postgresql")

CONTACTS = "/api/v1/contacts"


def net(client: FlaskClient, query_string: str = "") -> list[tuple[Any, ...]]:
    """Return number, id, action, and the titles before and after, of each entry, which all page sizes give alike."""
    entries = feed(client, f"net=true&{query_string}")
    for limit in 1, 2:
        assert feed(client, f"net=true&limit={limit}&{query_string}") == entries
    return [
        (each["seq"], each["id"], each["action"], *((each[name] or {}).get("title") for name in ("before", "data")))
        for each in entries
    ]


@pytest.fixture
def seven_changes(writer: FlaskClient, other: FlaskClient) -> None:
    """Log 1 to 7: a and b are created; a is changed by another key, back, deleted, created again; b is changed."""
    writer.put(f"{CONTACTS}/a", json={"name": "a", "title": "one"})
    writer.put(f"{CONTACTS}/b", json={"name": "b", "title": "one"})
    other.patch(f"{CONTACTS}/a", json={"title": "two"})
    writer.patch(f"{CONTACTS}/a", json={"title": "one"}, headers={"X-Request-Id": "back"})
    other.delete(f"{CONTACTS}/a")
    writer.put(f"{CONTACTS}/a", json={"name": "a", "title": "three"})
    other.patch(f"{CONTACTS}/b", json={"title": "two"})


@pytest.mark.parametrize(
    ("query_string", "expected"),
    [
        ("", [(6, "a", "created", None, "three"), (7, "b", "created", None, "two")]),
        ("until=2", [(1, "a", "created", None, "one"), (2, "b", "created", None, "one")]),
        ("since=1&until=1", []),
        ("since=2&until=3", [(3, "a", "updated", "one", "two")]),
        # It ends as it began.
        ("since=2&until=4", []),
        ("since=2&until=5", [(5, "a", "deleted", "one", None)]),
        ("since=3&until=5", [(5, "a", "deleted", "two", None)]),
        # It was never there.
        ("since=5&until=5", []),
        ("until=5", [(2, "b", "created", None, "one")]),
        ("since=4&until=6", [(6, "a", "updated", "one", "three")]),
        ("since=5", [(6, "a", "created", None, "three"), (7, "b", "updated", "one", "two")]),
        ("id=a&since=3", [(6, "a", "updated", "two", "three")]),
        ("resource=companies", []),
        ("resource=contacts&id=b&since=2", [(7, "b", "updated", "one", "two")]),
        # The data before and after includes changes by others in between.
        ("keyId=WRITER", [(2, "b", "created", None, "one"), (6, "a", "created", None, "three")]),
        ("keyId=WRITER&since=1&id=a", [(6, "a", "updated", "two", "three")]),
        ("keyId=OTHER", [(5, "a", "deleted", "one", None), (7, "b", "updated", "one", "two")]),
        ("keyId=OTHER&since=3&id=b", [(7, "b", "updated", "one", "two")]),
        ("requestId=back", [(4, "a", "updated", "two", "one")]),
        ("requestId=nothing", []),
    ],
)  # fmt: skip
def test_a_row_has_one_entry_with_its_data_before_and_after(
    seven_changes: None, writer: FlaskClient, other: FlaskClient, query_string: str, expected: list[tuple[Any, ...]]
) -> None:
    text = query_string.replace("WRITER", key_id(writer)).replace("OTHER", key_id(other))

    assert net(writer, text) == expected


def test_an_entry_is_that_of_the_last_change_with_before(seven_changes: None, reader: FlaskClient) -> None:
    last, before = feed(reader)[6], feed(reader)[1]["data"]
    [entry] = feed(reader, "net=true&since=6")

    assert list(entry) == ["seq", "resource", "id", "action", "at", "keyId", "requestId", "before", "data"]
    assert entry == {**last, "before": before}


def test_a_row_with_only_a_new_time_of_update_has_no_entry(writer: FlaskClient, query: Query) -> None:
    writer.put(f"{CONTACTS}/a", json={"name": "a"})
    query("UPDATE contacts SET updated_at = '2099-01-01T00:00:00Z'")

    assert net(writer, "since=1") == []
    assert len(feed(writer, "since=1")) == 1


def test_the_difference_of_two_versions_leads_from_one_to_the_other(seven_changes: None, writer: FlaskClient) -> None:
    last = version(writer)
    for since in range(last + 1):
        for until in range(since, last + 1):
            found = rows(writer, f"asOf={since}")
            for entry in feed(writer, f"net=true&since={since}&until={until}"):
                name = entry["resource"], entry["id"]
                assert found.pop(name, None) == entry["before"]
                if entry["data"]:
                    found[name] = entry["data"]
            # A row that was changed back is left out, though it was updated.
            assert timeless(found) == timeless(rows(writer, f"asOf={until}"))


def test_a_forgotten_row_is_in_no_difference_but_as_forgotten(admin: FlaskClient, writer: FlaskClient) -> None:
    writer.put(f"{CONTACTS}/a", json={"name": "a", "title": "a secret"})
    writer.patch(f"{CONTACTS}/a", json={"title": "another secret"})
    admin.post(f"{CONTACTS}/a/forget")
    writer.put(f"{CONTACTS}/a", json={"name": "a", "title": "new"})

    # A client that has the row, from version 1 or 2, learns that it was deleted.
    gone = (4, "a", "forgotten", None, None)
    expected: dict[tuple[int, int], list[Any]] = {
        (0, 1): [], (0, 2): [], (1, 2): [], (0, 4): [], (1, 4): [gone], (2, 4): [gone], (3, 4): [],
        (0, 5): [(5, "a", "created", None, "new")], (1, 5): [(5, "a", "created", None, "new")],
    }  # fmt: skip
    for (since, until), entries in expected.items():
        assert net(writer, f"since={since}&until={until}") == entries, (since, until)
    assert "secret" not in writer.get(f"{CHANGES}?net=true").text


def test_later_pages_end_at_the_same_version_while_others_write(writer: FlaskClient) -> None:
    for name in "abcd":
        writer.put(f"{CONTACTS}/{name}", json={"name": name})
    first = writer.get(f"{CHANGES}?net=true&limit=2")
    writer.patch(f"{CONTACTS}/c", json={"title": "later"})
    writer.put(f"{CONTACTS}/e", json={"name": "e"})
    link = first.headers["Link"].removesuffix('>; rel="next"').removeprefix("<http://localhost")
    second = writer.get(link)

    assert [(each["seq"], each["data"]["title"]) for each in first.json + second.json] == [
        (1, None), (2, None), (3, None), (4, None)
    ]  # fmt: skip
    assert "Link" not in second.headers


def test_all_entries_are_of_one_version_while_others_write(
    writer: FlaskClient, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["api.feed"], "MAX_CHANGES", 2)
    for name in "abcd":
        writer.put(f"{CONTACTS}/{name}", json={"name": name})
    with writer.get(f"{CHANGES}?net=true", buffered=False) as response:
        pieces = response.iter_encoded()
        start = next(pieces)
        run_external_sql(database, "DELETE FROM contacts WHERE id = 'd'")
        assert [each["seq"] for each in json.loads(start + b"".join(pieces))] == [1, 2, 3, 4]


@pytest.mark.parametrize("query_string", ["", "&resource=contacts", "&keyId=WRITER"])
def test_no_page_is_empty_but_the_last(writer: FlaskClient, query_string: str) -> None:
    for name in "abcd":
        for _time in range(2):
            writer.put(f"{CONTACTS}/{name}", json={"name": name})
            writer.put(f"{CONTACTS}/x", json={"name": name})
            writer.delete(f"{CONTACTS}/x")
    url, pages = f"{CHANGES}?net=true&limit=1{query_string.replace('WRITER', key_id(writer))}", []
    while url:
        page = writer.get(url)
        pages.append([each["id"] for each in page.json])
        url = page.headers.get("Link", "").partition(">")[0].removeprefix("<http://localhost")

    assert pages == [["a"], ["b"], ["c"], ["d"], []]


@pytest.mark.parametrize("query_string", ["", "&id=c", "&keyId=WRITER"])
def test_all_entries_are_one_array_when_the_rows_after_a_full_page_have_none(
    writer: FlaskClient, monkeypatch: pytest.MonkeyPatch, query_string: str
) -> None:
    for name in "MAX_CHANGES", "MAX_GROUPED":
        monkeypatch.setattr(sys.modules["api.feed"], name, 2)
    url = f"{CHANGES}?net=true{query_string.replace('WRITER', key_id(writer))}"
    for resource in "contacts", "conversations":
        writer.put(f"/api/v1/{resource}/c", json={"name": "c"} if resource == "contacts" else {})
    expected = writer.get(f"{url}&limit=2").json
    assert len(expected) == 2
    for _time in range(2):
        writer.put("/api/v1/companies/c", json={"name": "c"})
        writer.delete("/api/v1/companies/c")

    assert json.loads(writer.get(url).text) == expected
    lines = writer.get(url, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    assert list(map(json.loads, lines)) == expected


@pytest.mark.tools
@pytest.mark.databases("sqlite")
def test_all_entries_of_many_changes_are_sent_in_bounded_memory(reader: FlaskClient, query: Query) -> None:
    query(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)"
        " INSERT INTO contacts (id, name, notes, is_primary, created_at, updated_at)"
        " SELECT i, 'Ann', :notes, 0, :now, :now FROM n",
        notes="x" * 2_000,
        now=NOON,
    )
    query("UPDATE contacts SET title = 'CEO'")
    # Compile the statements.
    reader.get(f"{CHANGES}?net=true&limit=1000")

    tracemalloc.start()
    response = reader.get(f"{CHANGES}?net=true", buffered=False)
    size, end = 0, b""
    for piece in response.response:
        size, end = size + len(piece), (end + piece)[-4000:]
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert response.status_code == 200 and "Link" not in response.headers
    assert json.loads(b"[{" + end.rpartition(b",{")[2])[0]["seq"] == 8_000
    assert size > 4_000 * 2_300
    assert peak < size

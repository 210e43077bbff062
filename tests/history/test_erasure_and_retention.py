"""Erased rows don't come back, and superseded changes lose their data after KEEP_CHANGES days."""

import re
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from api.as_of import requested_version
from api.parameters import Parameters
from database import close_database
from database.columns import now
from database.connection import write_transaction
from database.sqlite import driver
from formats.values import format_time
from operate.retention import blank_old_data
from service import create_app
from settings import load_settings
from tests.conftest import LiveServer, Query
from tests.pages.conftest import key, signed_in_client

__all__ = ["key", "signed_in_client"]
pytestmark = pytest.mark.databases("sqlite", "postgresql")
SetAge = Callable[[int, int], None]
TRIGGER = "changes_keep_update"
DAYS = 30


@pytest.fixture
def set_age(app: Flask, query: Query) -> SetAge:
    """Return a function that makes the changes up to a number so many days old; the log itself refuses that."""

    def set_age(last: int, days: int) -> None:
        is_sqlite = app.config["SQLALCHEMY_DATABASE_URI"].get_backend_name() == "sqlite"
        update = f"UPDATE changes SET at = '{format_time(now() - timedelta(days=days))}' WHERE seq <= {last}"
        if is_sqlite:
            [[sql]] = query(f"SELECT sql FROM sqlite_master WHERE name = '{TRIGGER}'")
            off, on = f"DROP TRIGGER {TRIGGER}", sql
        else:
            off, on = (f"ALTER TABLE changes {verb} TRIGGER {TRIGGER}" for verb in ("DISABLE", "ENABLE"))
        for each in off, update, on:
            query(each)

    return set_age


def clean(app: Flask, days: int = DAYS) -> int:
    """Blank all old data; return in how many parts."""
    parts, has_more = 0, True
    while has_more:
        with app.app_context(), write_transaction():
            has_more = blank_old_data(days)
        parts += 1
    return parts


def names(client: FlaskClient) -> list[str | None]:
    """Return the name in each change, None for one without data."""
    return [change["data"] and change["data"]["name"] for change in client.get("/api/v1/changes").json]


@pytest.fixture
def five_changes(writer: FlaskClient) -> list[str]:
    """Make five changes to three rows; return the paths of the rows."""
    paths = []
    for name in "Ann", "Bob":
        row = writer.post("/api/v1/contacts", json={"name": name}).json
        paths.append(f"/api/v1/contacts/{row['id']}")
    writer.patch(paths[0], json={"name": "Ann 2"})
    writer.patch(paths[0], json={"name": "Ann 3"})
    writer.patch(paths[1], json={"name": "Bob 2"})
    return paths


def test_changes_that_were_superseded_before_the_horizon_lose_their_data(
    app: Flask, writer: FlaskClient, five_changes: list[str], set_age: SetAge
) -> None:
    before = writer.get("/api/v1/changes").json
    set_age(3, DAYS + 1)
    aged = writer.get("/api/v1/changes").json
    clean(app)

    assert names(writer) == [None, "Bob", "Ann 2", "Ann 3", "Bob 2"]
    for old, new in zip(aged, writer.get("/api/v1/changes").json, strict=True):
        assert {**new, "data": None} == {**old, "data": None}
    assert [change["seq"] for change in before] == [1, 2, 3, 4, 5]


def test_the_feed_from_0_rebuilds_the_rows(
    app: Flask, writer: FlaskClient, five_changes: list[str], set_age: SetAge
) -> None:
    writer.delete(five_changes[1])
    set_age(6, DAYS + 1)
    clean(app)

    rows = {}
    for change in writer.get("/api/v1/changes").json:
        rows[change["id"]] = change["data"]
    assert [row for row in rows.values() if row] == writer.get("/api/v1/contacts").json
    assert names(writer) == [None, None, None, "Ann 3", None, None]


def test_versions_before_the_horizon_are_410_and_those_after_it_stay_the_same(
    app: Flask, writer: FlaskClient, five_changes: list[str], set_age: SetAge
) -> None:
    def get(path: str) -> tuple[int, object]:
        response = writer.get(f"/api/v1/{path}")
        return response.status_code, response.json

    urls = [
        *(f"contacts?asOf={version}" for version in range(6)),
        *(f"{five_changes[0].removeprefix('/api/v1/')}?asOf={version}" for version in range(1, 6)),
        *(f"changes?net=true&since={since}" for since in range(6)),
        *(f"changes?net=true&since={since}&limit=1" for since in range(6)),
    ]
    requests = [change["requestId"] for change in writer.get("/api/v1/changes").json]
    reverts = [{"to": version} for version in range(5)] + [{"requestId": each} for each in requests]
    set_age(3, DAYS + 1)
    before = [get(url) for url in urls]
    # Of the changes by one request alone.
    nets = [f"changes?net=true&requestId={request_id}" for request_id in requests]
    nets_before = [get(url) for url in nets]
    clean(app)

    assert [get(url)[0] for url in nets[:3]] == [410] * 3
    assert [get(url) for url in nets[3:]] == nets_before[3:]
    for url, (status, body) in zip(urls, before, strict=True):
        [version] = re.findall(r"(?:asOf|since)=(\d)", url)
        if int(version) < 3:
            assert get(url)[0] == 410, url
        else:
            assert get(url) == (status, body), url
    for body in reverts:
        response = writer.post("/api/v1/changes/revert?dryRun=true", json={**body, "conflicts": "overwrite"})
        first = body["to"] if "to" in body else requests.index(body["requestId"])
        assert response.status_code == (410 if first < 3 else 200), (body, response.text)
    past = format_time(now() - timedelta(days=DAYS + 2))
    assert get(f"contacts?asOf={past}")[0] == 410


def test_no_response_is_304_after_its_data_was_blanked(
    app: Flask, writer: FlaskClient, five_changes: list[str], set_age: SetAge
) -> None:
    row = five_changes[0].removeprefix("/api/v1/")
    # With the status of each after that.
    urls = {
        "changes": 200, "changes?since=1&limit=1": 200, "changes?resource=contacts": 200,
        "changes?net=true": 410, "changes?net=true&since=3": 200, "changes?net=true&id=nobody": 200,
        "contacts?asOf=2": 410, "contacts?asOf=2&limit=1": 410, f"{row}?asOf=2": 410, "snapshot?asOf=2": 410,
    }  # fmt: skip
    tags = {url: writer.get(f"/api/v1/{url}", buffered=True).headers["ETag"] for url in urls}

    def statuses(tag: str = "") -> dict[str, int]:
        answers = {url: writer.get(f"/api/v1/{url}", headers={"If-None-Match": tag or tags[url]}) for url in urls}
        return {url: answer.status_code for url, answer in answers.items()}

    set_age(3, DAYS + 1)
    assert set(statuses().values()) == {304}
    clean(app)

    assert statuses() == urls
    assert statuses("*") == {url: 304 if status == 200 else 410 for url, status in urls.items()}
    for url, status in urls.items():
        if status == 200:
            answer = writer.get(f"/api/v1/{url}")
            assert answer.headers["Dataset-Version"] == "5"
            again = writer.get(f"/api/v1/{url}", headers={"If-None-Match": answer.headers["ETag"]})
            assert (again.status_code, again.headers["ETag"]) == (304, answer.headers["ETag"])


@pytest.mark.parametrize("query_string", ["", "limit=5&"])
def test_a_version_is_whole_when_its_data_is_blanked_while_it_is_read(
    app: Flask,
    writer: FlaskClient,
    five_changes: list[str],
    set_age: SetAge,
    monkeypatch: pytest.MonkeyPatch,
    query_string: str,
) -> None:
    url = f"/api/v1/contacts?{query_string}asOf=2"
    whole = writer.get(url).json
    set_age(5, DAYS + 1)

    def blank_after_check(parameters: Parameters) -> dict[str, int]:
        found = requested_version(parameters)
        clean(app)
        return found

    monkeypatch.setattr("api.query.requested_version", blank_after_check)
    assert writer.get(url).json == whole
    assert writer.get(url).status_code == 410


@pytest.mark.parametrize(("days", "left"), [(DAYS - 1, 0), (DAYS + 1, 3)])
def test_data_is_kept_until_it_is_so_many_days_old(
    app: Flask, writer: FlaskClient, five_changes: list[str], set_age: SetAge, query: Query, days: int, left: int
) -> None:
    set_age(5, days)
    clean(app)

    assert names(writer).count(None) == left
    assert query("SELECT oldest_version FROM dataset") == [(5 if left else 0,)]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_old_data_is_blanked_in_parts_that_leave_every_version_whole(
    app: Flask,
    writer: FlaskClient,
    five_changes: list[str],
    set_age: SetAge,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    monkeypatch.setattr("operate.retention.MAX_CHANGES", size)
    whole = {each: writer.get(f"/api/v1/contacts?asOf={each}").json for each in range(1, 6)}
    set_age(5, DAYS + 1)

    has_more = True
    while has_more:
        with app.app_context(), write_transaction():
            has_more = blank_old_data(DAYS)
        [[oldest]] = query("SELECT oldest_version FROM dataset")
        for version in range(oldest, 6):
            assert writer.get(f"/api/v1/contacts?asOf={version}").json == whole[version]
    assert names(writer) == [None, None, None, "Ann 3", "Bob 2"]
    assert clean(app) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE changes SET data = NULL WHERE seq = 2",
        "UPDATE changes SET data = NULL WHERE seq = 3",
        "UPDATE changes SET data = NULL WHERE seq = 5",
        "UPDATE changes SET data = '{}' WHERE seq = 1",
        "UPDATE changes SET action = 'deleted' WHERE seq = 1",
        "UPDATE changes SET at = '2024-01-01T00:00:00Z' WHERE seq = 1",
        "DELETE FROM changes WHERE seq = 1",
    ],
)
def test_nothing_else_in_the_log_can_be_changed(
    app: Flask, writer: FlaskClient, five_changes: list[str], set_age: SetAge, query: Query, sql: str
) -> None:
    set_age(3, DAYS + 1)
    clean(app)

    with pytest.raises(Exception, match="the change log is only ever added to"):
        query(sql)
    assert query("SELECT count(*) FROM changes WHERE data IS NULL") == [(1,)]


def test_a_clock_that_is_ahead_blanks_nothing(
    app: Flask, writer: FlaskClient, five_changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    earliest = now()
    monkeypatch.setattr("database.columns.clock.read", lambda: (earliest + timedelta(days=99), earliest))
    clean(app)

    assert None not in names(writer)


def test_a_forgotten_row_does_not_come_back(admin: FlaskClient, writer: FlaskClient, five_changes: list[str]) -> None:
    path = five_changes[0]
    requests = [change["requestId"] for change in writer.get("/api/v1/changes").json]
    deleted = writer.delete(path).headers["X-Request-Id"]
    assert admin.post(f"{path}/forget").status_code == 204
    row_id, resource = path.rpartition("/")[2], "/api/v1/contacts"

    for version in range(8):
        assert "Ann" not in writer.get(f"{resource}?asOf={version}").text
        assert writer.get(f"{path}?asOf={version}").status_code == 404
        net = writer.get(f"/api/v1/changes?net=true&since={version}")
        assert (net.status_code, "Ann" in net.text) == (200, False)
        reverted = writer.post("/api/v1/changes/revert?dryRun=true", json={"to": version})
        assert (reverted.status_code, "Ann" in reverted.text) == (200, False)
    for request_id in *requests, deleted:
        for conflicts in "skip", "overwrite":
            body = {"requestId": request_id, "conflicts": conflicts}
            response = writer.post("/api/v1/changes/revert", json=body)
            assert (response.status_code, row_id in response.text) == (200, False), response.text
    assert writer.get(path).status_code == 404
    assert "Ann" not in writer.get("/api/v1/changes").text


def test_the_new_row_with_the_id_of_a_forgotten_one_stays_when_those_changes_are_reverted(
    admin: FlaskClient, writer: FlaskClient, five_changes: list[str]
) -> None:
    path = five_changes[0]
    deletion = writer.delete(path).headers["X-Request-Id"]
    erasure = admin.post(f"{path}/forget").headers["X-Request-Id"]
    writer.put(path, json={"name": "New"})
    admin_id = admin.get("/api/v1/keys/me").json["id"]

    for selected in {"requestId": deletion}, {"requestId": erasure}, {"keyId": admin_id, "since": 0}:
        for conflicts in {}, {"conflicts": "skip"}, {"conflicts": "overwrite"}:
            response = writer.post("/api/v1/changes/revert", json={**selected, **conflicts})
            assert (response.status_code, response.json) == (200, [])
    assert writer.get(path).json["name"] == "New"


def test_the_page_of_an_old_request_says_that_its_data_is_no_longer_kept(
    app: Flask, signed_in_client: FlaskClient, writer: FlaskClient, five_changes: list[str], set_age: SetAge
) -> None:
    requests = [change["requestId"] for change in writer.get("/api/v1/changes").json]
    set_age(3, DAYS + 1)
    clean(app)

    for request_id, is_kept in zip(requests, [False, False, False, True, True], strict=True):
        page = signed_in_client.get(f"/settings/activity/{request_id}")
        assert (page.status_code, "no longer kept" in page.text) == (200, not is_kept)
        assert ("Revert…" in page.text, "<caption>" in page.text) == (is_kept, is_kept)
        preview = signed_in_client.get(f"/settings/activity/{request_id}/revert?conflicts=skip")
        assert preview.status_code == (200 if is_kept else 410)


def test_a_copy_has_the_oldest_version_of_its_source(
    app: Flask,
    run_command: Callable[..., Result],
    writer: FlaskClient,
    five_changes: list[str],
    set_age: SetAge,
    database: str,
    tmp_path: Path,
) -> None:
    set_age(3, DAYS + 1)
    clean(app)
    result = run_command("copy", "--from", database, "--to", f"sqlite:///{tmp_path}/copy.db")

    assert result.exit_code == 0, result.stderr
    with closing(driver.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("SELECT oldest_version FROM dataset").fetchall() == [(3,)]
        found = [data is not None for [data] in connection.execute("SELECT data FROM changes ORDER BY seq")]
    assert found == [False, True, True, True, True]


def test_the_hourly_cleaning_goes_on_in_parts_and_ends_with_the_server(
    app: Flask,
    writer: FlaskClient,
    five_changes: list[str],
    set_age: SetAge,
    query: Query,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("operate.retention.MAX_CHANGES", 1)
    set_age(5, DAYS + 1)
    for ends_early in True, False:
        served = create_app(load_settings({"database_url": database, "keep_changes": str(DAYS)}, {}))
        last_use = served.extensions["last_use"]
        last_use.note("")
        for _part in range(0 if ends_early else 9):
            last_use.writer.submit(bool).result()
        last_use.stop()
        with served.app_context():
            close_database()
        [[oldest]] = query("SELECT oldest_version FROM dataset")
        assert oldest < 5 if ends_early else oldest == 5

    assert names(writer) == [None, None, None, "Ann 3", "Bob 2"]
    assert "not written" not in caplog.text


@pytest.mark.tools
@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("server", ["waitress", "granian"])
def test_a_server_blanks_old_data_at_its_start_without_any_request(
    app: Flask,
    writer: FlaskClient,
    five_changes: list[str],
    set_age: SetAge,
    query: Query,
    start_server: Callable[..., LiveServer],
    database: str,
    server: str,
) -> None:
    set_age(5, DAYS + 1)
    app.extensions["connections"].close()
    arguments = "serve", "--database", database, "--server", server, "--keep-changes"
    start_server(*arguments, "31")
    start_server(*arguments, "30")
    deadline = time.monotonic() + 20
    while query("SELECT oldest_version FROM dataset") != [(5,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert query("SELECT count(*) FROM changes WHERE data IS NULL") == [(3,)]

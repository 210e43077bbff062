"""Developer settings: the HTML of the keys and the overview, without a browser."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from flask import Flask
from flask.testing import FlaskClient

from pages import overview
from pages.sessions import COOKIE, HOME
from tests.conftest import CreateRow, ExecutedStatement, Query, client_with_key
from tests.pages.conftest import form_token, session_token

pytestmark = pytest.mark.databases("sqlite", "postgresql")


def table_rows(page: str, caption: str) -> list[list[str]]:
    """Return the texts of the cells of the table that contains a caption, row by row."""
    [table] = [each for each in re.findall("<table.*?</table>", page, re.S) if caption in each]
    rows = re.findall("<tr>.*?</tr>", table.split("<tbody>")[1], re.S)
    cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.S) for row in rows]
    texts = [[unescape(" ".join(re.sub("<[^>]+>", " ", cell).split())) for cell in row] for row in cells]
    return [[text for text in row if text] for row in texts]


def post_form(signed_in_client: FlaskClient, path: str, **form: str):
    return signed_in_client.post(HOME + path, data={"token": form_token(signed_in_client), **form})


def test_keys_are_listed_newest_first(signed_in_client: FlaskClient, query: Query) -> None:
    post_form(signed_in_client, "/keys/new", name="<b>Newsletter</b>", scope="write", days="7")
    query(
        "UPDATE api_keys SET last_used_at = '2024-05-06T07:08:00Z', expires_at = '2024-05-07T00:00:00Z'"
        " WHERE scope = 'write'"
    )
    query("UPDATE api_keys SET created_at = '2024-01-02T03:04:05Z', last_used_at = NULL WHERE scope = 'admin'")

    today, prefixes = (
        f"{datetime.now(UTC):%Y-%m-%d}",
        [row[0] for row in query("SELECT prefix FROM api_keys ORDER BY number")],
    )
    newer, older = table_rows(signed_in_client.get(HOME).text, "Last used")
    assert newer[:3] == ["<b>Newsletter</b>", f"{prefixes[1]}…", "write"]
    assert newer[3].startswith(today)
    assert newer[4:] == ["2024-05-06 07:08", "2024-05-07 00:00 expired", "Delete"]
    assert older == [
        "the admin client's this session", f"{prefixes[0]}…", "admin", "2024-01-02 03:04", "never", "never",
        "Delete",
    ]  # fmt: skip


def test_a_created_key_is_shown_once_and_works(app: Flask, signed_in_client: FlaskClient, query: Query) -> None:
    response = post_form(signed_in_client, "/keys/new", name=" Newsletter sync ", scope="read", days=" 90 ")

    assert response.status_code == 201
    [line] = re.findall('<code id="line">(.*?)</code>', response.text)
    [key] = re.findall('<code id="key">(.*?)</code>', response.text)
    assert unescape(line) == f'curl -H "Authorization: Bearer {key}" http://localhost/api/v1/companies'
    assert client_with_key(app, key).get("/api/v1/companies").status_code == 200
    assert client_with_key(app, key).get("/api/v1/keys").status_code == 403
    assert key not in signed_in_client.get(HOME).text
    [[scope, expires_at]] = query("SELECT scope, expires_at FROM api_keys WHERE name = ' Newsletter sync '")
    in_days = datetime.fromisoformat(str(expires_at)) - datetime.now(UTC)
    assert (scope, timedelta(days=89, hours=23) < in_days <= timedelta(days=90)) == ("read", True)


@pytest.mark.databases("sqlite")
def test_the_curl_command_has_the_requested_host(app: Flask, signed_in_client: FlaskClient) -> None:
    headers = {"Host": "my_host:8000", "Cookie": f"{COOKIE}={session_token(signed_in_client)}"}
    form = {"token": form_token(signed_in_client), "name": "CI", "scope": "read"}
    response = app.test_client(use_cookies=False).post(f"{HOME}/keys/new", data=form, headers=headers)

    assert response.status_code == 201
    assert " http://my_host:8000/api/v1/companies</code>" in response.text


def test_a_key_without_days_does_not_expire(signed_in_client: FlaskClient, query: Query) -> None:
    assert post_form(signed_in_client, "/keys/new", name="CI", scope="read", days="").status_code == 201

    assert query("SELECT expires_at FROM api_keys WHERE name = 'CI'") == [(None,)]


@pytest.mark.parametrize(
    ("form", "errors"),
    [
        pytest.param({"name": ""}, {"name": "Must not be blank"}, id="no-name"),
        pytest.param({"name": "  "}, {"name": "Must not be blank"}, id="only-spaces"),
        pytest.param({"name": "\u200b"}, {"name": "Character 1 is U+200B (ZERO WIDTH SPACE)."}, id="invisible"),
        pytest.param({"name": "x" * 256}, {"name": "Must have at most 255 characters, not 256."}, id="long-name"),
        pytest.param({"name": "a\0b"}, {"name": "NUL"}, id="nul"),
        pytest.param({"scope": "root"}, {"scope": "Must be one of read, write, admin."}, id="scope"),
        pytest.param({"scope": ""}, {"scope": "Must be one of read, write, admin."}, id="no-scope"),
        pytest.param({"days": "0"}, {"days": "Must be a whole number from 1 to 36500"}, id="no-days"),
        pytest.param({"days": "36501"}, {"days": "Must be a whole number from 1 to 36500"}, id="many-days"),
        pytest.param({"days": "9" * 5000}, {"days": "Must be a whole number from 1 to 36500"}, id="5000-digits"),
        pytest.param({"days": "0365009999"}, {"days": "Must be a whole number from 1 to 36500"}, id="padded-days"),
        pytest.param({"days": "1.5"}, {"days": "Must be a whole number from 1 to 36500"}, id="half-days"),
        pytest.param({"days": "٣"}, {"days": "Must be a whole number from 1 to 36500"}, id="other-digits"),
        pytest.param(
            {"name": '"><script>', "scope": "x", "days": "<soon>"},
            {"scope": "Must be one of", "days": "Must be a whole number"},
            id="several",
        ),
    ],
)
def test_an_invalid_field_has_its_error_beside_it(
    signed_in_client: FlaskClient, query: Query, form: dict[str, str], errors: dict[str, str]
) -> None:
    typed = {"name": "CI", "scope": "write", "days": "7"} | form
    response = post_form(signed_in_client, "/keys/new", **typed)

    assert response.status_code == 422
    shown = dict(re.findall(r'<p class="fault" id="(\w+)-fault">(.*?)</p>', response.text))
    assert shown.keys() == errors.keys()
    assert all(error in shown[field] for field, error in errors.items())
    kept = dict(re.findall(r'<input id="(\w+)" name="\w+" value="(.*?)"', response.text))
    assert {name: unescape(value) for name, value in kept.items()} == {name: typed[name] for name in ("name", "days")}
    assert ("checked" in response.text) is (typed["scope"] == "write")
    assert query("SELECT count(*) FROM api_keys") == [(1,)]


def test_a_deletion_needs_a_confirmation(
    app: Flask, signed_in_client: FlaskClient, new_key_with_scope, query: Query
) -> None:
    key = new_key_with_scope("read")
    [[key_id]] = query("SELECT id FROM api_keys WHERE scope = 'read'")

    page = signed_in_client.get(f"{HOME}/keys/{key_id}/delete")
    assert "the read client&#39;s" in page.text and "signs you out" not in page.text
    assert client_with_key(app, key).get("/api/v1/companies").status_code == 200

    assert post_form(signed_in_client, f"/keys/{key_id}/delete").headers["Location"] == HOME
    assert client_with_key(app, key).get("/api/v1/companies").status_code == 401
    for response in (
        signed_in_client.get(f"{HOME}/keys/{key_id}/delete"),
        post_form(signed_in_client, f"/keys/{key_id}/delete"),
    ):
        assert (response.status_code, "may have been deleted already" in response.text) == (404, True)


def test_deleting_the_key_of_the_session_warns_and_signs_out(signed_in_client: FlaskClient, query: Query) -> None:
    [[key_id]] = query("SELECT id FROM api_keys")
    assert "Deleting it signs you out" in signed_in_client.get(f"{HOME}/keys/{key_id}/delete").text

    refused = post_form(signed_in_client, f"/keys/{key_id}/delete")
    assert (refused.status_code, "No other admin key lasts as long as this one: create one first." in refused.text) == (
        409,
        True,
    )
    post_form(signed_in_client, "/keys/new", name="another", scope="admin")
    assert post_form(signed_in_client, f"/keys/{key_id}/delete").status_code == 303
    assert signed_in_client.get(HOME).headers["Location"] == f"{HOME}/sign-in"
    assert query("SELECT * FROM sessions") == []


def test_the_overview_counts_rows_deals_and_statuses(signed_in_client: FlaskClient, create_row: CreateRow) -> None:
    for stage, value in ("won", 1999.5), ("won", 50_000), ("lead", None), (None, 7), ("", 100_000):
        create_row("companies", stageId=stage, dealValue=value)
    for status in "open", "closed", "closed":
        create_row("conversations", status=status)
    create_row("contacts")
    page = signed_in_client.get(HOME).text

    assert table_rows(page, "Rows") == [["Companies", "5"], ["Contacts", "1"], ["Conversations", "3"]]
    assert table_rows(page, "Deals by stage") == [
        ["“”", "1", "100,000"],
        ["won", "2", "52,000"],
        ["No stage", "1", "7"],
        ["lead", "1", "0"],
    ]
    assert table_rows(page, "Conversations by status") == [
        ["Open", "1"], ["Pending", "0"], ["Snoozed", "0"], ["Resolved", "0"], ["Closed", "2"],
    ]  # fmt: skip
    bars = re.findall('<rect width="([0-9.]+)" height="10"/>', page)
    assert [float(bar) for bar in bars] == [100, 20, 60, 50, 0, 0, 0, 100, 100, 52, 0.01, 0]


def test_the_overview_sums_up_stages_after_the_first_eight(
    signed_in_client: FlaskClient, create_row: CreateRow
) -> None:
    for number in range(1, 12):
        create_row("companies", stageId=f"stage-{number}", dealValue=number)
    found = table_rows(signed_in_client.get(HOME).text, "Deals by stage")

    assert found[0] == ["stage-11", "1", "11"]
    assert found[8:] == [["3 others", "3", "6"]]


def test_the_overview_counts_changes_by_day(signed_in_client: FlaskClient, query: Query) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days_ago = [45, 31, 30, 30, 29, 10, 10, 10, 1, 0, 0]
    for seq, days in enumerate(days_ago, 1):
        # The first and the last second of a day belong to that day.
        at = today - timedelta(days=days) + timedelta(seconds=86_399 if days == 30 and seq % 2 else 0)
        query(
            "INSERT INTO changes (seq, resource, row_id, action, at)"
            f" VALUES ({seq}, 'contacts', 'x', 'deleted', '{at:%Y-%m-%dT%H:%M:%SZ}')"
        )
    page = signed_in_client.get(HOME).text

    found = {
        (today - datetime.fromisoformat(f"{day}T00:00:00Z")).days: int(n) for day, n in table_rows(page, "Day (UTC)")
    }
    assert list(found) == list(range(30))
    assert {days: number for days, number in found.items() if number} == {29: 1, 10: 3, 1: 1, 0: 2}
    assert "7 in total; most on" in page


def test_the_overview_works_on_an_empty_database(signed_in_client: FlaskClient) -> None:
    page = signed_in_client.get(HOME).text

    assert "There are no companies yet." in page and "No changes yet." in page
    assert {number for _day, number in table_rows(page, "Day (UTC)")} == {"0"}


def test_the_overview_reads_one_snapshot(
    signed_in_client: FlaskClient, create_row: CreateRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_stages = overview.read_stages

    def write_meanwhile() -> object:
        create_row("contacts")
        return read_stages()

    monkeypatch.setattr("pages.overview.read_stages", write_meanwhile)
    assert table_rows(signed_in_client.get(HOME).text, "Rows")[1] == ["Contacts", "0"]
    assert table_rows(signed_in_client.get(HOME).text, "Rows")[1] == ["Contacts", "1"]


def test_the_overview_takes_six_statements_for_any_number_of_rows(
    signed_in_client: FlaskClient, create_row: CreateRow, statements: list[ExecutedStatement]
) -> None:
    for _number in range(20):
        create_row("companies", stageId="won")
    statements.clear()
    signed_in_client.get(HOME)

    reads = [each.verb for each in statements if each.verb in {"SELECT", "WITH"}]
    assert reads == [*["SELECT"] * 5, "WITH"]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("name", ["style.css", "copy.js", "icon.svg"])
def test_static_files_need_no_key_and_are_cached_with_an_etag(anonymous: FlaskClient, name: str) -> None:
    response = anonymous.get(f"/static/{name}")
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-cache")

    again = anonymous.get(f"/static/{name}", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    response.close()
    again.close()


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    "path", ["nothing", "../service.py", "%2e%2e/service.py", "..%2f__init__.py", "%00", "%ff", "."]
)
def test_other_files_are_404(anonymous: FlaskClient, path: str) -> None:
    response = anonymous.get(f"/static/{path}")

    assert (response.status_code, response.content_type) == (404, "application/problem+json")

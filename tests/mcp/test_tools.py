"""The tools of agents: what they list, find, write and take back, and how they refuse."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask.testing import FlaskClient

from api.feed import FILTERS
from api.resources import ENDPOINTS
from api.revert import RevertSchema
from mcp.tables import content_of
from mcp.tools import TOOLS
from settings import PROGRAM
from tests.conftest import ROOT, CreateRow, ExecutedStatement
from tests.mcp.conftest import Call, call_tool, post_message

READING = ["describe", "find", "get", "changes"]
WRITING = ["save", "update", "delete", "revert"]
Refuse = Callable[..., str]
RunCommand = Callable[..., Result]


# A tag, a zero-width space, a right-to-left mark, a byte order mark.
HIDDEN = 0xE0041, 0x200B, 0x200F, 0xFEFF


def tools_of(client: FlaskClient) -> list[dict[str, Any]]:
    return list(post_message(client, "tools/list").json["result"]["tools"])


def count_tokens(text: str) -> int:
    """Return more tokens than cl100k_base and o200k_base have for the tools (1,400 and 1,431 where this is 1,500)."""
    return len(re.findall(r"[A-Za-z]{1,8}|[0-9]{1,3}|[^A-Za-z0-9\s]{1,3}", text))


def test_the_tools_are_those_that_the_scope_allows_in_the_same_order(
    reader: FlaskClient, writer: FlaskClient, admin: FlaskClient
) -> None:
    assert [tool["name"] for tool in tools_of(reader)] == READING
    assert [tool["name"] for tool in tools_of(writer)] == READING + WRITING
    assert tools_of(admin) == tools_of(writer)


def test_all_tools_together_have_at_most_2000_tokens(writer: FlaskClient) -> None:
    text = json.dumps(tools_of(writer), separators=(",", ":"))

    assert len(text) / 4 < 2000
    assert count_tokens(text) < 2000


def test_the_hints_tell_what_a_tool_does(writer: FlaskClient) -> None:
    hints = {tool["name"]: tool["annotations"] for tool in tools_of(writer)}

    for name, each in hints.items():
        assert each["readOnlyHint"] == (name in READING)
        assert each["destructiveHint"] == (name in WRITING)
        assert each["idempotentHint"] == (name not in {"save", "revert"})
        assert each["openWorldHint"] is False


def test_the_arguments_are_those_that_the_api_declares(writer: FlaskClient) -> None:
    schemas = {tool["name"]: tool["inputSchema"] for tool in tools_of(writer)}
    written = schemas["save"]["properties"]["rows"]["description"]

    for endpoint in ENDPOINTS.values():
        for name in endpoint.attributes.keys() - {"id", "createdAt", "updatedAt"}:
            assert re.search(rf"\b{name}\b", written)
    for schema in schemas.values():
        assert schema["additionalProperties"] is False
        assert schema["properties"].get("resource", {"enum": list(ENDPOINTS)})["enum"] == list(ENDPOINTS)
    assert schemas["changes"]["properties"].keys() >= FILTERS.keys()
    assert schemas["revert"]["properties"].keys() == {
        *(field.data_key for field in RevertSchema().fields.values()),
        "dryRun",
    }


def test_describe_tells_the_fields(call: Call) -> None:
    answer = call("describe")
    assert answer["resources"].keys() == ENDPOINTS.keys()
    assert "status | open or pending or snoozed or resolved or closed | " in answer["text"]
    assert "dealValue | number | " in answer["text"]

    one = call("describe", resource="contacts")
    assert one["resources"].keys() == {"contacts"}
    assert "matchOn: id, email." in one["text"]
    [name] = [field for field in one["resources"]["contacts"] if field["field"] == "name"]
    assert (name["required"], name["maxLength"], name["readOnly"]) == (True, 255, False)


def test_find_returns_a_table_of_the_fields_page_by_page(call: Call, create_row: CreateRow) -> None:
    for number in range(5):
        create_row("companies", id=f"c{number}", name=f"Company {number}", dealValue=1000 * number + 0.5)
    arguments = {"resource": "companies", "filters": {"dealValue[gte]": 1000.5}, "sort": "-dealValue", "limit": 3}

    first = call("find", **arguments, fields=["name", "dealValue"])
    assert first["text"].splitlines()[:4] == [
        "name | dealValue",
        "Company 4 | 4000.5",
        "Company 3 | 3000.5",
        "Company 2 | 2000.5",
    ]
    assert first["rows"][0] == {"name": "Company 4", "dealValue": 4000.5}
    assert first["note"] == f"3 rows. More: the same with cursor {first['more']['cursor']}"
    assert first["text"].endswith(f"\n{first['note']}\nVersion 5.")
    last = call("find", **arguments, fields=["name", "dealValue"], **first["more"])
    assert ([row["name"] for row in last["rows"]], last["note"]) == (["Company 1"], "1 row.")
    assert call("find", **arguments, fields=["dealValue,name", "name"])["text"].startswith("name | dealValue\n")
    assert "more" not in last
    assert "More" not in last["text"]


def test_find_shows_the_fields_that_have_values(call: Call, create_row: CreateRow) -> None:
    create_row("companies", id="acme", name="Acme", notes="long " * 100)
    answer = call("find", resource="companies")

    assert answer["text"].splitlines()[0] == "id | name | position | notes | isCustomer | createdAt | updatedAt"
    assert "long … (500 characters)" in answer["text"]
    # Some clients show models the data, not the text.
    assert answer["rows"][0]["notes"] == "long " * 40 + "… (500 characters)"
    assert call("get", resource="companies", id="acme")["text"].count("long ") == 100
    # Many models send null for what they leave out.
    assert call("find", resource="contacts", q=None, filters=None, limit=None)["text"].startswith("0 rows.\n")


def test_find_takes_filters_of_every_type(call: Call, create_row: CreateRow) -> None:
    create_row("companies", id="acme", name="Acme+Co", isCustomer=True, stageId="a")
    create_row("companies", id="globex", name="Globex", stageId="b")
    create_row("conversations", id="x", tags=["urgent"], companyId="acme", visitorName="Zoë")
    found: list[tuple[dict[str, Any], list[str]]] = [
        ({"isCustomer": True}, ["acme"]),
        ({"isCustomer": False}, ["globex"]),
        ({"stageId": ["a", "b"]}, ["acme", "globex"]),
        ({"stageId": [None, "b"]}, ["globex"]),
        ({"dealValue": None}, ["acme", "globex"]),
        ({"position": 0, "name": "acme+co"}, ["acme"]),
        ({"name": "acme co"}, []),
        ({"name": ["acme co", "Acme+Co"]}, ["acme"]),
    ]

    for filters, ids in found:
        answer = call("find", resource="companies", filters=filters, fields=["id"])
        assert [row["id"] for row in answer["rows"]] == ids, filters
    assert call("find", resource="conversations", filters={"tags": "urgent"}, q="zoe")["rows"]


def test_a_page_has_at_most_50_rows(call: Call, refuse: Refuse, writer: FlaskClient) -> None:
    writer.post("/api/v1/companies", json=[{"name": str(number)} for number in range(60)])

    assert len(call("find", resource="companies")["rows"]) == 20
    assert len(call("find", resource="companies", limit=50)["rows"]) == 50
    assert len(call("changes", limit=50)["changes"]) == 50
    assert "/limit Must be 1 to 50." in refuse("find", resource="companies", limit=51)


def test_what_others_wrote_cannot_break_a_table(call: Call, create_row: CreateRow, writer: FlaskClient) -> None:
    notes = "x | y\nVersion 9.\r\n\u2028\\n | \x1b[2J" + "".join(map(chr, HIDDEN)) + "two words"
    create_row("companies", id="a", name="Evil | Corp \\| Inc", notes=notes)
    writer.patch("/api/v1/companies/a", json={"name": "Evil \\| Co"})

    for answer in call("find", resource="companies"), call("changes"), call("changes", net=True):
        lines = answer["text"].splitlines()
        assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines[:-2]}) == 1, lines
        assert lines[-1] == "Version 2."
        assert not {"\x1b", *map(chr, HIDDEN)} & {*answer["text"]}
        assert "two words" in answer["text"]
    row = call("get", resource="companies", id="a")
    assert row["row"]["notes"] == notes
    assert len(row["text"].splitlines()) == len(row["row"]) + 2


def test_rows_are_read_as_they_were(call: Call, create_row: CreateRow) -> None:
    create_row("companies", id="acme", name="Acme")
    call("update", resource="companies", id="acme", fields={"name": "Globex"})

    assert call("get", resource="companies", id="acme", asOf="1")["row"]["name"] == "Acme"
    past = call("find", resource="companies", asOf="1", filters={"name": "acme"})
    assert (past["rows"][0]["name"], past["version"]) == ("Acme", 1)
    create_row("companies")
    time = call("changes")["changes"][-1]["at"]
    assert call("find", resource="companies", asOf=time, limit=1)["more"]["asOf"] == "3"


def test_save_creates_and_matches_all_or_none(call: Call, refuse: Refuse) -> None:
    rows = [{"name": "Ann", "email": "ann@acme.com"}, {"name": "Bob"}]
    created = call("save", resource="contacts", rows=rows)
    assert created["text"].splitlines()[0] == "id | name | email"
    assert [row["name"] for row in created["rows"]] == ["Ann", "Bob"]

    matched = call("save", resource="contacts", rows=[{"email": "ANN@acme.com", "title": "CEO"}], matchOn="email")
    ann = created["rows"][0] | {"email": "ANN@acme.com", "title": "CEO", "action": "updated"}
    assert matched["rows"] == [{name: ann[name] for name in ("id", "email", "title", "action")}]
    rows = [{"id": "new", "name": "Eve"}, {"id": ann["id"], "name": "Ann"}]
    for dry_run in True, False:
        both = call("save", resource="contacts", rows=rows, matchOn="id", dryRun=dry_run)
        assert [row["action"] for row in both["rows"]] == ["created", "updated"]
    assert "new | Eve | created\n" in both["text"]
    call("delete", resource="contacts", id="new")
    text = refuse("save", resource="contacts", rows=[{"name": "Cid"}, {"nmae": "Dan"}])
    assert text.splitlines()[1:] == [
        "/rows/1/name Is required.",
        "/rows/1/nmae Is not a known field. Did you mean name?",
    ]
    assert len(call("find", resource="contacts")["rows"]) == 2


def test_a_row_that_matches_two_names_them(refuse: Refuse, create_row: CreateRow) -> None:
    ids = sorted(create_row("contacts", email="ann@acme.com") for _turn in range(2))
    rows = [{"name": "Bob", "email": "bob@acme.com"}, {"name": "Ann", "email": "ann@acme.com"}]

    text = refuse("save", resource="contacts", rows=rows, matchOn="email")
    assert text.splitlines() == [
        "409 Conflict: Some records conflict with stored rows: see errors.",
        f"/rows/1 More than one row has this email: {ids[0]} and {ids[1]}.",
    ]


def test_numbers_and_texts_are_exact(refuse: Refuse, writer: FlaskClient) -> None:
    assert "/rows/0/dealValue Must have at most two decimals." in refuse(
        "save", resource="companies", rows=[{"name": "A", "dealValue": 1.005}]
    )
    for arguments in (
        '{"resource": "companies", "rows": [{"name": "A", "dealValue": 0.1000000000000000000001}]}',
        '{"resource": "companies", "rows": [{"name": "A", "dealValue": NaN}]}',
        '{"resource": "companies", "rows": [{"name": "\\ud800"}]}',
        '{"resource": "companies", "rows": [5, null]}',
        '{"resource": "companies", "rows": [' + "[" * 500 + "]" * 500 + "]}",
    ):
        params = f'{{"name": "save", "arguments": {arguments}}}'
        body = f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {params}}}'
        response = writer.post("/mcp", data=body, content_type="application/json")
        assert response.json["result"]["structuredContent"]["status"] == 422, arguments


def test_a_write_is_taken_back_by_its_request(call: Call, create_row: CreateRow, writer: FlaskClient) -> None:
    create_row("companies", id="acme", name="Acme")
    create_row("contacts", id="ann", name="Ann", companyId="acme")
    writes: list[tuple[str, dict[str, Any]]] = [
        ("save", {"resource": "contacts", "rows": [{"name": "Bob"}]}),
        ("update", {"resource": "contacts", "id": "ann", "fields": {"title": "CEO", "companyId": None}}),
        ("delete", {"resource": "companies", "id": "acme"}),
    ]

    for name, arguments in writes:
        version = int(writer.get("/api/v1/keys/me").headers["Dataset-Version"])
        written = call(name, **arguments)
        assert written["note"] == f'To take this back: revert {{"requestId": "{written["requestId"]}"}}'
        assert written["note"] in written["text"]
        entries = writer.get(f"/api/v1/changes?since={version}").json
        assert {entry["requestId"] for entry in entries} == {written["requestId"]}
        assert len({entry["keyId"] for entry in entries} - {None}) == 1
        preview = call("revert", requestId=written["requestId"], dryRun=True)
        assert "Dry run: nothing was stored." in preview["text"]
        # The preview's own request can't be reverted.
        assert "requestId" not in preview["text"]
        assert all((each["content"] or "") in preview["text"] for each in preview["changes"])
        reverted = call("revert", requestId=written["requestId"])
        assert len(reverted["changes"]) == len(entries)
        assert writer.get(f"/api/v1/changes?since={version}&net=true").json == []
    # A revert can be reverted, too.
    assert call("revert", requestId=reverted["requestId"])["changes"][-1]["action"] == "deleted"


def test_a_dry_run_stores_nothing(call: Call, create_row: CreateRow, query: Callable[..., list[Any]]) -> None:
    create_row("companies", id="acme", name="Acme")
    writes: dict[str, dict[str, Any]] = {
        "save": {"resource": "companies", "rows": [{"name": "Globex"}]},
        "update": {"resource": "companies", "id": "acme", "fields": {"name": "Globex"}},
        "delete": {"resource": "companies", "id": "acme"},
        "revert": {"to": 0},
    }

    assert writes.keys() == set(WRITING)
    for name, arguments in writes.items():
        answer = call(name, **arguments, dryRun=True)
        assert answer["note"] == "Dry run: nothing was stored."
        assert answer["note"] in answer["text"]
        assert not re.search("take this back|Deleted", answer["text"])
        assert {"requestId", "deleted"} & answer.keys() == set()
    assert query("SELECT count(*) FROM changes") == [(1,)]
    same = call("update", resource="companies", id="acme", fields={"name": "Acme"})
    assert same["note"] == "Nothing changed."
    assert same["note"] in same["text"]
    assert "requestId" not in same


def test_a_write_can_require_the_row_as_it_was_read(call: Call, refuse: Refuse, create_row: CreateRow) -> None:
    create_row("companies", id="acme", name="Acme")
    etag = call("get", resource="companies", id="acme")["etag"]
    updated = call("update", resource="companies", id="acme", fields={"name": "Globex"}, ifMatch=etag)

    assert updated["etag"] != etag
    assert f"etag: {updated['etag']}" in updated["text"]
    for name, extra in ("update", {"fields": {"name": "Initech"}}), ("delete", {}):
        text = refuse(name, resource="companies", id="acme", ifMatch=etag, **extra)
        assert text == "412 Precondition Failed: The company has changed since: read it again, then decide."
    call("delete", resource="companies", id="acme", ifMatch=f'"{updated["etag"]}"')


def test_one_call_changes_at_most_100_rows(call: Call, refuse: Refuse, writer: FlaskClient) -> None:
    rows = [{"name": str(number)} for number in range(101)]
    assert "/rows Must have 1 to 100 members." in refuse("save", resource="companies", rows=rows)
    assert "/rows Must have 1 to 100 members." in refuse("save", resource="companies", rows=[])

    writer.post("/api/v1/companies", json=rows, headers={"X-Request-Id": "many"})
    others = "Must change at most 100 rows: name a later version or a request of your own key, or ask a person to use "
    [key_id] = {entry["keyId"] for entry in writer.get("/api/v1/changes").json}
    for body in {"to": 0}, {"keyId": key_id, "since": 0}:
        assert f"{others}`{PROGRAM} revert --request ID` or Settings → Activity." in refuse("revert", **body)
    call("revert", to=1)


@pytest.mark.databases("sqlite", "postgresql")
def test_a_request_of_others_is_reverted_up_to_100_rows(
    call: Call, refuse: Refuse, writer: FlaskClient, admin: FlaskClient, run_command: RunCommand, database: str
) -> None:
    data = {"companies": [{"id": f"c{number}", "name": "Acme"} for number in range(101)]}
    Path("seed.json").write_text(json.dumps(data), encoding="utf-8")
    assert run_command("seed", "--from", "seed.json", "--database", database).exit_code == 0
    command = writer.get("/api/v1/changes?limit=1").json[0]["requestId"]
    # The agent's key and another have used the same id.
    for client, request_id, size in (
        (admin, "many", 101),
        (writer, "both", 1),
        (admin, "both", 100),
        (admin, "few", 100),
    ):
        rows = [{"name": "Ann"}] * size
        client.post("/api/v1/contacts", json=rows, headers={"X-Request-Id": request_id})

    for request_id in command, "many", "both":
        for dry_run in True, False:
            text = refuse("revert", requestId=request_id, dryRun=dry_run)
            assert "\nMust change at most 100 rows: " in text
            assert f"ask a person to use `{PROGRAM} revert --request {request_id}` or Settings → Activity." in text
    assert call("revert", requestId="few")["total"] == 100
    # Invalid ids are refused before they reach the database.
    for request_id in "\ud800", "\0", "x" * 129:
        assert "/requestId Must " in refuse("revert", requestId=request_id)


def test_a_revert_of_a_request_of_others_counts_the_rows_that_leave_a_company(
    call: Call, refuse: Refuse, admin: FlaskClient
) -> None:
    admin.put("/api/v1/companies/acme", json={"name": "Acme"}, headers={"X-Request-Id": "company"})
    admin.post("/api/v1/contacts", json=[{"name": "Ann", "companyId": "acme"}] * 100)
    for dry_run in True, False:
        text = refuse("revert", requestId="company", conflicts="overwrite", dryRun=dry_run)
        assert "\nMust change at most 100 rows: " in text


def test_a_request_of_the_own_key_that_changed_more_rows_is_reverted_by_a_person(
    call: Call, refuse: Refuse, writer: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp.tools.MAX_ROWS", 3)
    writer.put("/api/v1/companies/acme", json={"name": "Acme"})
    writer.post("/api/v1/contacts", json=[{"name": "Ann", "companyId": "acme"}] * 3)
    deleted = call("delete", resource="companies", id="acme")

    ask = f"ask a person to use `{PROGRAM} revert --request {deleted['requestId']}` or Settings → Activity"
    assert f"\nTo take this back: {ask}\n" in deleted["text"]
    assert f"3 rows: {ask}." in refuse("revert", requestId=deleted["requestId"])
    writer.post("/api/v1/changes/revert", json={"requestId": deleted["requestId"]})
    writer.patch(f"/api/v1/contacts/{writer.get('/api/v1/contacts').json[0]['id']}", json={"companyId": None})
    deleted = call("delete", resource="companies", id="acme")
    assert deleted["note"] == f'To take this back: revert {{"requestId": "{deleted["requestId"]}"}}'
    assert call("revert", requestId=deleted["requestId"])["total"] == 3


def test_the_deletion_of_a_company_names_the_number_of_its_rows(call: Call, writer: FlaskClient) -> None:
    writer.put("/api/v1/companies/acme", json={"name": "Acme"})
    writer.post("/api/v1/contacts", json=[{"name": "Ann", "companyId": "acme"}] * 3)
    for dry_run in True, False:
        deleted = call("delete", resource="companies", id="acme", dryRun=dry_run)
        assert "Contacts and conversations that lose this company: 3." in deleted["text"]
        assert deleted["members"] == 3


def test_a_refused_deletion_reads_no_row_of_the_company(
    reader: FlaskClient, writer: FlaskClient, create_row: CreateRow, statements: list[ExecutedStatement]
) -> None:
    create_row("companies", id="acme", name="Acme")
    create_row("contacts", companyId="acme")
    refused = [(reader, {}, 403), (writer, {"ifMatch": "other"}, 412), (writer, {"id": "nope"}, 404)]
    for client, extra, status in refused:
        result = call_tool(client, "delete", **{"resource": "companies", "id": "acme"} | extra)
        assert result["structuredContent"]["status"] == status
    assert [each.sql for each in statements if "FROM contacts" in each.sql] == []


def test_any_call_is_taken_back_by_one_call(call: Call, create_row: CreateRow, writer: FlaskClient) -> None:
    create_row("companies", id="acme", name="Acme")
    rows = [{"name": str(number), "companyId": "acme", "notes": "long " * 1000} for number in range(150)]
    writer.post("/api/v1/contacts", json=rows)
    deleted = call("delete", resource="companies", id="acme")

    reverted = call("revert", requestId=deleted["requestId"])
    assert (reverted["total"], len(reverted["changes"])) == (151, 50)
    assert "\nChanges: 151, the first 50 are shown.\n" in reverted["text"]
    assert len(json.dumps(reverted)) < 50_000
    assert len(writer.get("/api/v1/contacts?companyId=acme").json) == 150
    assert call("revert", requestId=reverted["requestId"])["total"] == 151


def test_changes_tell_who_changed_what(call: Call, create_row: CreateRow) -> None:
    create_row("companies", id="acme", name="Acme")
    written = call("update", resource="companies", id="acme", fields={"name": "Globex"})
    call("delete", resource="companies", id="acme")

    page = call("changes", since=1, limit=1, resource="companies", id="acme")
    assert page["changes"][0]["requestId"] == written["requestId"]
    assert (page["more"], page["version"]) == ({"since": 2}, 3)
    net = call("changes", until=2, since=1, net=True)
    assert net["text"].splitlines()[1].endswith(' | name: "Acme" → "Globex"')
    [entry] = net["changes"]
    later = entry["data"] | {"updatedAt": "9999-12-31T23:59:59Z"}
    assert content_of(entry | {"data": later}) == 'name: "Acme" → "Globex"'
    assert call("changes", requestId=written["requestId"], net=False)["changes"] == page["changes"]
    assert " | deleted | companies | acme | " in call("changes", net=True, since=2)["text"]
    # Of the row, what the other columns don't tell.
    assert (
        call("changes", until=1)["text"].splitlines()[1].endswith('| {"name":"Acme","position":0,"isCustomer":false}')
    )


def test_numbers_of_either_form_are_accepted(call: Call, create_row: CreateRow) -> None:
    create_row("companies", id="acme", name="Acme")

    for as_of in 1, "1":
        assert call("get", resource="companies", id="acme", asOf=as_of)["row"]["name"] == "Acme"
        assert call("find", resource="companies", asOf=as_of, limit=2.0)["note"] == "1 row."
    assert call("changes", since=0.0)["note"] == "1 change."


def test_find_says_that_it_cuts_long_texts(writer: FlaskClient) -> None:
    [find] = [tool for tool in tools_of(writer) if tool["name"] == "find"]

    assert "Only get shows long texts whole." in find["description"]


def test_answers_and_errors_are_concise(call: Call, refuse: Refuse, create_row: CreateRow) -> None:
    long = "long " * 2000
    saved = call("save", resource="companies", rows=[{"name": "Acme", "notes": long}] * 100)
    assert saved["rows"][0].keys() == {"id", "name", "notes"}
    assert saved["rows"][0]["notes"] == f"{long[:200]}… (10000 characters)"
    assert len(json.dumps(saved)) < 80_000
    updated = call("update", resource="companies", id=saved["rows"][0]["id"], fields={"notes": long[1:]})
    assert len(json.dumps(updated)) < 2000

    huge = "x" * 300_000
    for arguments in (
        {"fields": [huge]},
        {"sort": huge},
        {"asOf": huge},
        {"cursor": huge},
        {"filters": {huge: 1}},
        {"filters": {"name[gte]": huge}},
        {huge: 1},
        {"resource": huge},
    ):
        assert len(refuse("find", **{"resource": "companies", **arguments})) < 2000, arguments.keys()
    assert len(refuse("get", resource="companies", id=huge)) < 2000


def test_a_request_id_of_the_client_names_no_write(call: Call, writer: FlaskClient) -> None:
    params = {"name": "save", "arguments": {"resource": "companies", "rows": [{"name": "Acme"}]}}
    responses = [post_message(writer, "tools/call", params, **{"X-Request-Id": "same"}) for _turn in range(2)]
    assert {response.headers["X-Request-Id"] for response in responses} == {"same"}
    first, second = (response.json["result"]["structuredContent"] for response in responses)

    response = post_message(writer, "tools/call", params)
    assert response.json["result"]["structuredContent"]["requestId"] == response.headers["X-Request-Id"]
    call("revert", requestId=response.headers["X-Request-Id"])
    assert call("revert", requestId=second["requestId"])["total"] == 1
    assert writer.get("/api/v1/companies").json[0]["id"] == first["rows"][0]["id"]


MENDABLE: list[tuple[str, dict[str, Any], str]] = [
    ("find", {}, "/resource Is required."),
    ("find", {"resource": None}, "/resource Is required."),
    ("find", {"resource": "company"}, "/resource Must be one of companies, contacts, conversations."),
    ("find", {"resource": ["companies"]}, "/resource Must be of the type string."),
    ("find", {"resource": "companies", "limit": "5"}, "/limit Must be of the type integer."),
    ("find", {"resource": "companies", "limit": True}, "/limit Must be of the type integer."),
    ("find", {"resource": "companies", "filter": {}}, "/filter Is not known. Did you mean filters?"),
    ("find", {"resource": "companies", "filters": {"nmae": "x"}}, "/filters/nmae Is not a field. Did you mean name?"),
    ("find", {"resource": "companies", "filters": {"limit": 500}}, "/filters/limit Is not a field. "),
    ("find", {"resource": "companies", "filters": {"name": []}}, "/filters/name Must be a value or some values"),
    ("find", {"resource": "companies", "filters": {"name": {"contains": "a"}}}, "to search texts, use q."),
    (
        "find",
        {"resource": "companies", "filters": {"name[gte]": "a"}},
        "they are for numbers and times. To search texts, use q.",
    ),
    ("find", {"resource": "companies", "filters": {"name": "\ud800"}}, "400 Bad Request: The query string must be"),
    ("find", {"resource": "companies", "fields": ["id", 5]}, "400 Bad Request: fields can't have '5'."),
    ("find", {"resource": "companies", "fields": "id"}, "/fields Must be of the type array."),
    ("find", {"resource": "companies", "sort": "nmae"}, "400 Bad Request: "),
    ("find", {"resource": "companies", "cursor": "x"}, "400 Bad Request: "),
    ("find", {"resource": "companies", "asOf": "99"}, "400 Bad Request: "),
    ("get", {"resource": "companies", "id": "nope"}, "404 Not Found: There is no company with the id nope."),
    ("get", {"resource": "companies", "id": "a/forget"}, "404 Not Found: "),
    ("get", {"resource": "companies", "id": ""}, "/id Must not be empty."),
    ("get", {"resource": "companies", "id": "Zoë & co?"}, "There is no company with the id Zoë & co?."),
    ("get", {"resource": "companies", "id": 5}, "There is no company with the id 5."),
    ("find", {"resource": "companies", "limit": 2.5}, "/limit Must be of the type integer."),
    ("find", {"resource": "companies", "limit": 1e300}, "/limit Must be of the type integer."),
    ("get", {"resource": "companies", "id": "\ud800"}, "404 Not Found: "),
    ("changes", {"since": 99}, "410 Gone: "),
    ("changes", {"since": -1}, "400 Bad Request: since must be a whole number from 0"),
    ("changes", {"since": 10**30}, "400 Bad Request: since must be a whole number from 0"),
    ("update", {"resource": "companies", "id": "acme", "fields": {}, "ifMatch": ""}, "/ifMatch Must not be empty."),
    ("delete", {"resource": "companies", "id": "acme", "ifMatch": ""}, "/ifMatch Must not be empty."),
    ("delete", {"resource": "companies", "id": "", "ifMatch": None}, "/id Must not be empty."),
    (
        "save",
        {"resource": "companies", "rows": [{"id": "a", "name": "A"}]},
        "/rows/0/id Is read-only: leave it out, or send matchOn",
    ),
    ("revert", {"to": -1}, "/to Must be the number of a change, or 0."),
    ("save", {"resource": "companies", "rows": {}}, "/rows Must be of the type array."),
    (
        "save",
        {"resource": "companies", "rows": [{}], "matchOn": "email"},
        "400 Bad Request: matchOn can't have 'email'.",
    ),
    ("update", {"resource": "companies", "id": "acme", "fields": {"id": "x"}}, "/fields/id Is read-only"),
    ("update", {"resource": "companies", "id": "acme", "fields": []}, "/fields Must be of the type object."),
    (
        "update",
        {"resource": "companies", "id": "acme", "fields": {}, "ifMatch": 'a"b'},
        "400 Bad Request: If-Match must",
    ),
    ("delete", {"resource": "companies", "id": "nope"}, "404 Not Found: "),
    ("delete", {"resource": "companies", "id": "\ud800"}, "404 Not Found: "),
    ("delete", {"resource": "companies", "id": "a\0"}, "404 Not Found: "),
    ("delete", {"resource": "companies", "id": "acme", "dryRun": "true"}, "/dryRun Must be of the type boolean."),
    ("revert", {}, "Must have exactly one of requestId, keyId and to."),
    ("revert", {"requestId": "x", "conflicts": "ask"}, "/conflicts Must be one of skip, overwrite."),
    ("revert", {"requestId": "nope"}, "404 Not Found: There are no changes by the request nope."),
]


def test_errors_say_how_to_mend_them(refuse: Refuse, create_row: CreateRow, writer: FlaskClient) -> None:
    create_row("companies", id="acme", name="Acme")
    for name, arguments, sentence in MENDABLE:
        text = refuse(name, **arguments)
        assert sentence in text, (name, arguments, text)
        assert re.match(r"4\d\d [A-Z]", text), text
    assert writer.get("/api/v1/changes").headers["Dataset-Version"] == "1"


def test_of_many_unknown_names_only_those_that_are_listed_are_compared(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    monkeypatch.setattr("mcp.arguments.suggest", lambda name, _known: compared.append(name) or "")
    names = dict.fromkeys(map(str, range(5000)), 1)

    for arguments in names, {"filters": names}:
        assert "The first 100 are listed." in refuse("find", **{"resource": "companies", **arguments})
    assert len(compared) == 200


def test_a_conflict_names_the_row_and_the_way_out(call: Call, refuse: Refuse, writer: FlaskClient) -> None:
    written = call("save", resource="companies", rows=[{"name": "Acme"}])
    path = f"/api/v1/companies/{written['rows'][0]['id']}"
    writer.patch(path, json={"name": "Globex"})

    text = refuse("revert", requestId=written["requestId"])
    assert text.startswith("409 Conflict: companies/")
    assert "conflicts can be skip or overwrite" in text
    skipped = call("revert", requestId=written["requestId"], conflicts="skip")
    [left_out] = skipped["leftOut"]
    assert left_out == f"companies/{written['rows'][0]['id']}: Was changed afterwards, by change 2."
    assert f"\nLeft out: {left_out}\nNothing changed.\n" in skipped["text"]
    assert call("revert", requestId=written["requestId"], conflicts="overwrite")["leftOut"] == []
    assert writer.get(path).status_code == 404


def test_a_key_that_reads_cannot_write(reader: FlaskClient, create_row: CreateRow) -> None:
    create_row("companies", id="acme", name="Acme")
    arguments: dict[str, dict[str, Any]] = {
        "save": {"resource": "companies", "rows": [{"name": "A"}]},
        "update": {"resource": "companies", "id": "acme", "fields": {}},
        "delete": {"resource": "companies", "id": "acme"},
        "revert": {"to": 0},
    }

    assert [name for name, (_run, scope, _description) in TOOLS.items() if scope != "read"] == list(arguments)
    for name, each in arguments.items():
        result = call_tool(reader, name, **each)
        assert result["isError"]
        assert result["text"].startswith("403 Forbidden: This API key lacks the required scope")
    assert reader.get("/api/v1/changes").headers["Dataset-Version"] == "1"


def test_a_call_costs_one_query_more_than_its_view(
    reader: FlaskClient, create_row: CreateRow, statements: list[ExecutedStatement]
) -> None:
    company = create_row("companies")
    reader.get(f"/api/v1/companies/{company}")
    statements.clear()
    reader.get(f"/api/v1/companies/{company}")
    by_view = len(statements)
    call_tool(reader, "get", resource="companies", id=company)

    assert len(statements) - by_view == by_view + 1


def test_a_fault_of_the_server_is_told_without_internals(
    reader: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("api.read_views.page_query", lambda *_arguments: 1 / 0)
    result = call_tool(reader, "find", resource="companies")

    assert result["text"].startswith("500 Internal Server Error: An internal error occurred.")
    assert "ZeroDivisionError" not in json.dumps(result)
    assert "ZeroDivisionError" in caplog.text


def test_the_guides_name_every_tool_and_client(anonymous: FlaskClient) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Agents\n")[2].partition("\n## ")[0]
    llms = anonymous.get("/llms.txt").text.partition("\n## Agents\n")[2].partition("\n## ")[0]
    page = anonymous.get("/docs/agents").text.replace("<code>", "`").replace("</code>", "`")

    for name in TOOLS:
        for guide in readme, llms, page:
            assert f"`{name}`" in guide
    # The tests run in a checkout.
    for guide in llms, page:
        assert "`.venv/bin/python service.py mcp --url " in guide
    for setup in re.findall(r"`(\{.*?\})`", readme.partition("| Scope |")[0]):
        [server] = (json.loads(setup).get("mcpServers") or json.loads(setup)["servers"]).values()
        assert server.get("url", server.get("args", ["", "", ""])[2]).startswith("http://127.0.0.1:8000")
    assert [
        row for row in ("Claude Code", "Cursor", "VS Code", "Claude Desktop") if f"\n| {row} | " not in readme
    ] == []

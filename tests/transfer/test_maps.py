"""Maps: the exports of other programs, their peculiarities, and errors."""

import json
import re
import shutil
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from schemas import RESOURCES
from tests.conftest import ROOT
from tests.transfer.conftest import RunCommand, select_rows
from transfer.columns import Header, map_fields
from transfer.maps import FOLDER, Options, presets
from transfer.records import row_converter

EXPORTS = Path(__file__).parent / "exports"
pytestmark = pytest.mark.usefixtures("new_database")

BERLIN = ("--timezone", "Europe/Berlin")
HUBSPOT = ("--map", "hubspot", *BERLIN)
SALESFORCE = ("--map", "salesforce", "--encoding", "windows-1252", "--day-first", *BERLIN)
HINT = " --notes-from COLUMN adds a column to the notes."
# Each export with its options, and the output of the command.
IMPORTS = [
    (
        "hubspot-companies.csv",
        HUBSPOT,
        "Stored 30 companies.\nLeft out: Company owner, Phone Number, City, Country/Region, Annual Revenue, Number "
        "of Employees."
        f"{HINT}",
    ),
    (
        "hubspot-contacts.csv",
        HUBSPOT,
        "Stored 30 contacts, 24 companies.\nLeft out: Contact owner, Last Activity Date (UTC), Lead Status, "
        "Marketing contact status, Lifecycle Stage, Associated Company (column 15)."
        f"{HINT}",
    ),
    (
        "intercom-conversations.csv",
        ("--map", "intercom"),
        "Stored 30 conversations.\nLeft out: Title, Channel, Started by, Team currently assigned, Conversation rating, "
        "Fin AI Agent involved, Time to first response (seconds).",
    ),
    (
        "salesforce-contacts-report.csv",
        (*SALESFORCE, "--notes-from", "mailing street"),
        "Stored 30 contacts.\nLeft out: Salutation, Mailing City, Mailing State/Province, Mailing Zip/Postal Code, "
        "Mailing Country, Fax, Account Owner, Last Activity."
        f"{HINT}",
    ),
]


def rows_of(folder: Path, resource: str = "contacts") -> list[dict[str, Any]]:
    """Return the newest data of each row, as the change log has it, in the order of their creation."""
    sql = f"SELECT row_id, data FROM changes WHERE resource = '{resource}' ORDER BY seq"
    return [json.loads(str(data)) for data in dict(select_rows(folder / "cardfile.db", sql)).values()]


def last_change(folder: Path) -> Any:
    return select_rows(folder / "cardfile.db", "SELECT max(seq) FROM changes")


def write_map(folder: Path, text: str) -> None:
    (folder / "map.toml").write_text(text, encoding="utf-8")


def test_the_exports_of_other_programs_are_stored_and_a_second_time_nothing_changes(
    run_command: RunCommand, tmp_path: Path
) -> None:
    shutil.copytree(EXPORTS, tmp_path, dirs_exist_ok=True)
    requests = []
    for file, options, said in IMPORTS:
        done = run_command("import", file, *options)
        assert done.stderr.startswith(f"{said}\nTo undo: "), done.stderr
        requests.append(done.stderr.split("--request ")[1].strip())
    companies, contacts, talks = (
        {row["id"]: row for row in rows_of(tmp_path, name)} for name in ("companies", "contacts", "conversations")
    )

    assert (len(companies), len(contacts), len(talks)) == (54, 60, 30)
    assert companies["hubspot-9001"] | {"updatedAt": None} == {
        "id": "hubspot-9001", "name": "Blue Logistics", "website": "https://bluelogistics.example",
        "industry": "RENEWABLES_ENVIRONMENT", "dealValue": None, "stageId": "customer", "position": 0, "logoUrl": None,
        "notes": 'Clinic "software"', "lastContact": "2023-02-24T13:34:00Z", "isCustomer": True, "createdBy": None,
        "createdAt": "2025-01-08T23:09:00Z", "updatedAt": None,
    }  # fmt: skip
    assert companies["hubspot-9000"]["website"] == "https://www.blueanalytics.example"
    assert companies["hubspot-9006"]["isCustomer"] is False and companies["hubspot-9006"]["stageId"] is None
    assert companies["hubspot-9005"]["notes"] == "Makes things,\nand ships them"
    # Neither name nor e-mail address, two companies, an apostrophe before +, capitals, summer time.
    assert contacts["hubspot-100"]["name"] == "Contact 100"
    assert contacts["hubspot-100"]["companyId"] == "hubspot-9075"
    assert contacts["hubspot-103"]["phone"] == "+4930123"
    assert contacts["hubspot-103"]["email"] == "MAYA.CHEN@CEDARANALYTICS161.EXAMPLE"
    assert contacts["hubspot-103"]["createdAt"] == "2025-04-05T09:40:00Z"
    assert contacts["hubspot-113"]["name"] == "García"
    # Found by name, though HubSpot's file named the id.
    assert contacts["salesforce-003000000000001AAA"] | {"updatedAt": None} == {
        "id": "salesforce-003000000000001AAA", "companyId": "hubspot-9003", "name": "Ana O'Connor",
        "email": "ana.oconnor@bluegmbh.example", "phone": "+44 7000 000000", "title": "Head of Sales", "role": None,
        "notes": "Mailing Street: 1 Main St\nSuite 4", "isPrimary": False, "userId": None,
        "createdAt": "2023-09-19T22:00:00Z", "updatedAt": None,
    }  # fmt: skip
    assert contacts["salesforce-003000000000000AAA"]["name"] == "Olivia Müller"
    assert talks["intercom-215469000000008"] == {
        "id": "intercom-215469000000008", "companyId": "hubspot-9051", "visitorName": "Diego Murphy",
        "visitorEmail": "diego.murphy@lumenfoodsinc.example", "visitorIp": None, "userAgent": None, "referrerUrl": None,
        "pageUrl": None, "status": "closed", "assignedToUserId": "Ada", "isRead": False, "trustUploads": False,
        "tags": ["Bug", "VIP"], "lastMessageAt": "2024-01-15T06:06:00Z", "createdAt": "2024-01-14T07:40:00Z",
        "updatedAt": "2024-01-15T06:06:00Z",
    }  # fmt: skip
    assert talks["intercom-215469000000000"]["assignedToUserId"] is None

    before = last_change(tmp_path)
    for file, options, said in IMPORTS:
        again = run_command("import", file, *options).stderr
        assert again.splitlines()[0] == said.splitlines()[0].replace("Stored", "Unchanged:").replace(
            ", 24 companies", ""
        )
        assert "To undo" not in again
    assert last_change(tmp_path) == before
    for request in reversed(requests):
        assert run_command("revert", "--request", request).exit_code == 0
    assert select_rows(tmp_path / "cardfile.db", "SELECT count(*) FROM companies") == [(0,)]


@pytest.mark.parametrize(
    ("header", "resource", "fields"),
    [
        # Pipedrive, without and with a column for each kind of address.
        ("Person - ID,Person - Name,Person - Email,Person - Organization ID,Person - Organization,Person - Person "
        "created"
         "\n7,Ann Lee,ann@lee.example,3,Lee Ltd,2024-01-15 10:30:00", "contacts",
         {"id": "pipedrive-7", "name": "Ann Lee", "email": "ann@lee.example", "companyId": "pipedrive-3",
          "createdAt": "2024-01-15T09:30:00Z"}),
        ("Person - ID;Person - First name;Person - Last name;Person - Email - Work;Person - Email - Home;"
         "Person - Phone - Work;Person - Phone - Mobile\n7;Ann;Lee;;ann@lee.example;;'+49 30",
         "contacts", {"name": "Ann Lee", "email": "ann@lee.example", "phone": "+49 30", "companyId": None}),
        ("Person - ID,Person - Name,Person - Email,Organization - ID,Organization - Name\n7,Ann Lee,,3,Lee Ltd",
         "contacts", {"id": "pipedrive-7", "companyId": "pipedrive-3"}),
        ("Organization - ID\tOrganization - Name\tOrganization - Website\n3\tLee Ltd\twww.lee.example", "companies",
         {"id": "pipedrive-3", "name": "Lee Ltd", "website": "https://www.lee.example"}),
        ("id,name,email,phone_number,company_name,created_at\n5,Ann,ann@lee.example,+4930,,2024-01-15 10:30:00 UTC",
         "contacts", {"id": "chatwoot-5", "phone": "+4930", "companyId": None, "createdAt": "2024-01-15T10:30:00Z"}),
        ("Record Id,Contact Owner.id,Contact Owner,First Name,Last Name,Account Name.id,Account Name,Email,Created "
        "Time\n"
         "zcrm_1,zcrm_9,Bo,Ann,Lee,zcrm_2,Lee Ltd,ann@lee.example,15/01/2024 10:30:00", "contacts",
         {"id": "zoho-zcrm_1", "name": "Ann Lee", "companyId": "zoho-zcrm_2", "createdAt": "2024-01-15T09:30:00Z"}),
        ("Record Id,Account Owner.id,Account Name,Website,Industry\nzcrm_2,zcrm_9,Lee Ltd,http://lee.example,Food",
         "companies", {"id": "zoho-zcrm_2", "name": "Lee Ltd", "website": "http://lee.example", "industry": "Food"}),
        ('Record ID,Name,Email addresses,Company,Job title,Created at\n'
         'a-1,Ann Lee,"ann@lee.example, a@b.example",Lee Ltd,CTO,2024-01-15T10:30:00.000Z', "contacts",
         {"id": "attio-a-1", "email": "ann@lee.example", "title": "CTO", "createdAt": "2024-01-15T10:30:00Z"}),
        ('Record ID,Person name,Email addresses,Job title,Company name,Company domain,Company LinkedIn\n'
         'a-1,Ann Lee,ann@lee.example,CTO,Lee Ltd,lee.example,https://www.linkedin.com/company/lee', "contacts",
         {"id": "attio-a-1", "name": "Ann Lee", "email": "ann@lee.example"}),
        ('Record ID,Domains,Name,Description,Categories\na-2,"lee.example, lee2.example",Lee Ltd,x,Food', "companies",
         {"id": "attio-a-2", "website": "https://lee.example", "name": "Lee Ltd"}),
        ("Id,FirstName,LastName,Email,AccountId,CreatedDate\n003,Ann,Lee,ann@lee.example,,2024-01-15T10:30:00.000Z",
         "contacts", {"id": "salesforce-003", "name": "Ann Lee", "createdAt": "2024-01-15T10:30:00Z"}),
        ("Name,Email,User ID,Signed up (AEDT),Company name,Company ID\nAnn,ann@lee.example,u-1,2024-01-15 "
        "10:30:00,Lee,c",
         "contacts", {"id": "intercom-u-1", "companyId": "intercom-c", "createdAt": "2024-01-15T09:30:00Z"}),
        ("First name,Last name,E-mail,Company\nAnn,Lee,ann@lee.example,Lee Ltd", "contacts", {"name": "Ann Lee"}),
        # Address books of Google and Outlook.
        ("First Name,Middle Name,Last Name,Organization Name,Organization Title,E-mail 1 - Label,E-mail 1 - Value,"
         "Phone 1 - Label,Phone 1 - Value\nAnn,,Lee,Lee Ltd,CTO,Work,ann@lee.example,Mobile,+4930", "contacts",
         {"name": "Ann Lee", "email": "ann@lee.example", "phone": "+4930", "title": "CTO"}),
        ("First Name,Last Name,Company,Job Title,Business Phone,Mobile Phone,E-mail Address,E-mail Display Name\n"
         "Ann,Lee,Lee Ltd,CTO,+4930,,ann@lee.example,Ann Lee", "contacts",
         {"name": "Ann Lee", "email": "ann@lee.example", "phone": "+4930", "title": "CTO"}),
    ],
)  # fmt: skip
def test_the_header_of_a_known_program_is_recognised_and_its_map_fits(
    run_command: RunCommand, tmp_path: Path, header: str, resource: str, fields: dict[str, Any]
) -> None:
    (tmp_path / "export.csv").write_text(header, encoding="utf-8")
    hint = run_command("import", "export.csv", "--as", resource).stderr
    [program] = re.findall(r"a file of another program \(--map (\w+)\)\.", hint)

    done = run_command("import", "export.csv", "--map", program, "--day-first", *BERLIN)
    assert done.stderr.startswith(f"Stored 1 {resource}"), done.stderr
    [row] = rows_of(tmp_path, resource)
    assert {name: row[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("program", "resource", "first", "second", "changed"),
    [
        ("hubspot", "companies", "Record ID,Company name\n1,Acme", "Record ID,Industry\n1,Food\n2,Steel",
         {"hubspot-1": {"industry": "Food"}, "hubspot-2": {"name": "Company 2", "industry": "Steel"}}),
        ("hubspot", "companies", "Record ID,Company name\n1,Acme",
         "Record ID,Company name,Company Domain Name\n1,,a.example",
         {"hubspot-1": {"website": "https://a.example"}}),
        ("hubspot", "contacts", "Record ID,First Name\n1,Ann", "Record ID,Email\n1,ann@a.example\n2,bo@a.example",
         {"hubspot-1": {"email": "ann@a.example"}, "hubspot-2": {"name": "bo@a.example", "email": "bo@a.example"}}),
        ("attio", "companies", "Record ID,Name\na,Acme", "Record ID,Description\na,Ovens",
         {"attio-a": {"notes": "Ovens"}}),
        ("intercom", "contacts", "User ID,Name,Email\n1,Ann,a@a.example", "User ID,Job Title,Email\n1,CEO,a@a.example",
         {"intercom-1": {"title": "CEO"}}),
    ],
)  # fmt: skip
def test_a_name_made_of_other_columns_is_for_new_rows(
    run_command: RunCommand,
    tmp_path: Path,
    program: str,
    resource: str,
    first: str,
    second: str,
    changed: dict[str, dict[str, str]],
) -> None:
    for text in first, second, second:
        before = {row["id"]: row for row in rows_of(tmp_path, resource)} if text == second else {}
        (tmp_path / "x.csv").write_text(text, encoding="utf-8")
        done = run_command("import", "x.csv", "--map", program, "--as", resource)
        if text == second and done.stderr.startswith("Stored"):
            found = {row["id"]: row for row in rows_of(tmp_path, resource)}
            for row_id, values in changed.items():
                kept = before.get(row_id, found[row_id]) | {"updatedAt": found[row_id]["updatedAt"]}
                assert found[row_id] == kept | values
    assert done.stderr.startswith("Unchanged: "), done.stderr


def test_a_map_can_have_ids_and_constants_alone(run_command: RunCommand, tmp_path: Path) -> None:
    write_map(tmp_path, '[companies]\nid = "x-{No}"\nname = "Number {No}"\nisCustomer = true')
    (tmp_path / "x.csv").write_text("No,When\n1,2024-01-01\n", encoding="utf-8")

    assert run_command("import", "x.csv", "--map", "map.toml").stderr.startswith("Stored 1 companies.\n")
    assert rows_of(tmp_path, "companies")[0]["name"] == "Number 1"


@pytest.mark.parametrize(
    "header",
    [
        "Record ID,Deal Name,Deal Stage,Amount,Create Date,Close Date",
        "Record ID,Ticket name,Create Date,Associated Company",
        "Record ID,Last Activity Date",
        "Record ID",
    ],
)
def test_a_file_of_something_else_is_refused(run_command: RunCommand, tmp_path: Path, header: str) -> None:
    (tmp_path / "x.csv").write_text(f"{header}\n", encoding="utf-8")

    refused = run_command("import", "x.csv", "--map", "hubspot", *BERLIN).stderr
    assert re.match(
        r"Error: x.csv: The header has only ids and times of (companies|contacts): is it a file of \1\?", refused
    )
    assert refused.endswith(f"It has: {header.replace(',', ', ')}.\n")


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("05/13/2024 16:33", ("--month-first",), "2024-05-13T14:33:00Z"),
        ("05/13/2024 16:33", (), "2024-05-13T14:33:00Z"),
        ("04/05/2024 4:33 PM", ("--month-first",), "2024-04-05T14:33:00Z"),
        ("4/5/2024, 9:05", ("--day-first",), "2024-05-04T07:05:00Z"),
        ("05/05/2024", (), "2024-05-04T22:00:00Z"),
        ("13.05.2024 16:33:10", (), "2024-05-13T14:33:10Z"),
        ("04.05.2024", ("--month-first",), "2024-05-03T22:00:00Z"),
        ("2024/05/01", (), "2024-04-30T22:00:00Z"),
        ("1-5-24", ("--day-first",), "2024-04-30T22:00:00Z"),
        ("31/12/69", (), "1969-12-30T23:00:00Z"),
        ("2024-05-13 16:33 UTC", (), "2024-05-13T16:33:00Z"),
        ("2024-5-3", ("--day-first",), "2024-05-02T22:00:00Z"),
        ("04/05/2024", (), "04/05/2024 can be 2024-04-05 or 2024-05-04: choose the order"),
        (
            "05/13/2024",
            ("--day-first",),
            "05/13/2024 is not a time as in 2024-01-31 10:30 or 31/01/2024 10:30. The day is",
        ),
        ("31/31/2024", (), "as in 2024-01-31 10:30 or 31/01/2024 10:30 or 01/31/2024 10:30. The map can name more"),
        ("1/2/3/2024", (), "is not a time"),
        ("04/05-2024", (), "is not a time"),
        ("04/05/202", (), "is not a time"),
        ("04/05/2024 25:00", (), "is not a time"),
    ],
)
def test_dates_of_numbers_are_read_for_any_program(
    run_command: RunCommand, tmp_path: Path, text: str, options: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "x.csv").write_text(f'Record ID,Company name,Create Date\n1,Acme,"{text}"', encoding="utf-8")

    done = run_command("import", "x.csv", "--map", "hubspot", *BERLIN, *options)
    if expected.endswith("Z"):
        assert [row["createdAt"] for row in rows_of(tmp_path, "companies")] == [expected], done.stderr
    else:
        assert expected in done.stderr


GRAMMAR = """
dates = ["%d/%m/%Y", "%m/%d/%Y", "%d %b %Y"]
[companies]
name = ["{Firm} {Legal form}", "{Brand}", "Nameless"]
dealValue = "{Worth}"
position = "{Rank}"
isCustomer = "{Kind}"
stageId = "{Kind}"
createdBy = "import"
website = "{Site}"
notes = "{Town}, {Land}"
lastContact = "{Seen}"
values.isCustomer = {Kunde = true, "*" = false}
values.stageId = {kunde = "won", Lead = "", "*" = "other"}
[conversations]
visitorName = "{Who}"
tags = "{Labels}"
isRead = true
company.website = "{Site}"
company.name = "{Firm}"
company.create = false
"""


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("Firm,Legal form\nLee,Ltd", {"name": "Lee Ltd", "createdBy": "import"}),
        ("firm ,LEGAL FORM\n Lee ,", {"name": "Lee"}),
        ("Firm,Brand\n,Leeland", {"name": "Leeland"}),
        ("Firm,Brand,Rank\n,,7", {"name": "Nameless", "position": 7}),
        ("Firm,Firm\nLee,Other", {"name": "Lee"}),
        ("Firm,Town,Land\nLee,Rome,IT", {"notes": "Rome, IT"}),
        ("Firm,Town,Land\nLee,,", {"notes": None}),
        *[(f'Firm,Worth\nLee,"{cell}"', {"dealValue": value}) for cell, value in
          [("250,000.50", 250000.5), ("1,000", 1000), ("1500000", 1500000), ("0.5", 0.5), ("", None),
                                 ("1.234,50", 1234.5), ("12,5", 12.5), ("1.250.000,5", 1250000.5)]],
        *[(f"Firm,Kind\nLee,{cell}", {"isCustomer": is_customer, "stageId": stage}) for cell, is_customer, stage in
          [("Kunde", True, "won"), ("KUNDE", True, "won"), ("Lead", False, None), ("x", False, "other"), ("", False,
           None)]],
        *[(f"Firm,Site\nLee,{cell}", {"website": website}) for cell, website in
          [("lee.example", "https://lee.example"), ("http://lee.example/a;b", "http://lee.example/a;b"),
           ("lee.example; lee2.example", "https://lee.example")]],
        *[(f"Firm,{column}\nLee,{cell}", {"lastContact": time}) for column, cell, time in
          [("Seen", "2024-01-15 10:30", "2024-01-15T09:30:00Z"), ("Seen (UTC)", "2024-01-15 10:30",
           "2024-01-15T10:30:00Z"),
           ("Seen (America/New_York)", "2024-01-15", "2024-01-15T05:00:00Z"), ("Seen (?)", "2024-07-15",
            "2024-07-14T22:00:00Z"),
           ("Seen", "2024-01-15T10:30:00+05:00", "2024-01-15T05:30:00Z"), ("Seen", "15/01/2024",
            "2024-01-14T23:00:00Z"),
           ("Seen", "01/15/2024", "2024-01-14T23:00:00Z"), ("Seen", "04/04/2024", "2024-04-03T22:00:00Z"),
           ("Seen", "5 Jan 2024", "2024-01-04T23:00:00Z"), ("Seen", "2024-10-27 02:30", "2024-10-27T00:30:00Z"),
           ("Seen", "2024-03-31 02:30", "2024-03-31T01:30:00Z"), ("Seen", "", None)]],
        *[(f"Firm,Brand\nLee,'{cell}", {"name": "Lee"}) for cell in ("+1", "=1", "x")],
        *[(f"Firm\n{cell}", {"name": name}) for cell, name in
          [("'+1 Ltd", "+1 Ltd"), ("'=x", "=x"), ("'t Hart", "'t Hart"), ("'", "'")]],
    ],
)  # fmt: skip
def test_a_map_makes_fields_of_columns(
    run_command: RunCommand, tmp_path: Path, text: str, fields: dict[str, Any]
) -> None:
    write_map(tmp_path, GRAMMAR)
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")

    done = run_command("import", "x.csv", "--map", "map.toml", "--as", "companies", *BERLIN)
    assert done.exit_code == 0, done.stderr
    [row] = rows_of(tmp_path, "companies")
    assert {name: row[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("cell", "tags"),
    [("Billing, Refund", ["Billing", "Refund"]), ("Bug,VIP;Bug", ["Bug", "VIP"]), ('["a, b"]', ["a, b"]), ("", [])],
)
def test_tags_are_lists_and_a_constant_is_for_each_row(
    run_command: RunCommand, tmp_path: Path, cell: str, tags: list[str]
) -> None:
    write_map(tmp_path, GRAMMAR)
    (tmp_path / "x.csv").write_text(f"Who;Labels\nAnn;{json.dumps(cell) if cell else ''}".replace('\\"', '""'))

    assert run_command("import", "x.csv", "--map", "map.toml").exit_code == 0
    [row] = rows_of(tmp_path, "conversations")
    assert (row["tags"], row["isRead"]) == (tags, True)


def test_a_company_is_found_by_its_id_website_or_name_or_created(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "companies.csv").write_text(
        "id,name,website\na,Acme,https://acme.example\nb,Bé Ltd,\n", encoding="utf-8"
    )
    run_command("import", "companies.csv")
    write_map(tmp_path, '[contacts]\nname = "{N}"\ncompany.id = "{I}"\ncompany.website = "{W}"\ncompany.name = "{C}"')
    rows = [
        "1,a,,",
        "2,x,ACME.example/,",
        "3,,,BÉ LTD",
        "4,c;d,,Cee",
        "5,,c.example,Cee",
        "6,,,Dee",
        "7,,dee.example,DEE",
        "8,,,",
    ]
    (tmp_path / "people.csv").write_text("\n".join(["N,I,W,C", *rows]), encoding="utf-8")

    assert run_command("import", "people.csv", "--map", "map.toml").stderr.startswith("Stored 8 contacts, 2 companies.")
    names = {row["id"]: row["name"] for row in rows_of(tmp_path, "companies")}
    found = [row["companyId"] for row in rows_of(tmp_path)]
    assert [each and names[each] for each in found] == ["Acme", "Acme", "Bé Ltd", "Cee", "Cee", "Dee", "Dee", None]
    assert found[3] == "c"


DAY_FIRST = (
    "as in 2024-01-31 10:30 or 31/01/2024 or 31 Jan 2024. The day is expected before the month (--month-first changes "
    "that)."
)
WIDE = ",".join(f"c{number}" for number in range(20_000))
FIRST = ", ".join(WIDE.split(",")[:20])
REFUSED = [
    # In the file.
    (GRAMMAR, "Who,Site\nAnn,acme.example", (), "x.csv, line 2: companyId: There is no company with the website "
     "https://acme.example: import the companies first."),
    (GRAMMAR, "Who,Firm\nAnn,Twin", (), "x.csv, line 2: companyId: More than one company has the name Twin: t1 and t2. "
     "Make them differ, or leave the company out of the map."),
    (GRAMMAR, "Who,Firm\nAnn,Lee", (), "x.csv, line 2: companyId: There is no company with the name Lee: import the "
     "companies first."),
    (GRAMMAR, "Firm,Worth\nLee,1.234\n", (), "x.csv, line 2: dealValue: Must have at most two decimals."),
    (GRAMMAR, "Firm,Seen\nLee,soon", BERLIN, "x.csv, line 2: lastContact: soon is not a time as in "
     "2024-01-31 10:30 or 31/01/2024 or 01/31/2024 or 31 Jan 2024. The map can name more formats (dates)."),
    (GRAMMAR, "Firm,Seen\nLee,31/31/2024", (*BERLIN, "--day-first"), "x.csv, line 2: lastContact: 31/31/2024 "
     f"is not a time {DAY_FIRST}"),
    (GRAMMAR, "Firm,Seen\nLee,01/15/2024", (*BERLIN, "--day-first"), "x.csv, line 2: lastContact: 01/15/2024 "
     f"is not a time {DAY_FIRST}"),
    (GRAMMAR, "Firm,Seen\nLee,15/01/2024", (*BERLIN, "--month-first"), "x.csv, line 2: lastContact: 15/01/2024 is not "
     "a time as in 2024-01-31 10:30 or 01/31/2024 or 31 Jan 2024. The month is expected before the day (--day-first "
     "changes that)."),
    (GRAMMAR, "Firm,Seen\nLee,04/05/2024", BERLIN, "x.csv: 04/05/2024 can be 2024-04-05 or 2024-05-04: choose the "
    "order "
     "(--day-first or --month-first)."),
    (GRAMMAR, "Firm,Seen\nLee,2024-01-15 10:30", (), "x.csv: Times such as 2024-01-15 10:30 have no offset from UTC: "
     "choose a time zone (--timezone, as in Europe/Berlin)."),
    (GRAMMAR, "Firm,Rank\nLee\n", (), "x.csv, line 2: The row has 1 cells, but the header 2: add the empty cells."),
    (GRAMMAR, "Firm,Site\nLee,a b\n", (), "x.csv, line 2: website: Must be an http or https URL."),
    # In the choices.
    (GRAMMAR, "A,B\n1,2\n", (), "x.csv: The header has no column of the map. It has: A, B."),
    (GRAMMAR, "", (), "x.csv: The file is empty."),
    (GRAMMAR, f"{WIDE}\n", (), f"x.csv: The header has no column of the map. It has: {FIRST} and "
     "19980 more."),
    (GRAMMAR, "Worth\n1\n", ("--as", "companies"), None),
    ('[contacts]\nname = "{N}"\nrole = "{R}"', "R\nAnn\n", (),
     "x.csv: name: Is required, but no column of the header is mapped to it."),
    (GRAMMAR, "Who\nAnn\n", ("--timezone", "Berlin"), "x.csv: Berlin is not a time zone that this system knows. "
    "Write it as "
     "in Europe/Berlin."),
    (GRAMMAR, "Who\nAnn\n", ("--encoding", "ansi"), "x.csv: ansi is not a known text encoding. Write it as in "
     "windows-1252."),
    (GRAMMAR, "Who\nAnn\n", ("--encoding", "zlib"), "x.csv: zlib is not a known text encoding. Write it as in "
     "windows-1252."),
    (GRAMMAR, "Who\nAnn\n", ("--notes-from", "Who"), "x.csv: conversations have no notes that columns could be added "
    "to "
     "(--notes-from)."),
    (GRAMMAR, "Firm,Town\nLee,Rome\n", ("--notes-from", "Twon"), "x.csv: The header has no column Twon (--notes-from). "
     "Did you mean Town?"),
    (GRAMMAR, "Who\nAnn\n", ("--match", "email"), "x.csv: conversations can be matched by id, not by email."),
    ('[contacts]\nid = "x-{No}"\nname = "{N}"', "N\nAnn\n", (),
     "x.csv: id: The header has none of the columns No. Add one to the export, "
     "or match rows by another field (--match)."),
    ('[contacts]\nid = ["x-{No}", "x-{Nr} {Part}"]\nname = "{N}"', "N\nAnn\n", (),
     "x.csv: id: The header has none of the columns No, Nr, Part. Add one to the export, "
     "or match rows by another field (--match)."),
    # In the map.
    ("x", "N\n", (), "map.toml is not TOML: Expected '=' after a key in a key/value pair (at end of document)."),
    *[(text, "N\n", (), f"map.toml: {sentence}") for text, sentence in [
        ('contacts.nmae = "{N}"', "contacts.nmae: Is not a known key. Did you mean contacts.name?"),
        ('people.name = "{N}"', "people.name: Is not a known key. Did you mean companies.name?"),
        ("contacts = 1", "contacts: Is not a known key. Did you mean contacts.id?"),
        ("contacts.name = [1]", "contacts.name: Must be a text with {columns}, an array of such texts, true, false "
        "or a number."),
        ("contacts.name = 2024-01-15", "contacts.name: Must be a text with {columns}, an array of such texts, true, "
        "false or a "
         "number."),
        ('companies.company.name = "{N}"', "companies.company.name: Is not a known key. Did you mean "
        "contacts.company.name?"),
        ("contacts.values.name = 1", "contacts.values.name: Must be a table."),
        ('dates = "%d"', "dates: Must be an array of texts."),
        *[(f'dates = ["%d/%m/%Y", "{form}"]', f"dates: {form} is not a format that strptime of Python knows.")
          for form in ("%Q", "%-d/%m/%Y", "%d/%d/%Y", "%d/%m/%", "%G-%V")],
        ('contacts.company.create = "no"', "contacts.company.create: Must be true or false."),
        ("contacts.company.create = 0", "contacts.company.create: Must be true or false."),
        *[(deep, "Has too many nested tables or arrays.") for deep in
          (f"contacts.name = {'[' * 3000}{']' * 3000}", f"contacts.{'a.' * 3000}a = 1",
           f"a = {'{a=' * 3000}1{'}' * 3000}")],
    ]],
]  # fmt: skip


@pytest.mark.parametrize(("toml", "text", "options", "sentence"), REFUSED)
def test_the_error_says_what_is_wrong_and_nothing_is_stored(
    run_command: RunCommand, tmp_path: Path, toml: str, text: str, options: tuple[str, ...], sentence: str | None
) -> None:
    (tmp_path / "companies.csv").write_text("id,name\nt1,Twin\nt2,TWIN\n", encoding="utf-8")
    run_command("import", "companies.csv")
    write_map(tmp_path, toml)
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")

    refused = run_command("import", "x.csv", "--map", "map.toml", *options)
    assert refused.stderr.startswith(f"Error: {sentence}\n" if sentence else "Stored 1 companies."), refused.stderr
    assert refused.exit_code == (1 if sentence else 0)
    assert last_change(tmp_path) == [(2 if sentence else 3,)]


def test_rows_are_matched_by_a_field_stored_or_in_the_same_file(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "contacts.csv").write_text("id,name,email\nc-1,Ann,ANN@lee.example\n", encoding="utf-8")
    run_command("import", "contacts.csv")
    text = "name,email,title\nAnn Lee,ann@LEE.example,\nBo,bo@lee.example,CEO\nBob,BO@lee.example,CTO\nCy,,\n"
    (tmp_path / "contacts.csv").write_text(text, encoding="utf-8")

    sentences = "Stored 3 contacts.\nRows that repeat an earlier row of the file: 1. The last one counts.\n"
    assert run_command("import", "contacts.csv", "--match", "email").stderr.startswith(sentences)
    stored = {row["name"]: (row["id"], row["title"]) for row in rows_of(tmp_path)}
    assert stored["Ann Lee"] == ("c-1", None) and stored["Bob"][1] == "CTO" and set(stored) == {"Ann Lee", "Bob", "Cy"}
    before = last_change(tmp_path)
    (tmp_path / "contacts.csv").write_text(text.replace("Cy,,\n", ""), encoding="utf-8")
    run_command("import", "contacts.csv", "--match", "email")
    # Of two rows of one file that are the same person, the last one counts.
    [bob] = [row for row in rows_of(tmp_path) if row["email"] in {"bo@lee.example", "BO@lee.example"}]
    assert bob["name"] == "Bob" and last_change(tmp_path) == before


def test_two_rows_that_match_are_refused(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "companies.csv").write_text("id,name\nt1,Twin\nt2,TWIN\n", encoding="utf-8")
    run_command("import", "companies.csv")
    (tmp_path / "companies.csv").write_text("name\nNew\ntwin\n", encoding="utf-8")

    refused = run_command("import", "companies.csv", "--match", "name").stderr
    assert refused == "Error: companies.csv, line 3: name: More than one row has this name: t1 and t2.\n"
    assert last_change(tmp_path) == [(2,)]


def test_a_dry_run_shows_the_first_rows_and_stores_nothing(run_command: RunCommand, tmp_path: Path) -> None:
    shutil.copytree(EXPORTS, tmp_path, dirs_exist_ok=True)
    done = run_command("import", "hubspot-contacts.csv", *HUBSPOT, "--dry-run")

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["id"] for row in rows] == [f"hubspot-{number}" for number in range(100, 110)]
    assert rows[1]["companyId"] == "hubspot-9003"
    said = IMPORTS[1][2].replace("Stored", "Would store").replace("24 companies", "26 companies")
    assert done.stderr == f"{said}\n"
    assert done.exit_code == 0
    assert last_change(tmp_path) == [(None,)]


def test_a_dry_run_lists_every_fault_by_line_and_field(run_command: RunCommand, tmp_path: Path) -> None:
    lines = [
        "name,email,isPrimary,companyId",
        "Ann,x,maybe,",
        "Bo,bo@lee.example,,",
        ",,,",
        ",y@z.example,,",
        "Cy,,,nobody",
        'Di,"d',
    ]
    (tmp_path / "contacts.csv").write_text("\n".join(lines), encoding="utf-8")
    done = run_command("import", "contacts.csv", "--dry-run")

    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == []
    assert done.stderr.splitlines() == [
        "contacts.csv, line 2: email: Must be an e-mail address, as in jane@acme.com.",
        "contacts.csv, line 2: isPrimary: Must be true or false.",
        "contacts.csv, line 5: name: Is required.",
        "contacts.csv, line 7: A closing quotation mark is missing.",
        "Error: With these faults, nothing would be stored.",
    ]
    assert done.exit_code == 1
    (tmp_path / "contacts.csv").write_text("\n".join(lines[:-1]), encoding="utf-8")
    done = run_command("import", "contacts.csv", "--dry-run")
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["Bo"]
    assert "contacts.csv, line 6: companyId: Is not the id of a company." in done.stderr
    assert last_change(tmp_path) == [(None,)]


def test_a_text_that_a_map_cannot_convert_hides_no_other_fault_of_its_row(
    run_command: RunCommand, tmp_path: Path
) -> None:
    write_map(tmp_path, '[contacts]\nname = "{Name}"\nemail = "{Mail}"\ncreatedAt = "{Since}"\n')
    (tmp_path / "people.csv").write_text("Name,Mail,Since\n,x,soon\n", encoding="utf-8")
    done = run_command("import", "people.csv", "--map", "map.toml", "--dry-run", *BERLIN)
    assert [line.partition(": ")[2].partition(": ")[::2] for line in done.stderr.splitlines()[:3]] == [
        ("email", "Must be an e-mail address, as in jane@acme.com."),
        (
            "createdAt",
            "soon is not a time as in 2024-01-31 10:30 or 31/01/2024 10:30 or 01/31/2024 10:30. "
            "The map can name more formats (dates).",
        ),
        ("name", "Is required."),
    ]


def test_a_dry_run_ends_after_a_hundred_faults(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "contacts.csv").write_text("name,email\n" + "Ann,x\n" * 500, encoding="utf-8")
    faults = [line for line in run_command("import", "contacts.csv", "--dry-run").stderr.splitlines() if "line" in line]
    assert (len(faults), faults[-1][:23]) == (100, "contacts.csv, line 101:")


CELLS = st.none() | st.sampled_from(
    ["04/05/2024", "0001-01-01", "9999-12-31 23:59", "1,234.5", "1e999", "[[", "'+", ";", "Kunde"]
)


@given(st.lists(CELLS | st.text(max_size=12), min_size=8, max_size=8))
def test_any_text_is_parsed_or_refused(cells: list[str | None]) -> None:
    found = {"dates": tomllib.loads(GRAMMAR)["dates"], "companies": tomllib.loads(GRAMMAR)["companies"]}
    found["companies"] |= {f"values.{name}": table for name, table in found["companies"].pop("values").items()}
    header = Header(["Firm", "Legal form", "Brand", "Worth", "Rank", "Kind", "Site", "Seen"])
    options = Options(column_map=found, timezone="Europe/Berlin", day_first=True)
    convert = row_converter(RESOURCES["companies"], map_fields("companies", found["companies"], header, options), 8)
    with suppress(ValidationError):
        values = RESOURCES["companies"].load(convert(cells))
        assert values["created_by"] == "import" and values["name"]


def test_the_map_of_each_program_is_valid_and_says_where_its_columns_are_from() -> None:
    assert {"hubspot", "salesforce", "pipedrive", "intercom", "chatwoot", "zoho", "attio"} < set(presets())
    for path in FOLDER.glob("*.toml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# ") and len(text.splitlines()) < 60, path
        assert tomllib.loads(text)["name"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in readme for name in presets())


def test_a_plain_file_takes_no_options_of_maps(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("name\nAnn\n", encoding="utf-8")
    needed = "Error: people.csv: A time zone, an order of dates and columns for notes need a map (--map).\n"
    for options in BERLIN, ("--day-first",), ("--notes-from", "name"):
        assert run_command("import", "people.csv", "--as", "contacts", *options).stderr == needed
    assert run_command("import", "people.csv", "--as", "contacts").stderr.startswith("Stored 1 contacts.\n")
    assert "is a folder: --as and --map are for one file." in run_command("import", ".", "--map", "hubspot").stderr
    (tmp_path / "people.ndjson").write_text('{"name": "Bo"}\n', encoding="utf-8")
    assert run_command("import", "people.ndjson", "--as", "contacts").stderr.startswith("Stored 1 contacts.\n")
    assert (
        "A map is for CSV files, not for NDJSON." in run_command("import", "people.ndjson", "--map", "hubspot").stderr
    )
    assert "There is no map nothing.toml: name a TOML file, or one of attio," in (
        run_command("import", "people.csv", "--map", "nothing.toml").stderr
    )


@pytest.mark.parametrize(
    ("form", "text"),
    [("%d.%m.%Y %H:%M", "15.01.2024 10:30"), ("%I %p, %B %d, %Y", "10 AM, January 15, 2024"),
     ("%c", "Mon Jan 15 10:30:00 2024"), ("%G-W%V-%u", "2024-W03-1"), ("%Y%j", "2024015"),
     ("%d %b %Y %Z", "15 Jan 2024 UTC"), ("%m/%d/%y %z", "01/15/24 +0100")],
)  # fmt: skip
def test_each_format_of_times_that_strptime_knows_can_be_in_a_map(
    run_command: RunCommand, tmp_path: Path, form: str, text: str
) -> None:
    write_map(tmp_path, f'dates = ["{form}"]\n[companies]\nname = "{{N}}"\nlastContact = "{{T}}"')
    (tmp_path / "x.csv").write_text(f"N;T\nLee;{text}", encoding="utf-8")

    done = run_command("import", "x.csv", "--map", "map.toml", *BERLIN)
    assert done.exit_code == 0, done.stderr
    assert rows_of(tmp_path, "companies")[0]["lastContact"][:9] == "2024-01-1"


@pytest.mark.parametrize(
    ("resource", "header", "hint"),
    [
        ("contacts", "Name,Email", "update the rows with the same email (--match email)"),
        ("companies", "Name,Website", "update the rows with the same website or name (--match website)"),
        ("companies", "Name,Industry", "update the rows with the same name (--match name)"),
        ("contacts", "Name,Phone", "revert this import first"),
    ],
)
def test_rows_that_got_new_ids_come_with_advice_for_the_next_import(
    run_command: RunCommand, tmp_path: Path, resource: str, header: str, hint: str
) -> None:
    (tmp_path / "o.csv").write_text(f"{header}\nAnn,ann@lee.example\n", encoding="utf-8")
    command = ("import", "o.csv", "--map", "other", "--as", resource)
    advice = f"The file has no ids, so its rows get new ones: to import it again, {hint}.\n"

    assert run_command(*command, "--dry-run").stderr == f"Would store 1 {resource}.\n{advice}"
    assert f"Stored 1 {resource}.\n{advice}To undo: " in run_command(*command).stderr
    if "--match" in hint:
        again = run_command(*command, "--match", hint[hint.index("--match ") + 8 : -1]).stderr
        assert again == f"Unchanged: 1 {resource}.\n"


def test_columns_are_added_to_the_notes_by_the_names_that_are_printed(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("Name,Tag,Tag,,Tag (UTC)\nAnn,a,b,c,d\n", encoding="utf-8")
    command = ("import", "o.csv", "--map", "other", "--as", "contacts")
    names = "Tag, Tag (column 3), (column 4), Tag (UTC)"
    assert f"Left out: {names}." in run_command(*command, "--dry-run").stderr

    assert run_command(*command, *[f"--notes-from={name}" for name in names.split(", ")]).exit_code == 0
    assert rows_of(tmp_path)[0]["notes"] == "Tag: a\nTag: b\n: c\nTag (UTC): d"


def test_of_very_many_columns_left_out_the_first_are_listed(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text(f"Name,{WIDE}\nAnn{',' * 20_000}\n", encoding="utf-8")

    said = run_command("import", "o.csv", "--map", "other", "--as", "contacts").stderr
    assert f"Left out: {FIRST} and 19980 more." in said

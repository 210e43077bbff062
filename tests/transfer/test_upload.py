"""Settings → Import, without JavaScript."""

import html
import io
import re
import tracemalloc
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage

from tests.conftest import Query
from tests.pages.conftest import form_token, key, signed_in_client  # noqa: F401
from transfer.pages import MAX_BYTES

PAGE = "/settings/import"
EXPORTS = Path(__file__).parent / "exports"


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", page)).split())


def form_of(page: str) -> dict[str, Any]:
    """Return the values of a page's form, as a browser sends them."""
    form: dict[str, Any] = {
        name: html.unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page)
    }
    for name, options in re.findall(r'<select id="[^"]+" name="([^"]+)">(.*?)</select>', page, re.S):
        values = re.findall(r'<option value="([^"]*)"( selected)?>', options)
        chosen = [value for value, selected in values if selected] or [values[0][0]]
        form[name] = html.unescape(chosen[0])
    form["notes_from"] = [
        html.unescape(each) for each in re.findall(r'name="notes_from" value="([^"]*)" checked', page)
    ]
    return form


def upload(client: FlaskClient, name: str, data: bytes, **form: str) -> Any:
    """Upload a file; return the response."""
    return send_form(client, token=form_token(client), upload=FileStorage(io.BytesIO(data), filename=name), **form)


def send_form(client: FlaskClient, **form: Any) -> Any:
    """Send a form; return the response."""
    response = client.post(PAGE, data=form, content_type="multipart/form-data")
    # The test client puts a large body into a file.
    response.request.environ["wsgi.input"].close()
    return response


def send(client: FlaskClient, page: str, **changed: Any) -> Any:
    """Send the form of a page with some values changed; return the response."""
    return send_form(client, **{**form_of(page), **changed})


def test_an_export_is_previewed_and_stored_and_can_be_reverted(
    signed_in_client: FlaskClient,  # noqa: F811
    query: Query,
) -> None:
    assert "HubSpot" in text_of(signed_in_client.get(PAGE).text)
    page = upload(signed_in_client, "x.csv", (EXPORTS / "hubspot-contacts.csv").read_bytes()).text
    form = form_of(page)
    assert (form["program"], form["resource"], form["field.name"]) == (
        "hubspot",
        "contacts",
        "{First Name} {Last Name} | {Email} | Contact {Record ID}",
    )
    assert form["field.company.id"] == "hubspot-{Associated Company IDs}"
    assert "choose a time zone." in text_of(page) and "Import 30 contacts" not in text_of(page)

    page = send(
        signed_in_client, page, timezone="Europe/Berlin", **{"field.title": ""}, notes_from=["Lead Status", "Job Title"]
    ).text
    shown = text_of(page)
    assert (
        "hubspot-101 hubspot-9003 Ana O'Connor ana.oconnor@bluegmbh.example \N{EN DASH} Lead Status: OPEN_DEAL "
        "Job Title: Head of Sales false 2025-05-23T21:41:00Z" in shown
    )
    assert shown.count("hubspot-1") == 10 and "Import 30 contacts and create 26 companies" in shown
    assert query("SELECT count(*) FROM changes") == [(0,)]

    stored = send(signed_in_client, page, action="import")
    assert stored.status_code == 201
    assert "Stored 30 contacts, and created 26 companies for them." in text_of(stored.text)
    [path] = re.findall(r'href="([^"]+/revert)"', stored.text)
    assert query("SELECT count(*) FROM contacts WHERE title IS NULL AND notes LIKE '%Job Title: %'") == [(29,)]
    assert query("SELECT count(DISTINCT key_id) FROM writes WHERE key_id IS NOT NULL") == [(1,)]
    assert send(signed_in_client, page, action="import").status_code == 409
    again = text_of(send(signed_in_client, page, action="import", token=form_token(signed_in_client)).text)
    assert "Nothing has changed: the 30 contacts were the same already." in again and "Stored" not in again
    assert signed_in_client.post(path, data={"token": form["token"]}).status_code == 303
    assert query("SELECT count(*) FROM contacts") == [(0,)]


def test_columns_are_guessed_and_chosen(signed_in_client: FlaskClient, query: Query) -> None:  # noqa: F811
    page = upload(signed_in_client, "x.csv", b"Full name;E-mail;userId;Where\nAnn;ann@lee.example;u-1;Lee Ltd\n").text
    form = form_of(page)
    assert (form["program"], form["resource"]) == ("other", "contacts")
    chosen = {name: value for name, value in form.items() if str(value).startswith("{")}
    assert chosen == {"field.name": "{Full name}", "field.email": "{E-mail}", "field.userId": "{userId}"}

    page = send(signed_in_client, page, **{"field.userId": "", "field.company.name": "{Where}"}).text
    assert "Import 1 contacts and create 1 companies" in text_of(page)
    # For another resource, the columns are guessed again.
    form = form_of(send(signed_in_client, page, resource="conversations").text)
    assert form["chosen_for"] == "other conversations" and form["field.company.name"] == ""
    send(signed_in_client, page, action="import")
    assert query("SELECT c.name, o.name, user_id FROM contacts c JOIN companies o ON o.id = company_id") == [
        ("Ann", "Lee Ltd", None)
    ]


def test_columns_with_the_same_name_are_told_apart(signed_in_client: FlaskClient, query: Query) -> None:  # noqa: F811
    page = upload(signed_in_client, "x.csv", b"Full name,Tag,Tag,Tag\nAnn,a,b,c\n").text
    page = send(signed_in_client, page, **{"field.role": "{Tag (column 4)}", "notes_from": "Tag (column 3)"}).text
    form = form_of(page)
    assert (form["field.role"], form["notes_from"]) == ("{Tag (column 4)}", ["Tag (column 3)"])
    stored = text_of(send(signed_in_client, page, action="import").text)
    assert query("SELECT role, notes FROM contacts") == [("c", "Tag: b")]
    assert "Left out: Tag." in stored
    assert "The file has no ids, so its rows get new ones: to import it again, revert this import first." in stored


def test_a_very_wide_file_is_shown_in_short(signed_in_client: FlaskClient) -> None:  # noqa: F811
    names = [f"c{number}" for number in range(20_000)]
    page = upload(signed_in_client, "x.csv", f"Email,{','.join(names)}\na@b.example{',' * 20_000}\n".encode()).text
    assert "And 19701 more columns, which can't be chosen here." in text_of(page)
    page = send(signed_in_client, page, resource="conversations", **{"field.visitorEmail": "{Email}"}).text
    shown = f"Left out: {', '.join(names[:19])}, c19 and 19980 more."
    page = send(signed_in_client, page, **{"field.visitorEmail": "{Email}"}).text
    assert shown in text_of(page)
    assert shown in text_of(send(signed_in_client, page, action="import").text)


def test_a_file_of_cardfile_needs_no_choice(signed_in_client: FlaskClient, query: Query) -> None:  # noqa: F811
    page = upload(signed_in_client, "x.csv", b'id,name,notes\nx," Acme ","\'=1"\n').text
    assert (form_of(page)["program"], form_of(page)["resource"]) == ("cardfile", "companies")
    assert send(signed_in_client, page, action="import").status_code == 201
    assert query("SELECT id, name, notes FROM companies") == [("x", " Acme ", "'=1")]
    page = send(signed_in_client, page, resource="conversations").text
    assert "Unknown columns: name" in text_of(page) and 'value="import"' not in page


def test_the_encoding_and_the_order_of_dates_are_chosen(signed_in_client: FlaskClient, query: Query) -> None:  # noqa: F811
    data = (EXPORTS / "salesforce-contacts-report.csv").read_bytes()
    page = upload(signed_in_client, "x.csv", data).text
    assert "Nothing is stored while there is a fault: correct the file, or change the choices below." in text_of(page)
    assert "perhaps Windows-1252: choose that encoding, or save" in text_of(page)
    page = send(signed_in_client, page, encoding="windows-1252", timezone="Europe/Berlin").text
    assert "choose the order." in text_of(page)
    page = send(signed_in_client, page, order="month").text
    assert "The month is expected before the day. Line" in text_of(page) and "(--" not in text_of(page)
    page = send(signed_in_client, page, order="day").text
    assert send(signed_in_client, page, action="import").status_code == 201
    assert query("SELECT created_at FROM contacts WHERE name = 'Olivia Müller'") == [("2024-10-08T22:00:00Z",)]


def test_faults_are_listed_and_nothing_can_be_stored(signed_in_client: FlaskClient, query: Query) -> None:  # noqa: F811
    page = upload(signed_in_client, "x.csv", b"name,email\n<b>Ann</b>,x\nBo,\n").text
    assert "Line 2: email: Must be an e-mail address" in text_of(page)
    assert 'value="import"' not in page and "Bo" in text_of(page)
    # A form that was tampered with is refused, too.
    page = send(signed_in_client, page, action="import")
    assert page.status_code == 200 and "email: Must be an e-mail address" in text_of(page.text)
    assert query("SELECT count(*) FROM changes") == [(0,)]


@pytest.mark.parametrize(
    ("form", "status", "sentence"),
    [
        ({}, 422, "Choose a file that is not empty."),
        ({"packed": "!"}, 422, "Choose a file that is not empty."),
        ({"packed": "YWJj"}, 422, "Choose a file that is not empty."),
        ({"upload": b""}, 422, "Choose a file that is not empty."),
        ({"upload": b"x" * (MAX_BYTES + 1)}, 422, "The file is larger than 4 MiB"),
        ({"upload": b"x" * (MAX_BYTES * 2)}, 413, "The file is larger than 4 MiB"),
        ({"upload": b"\xff\xfe"}, 200, "Nothing"),
        ({"upload": b"name\nAnn", "encoding": "zlib"}, 422, "zlib is not a known text encoding."),
        ({"upload": b"name\nAnn", "program": "x", "resource": "y", "match": "z"}, 200, "can be matched by"),
        ({"upload": b"name\nAnn", "timezone": "../x", "program": "other"}, 200, "is not a time zone"),
        ({"upload": b"name\nAnn", "notes_from": "x", "program": "other"}, 200, "The header has no column x"),
        ({"upload": b'"name\nAnn'}, 422, "A closing quotation mark is missing."),
        ({"upload": b"name\0"}, 422, "The text contains NUL"),
        ({"upload": b"PK\3\4\x14\0"}, 422, "This is a workbook, not CSV: save the sheet as CSV UTF-8."),
        (
            {
                "upload": b"First Name,Last Name,Email,Job Title\nAnn,Lee,,",
                "program": "cardfile",
                "resource": "contacts",
            },
            200,
            "Perhaps it is a file of another program.",
        ),
    ],
)
def test_an_invalid_form_is_no_server_error(
    signed_in_client: FlaskClient,  # noqa: F811
    query: Query,
    form: dict[str, Any],
    status: int,
    sentence: str,
) -> None:
    data = form.pop("upload", None)
    if data is None:
        answer = signed_in_client.post(PAGE, data={"token": form_token(signed_in_client), **form})
    else:
        answer = upload(signed_in_client, "x.csv", data, action="preview", **form)
    shown = text_of(answer.text)
    assert (answer.status_code, sentence in shown or sentence == "Nothing") == (status, True), shown
    assert "(--" not in shown
    assert query("SELECT count(*) FROM changes") == [(0,)]


def test_a_small_form_that_unpacks_to_a_large_file_is_refused(signed_in_client: FlaskClient) -> None:  # noqa: F811
    packed = b64encode(zlib.compress(b"name\n" + b"x\n" * 50_000_000, 9)).decode()
    form = {"token": form_token(signed_in_client), "packed": packed}
    tracemalloc.start()
    answer = signed_in_client.post(PAGE, data=form)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()
    assert (answer.status_code, "larger than 4 MiB" in answer.text) == (422, True)


def test_an_import_needs_a_session(app: Any, signed_in_client: FlaskClient, query: Query) -> None:  # noqa: F811
    assert app.test_client().get(PAGE).status_code == 303
    assert app.test_client().post(PAGE, data={"action": "import"}).status_code == 403
    assert signed_in_client.post(PAGE, data={"action": "import"}).status_code == 403

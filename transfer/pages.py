"""Settings → Import: the upload of a file, a preview with a choice of columns, and the import.

In between, the form holds the file, compressed: any server process can continue, and none stores it.
"""

import json
import re
import zlib
from base64 import b64decode, b64encode
from io import BufferedReader, BytesIO
from typing import Any

from flask import Blueprint, abort, current_app, g, render_template, request

from api.resources import ENDPOINTS
from auth import public
from database.connection import write_transaction
from schemas import RESOURCES
from transfer.columns import Header, guess_map, time_zones
from transfer.csv_rows import decode, read_rows
from transfer.imports import Report, store_file
from transfer.maps import COLUMN, COMPANY, InvalidFile, Map, Options, presets, templates

blueprint = Blueprint("import_pages", __name__, template_folder="templates")

# Other writers wait for a few seconds while a file of this size is imported.
MAX_BYTES = 4 * 1024 * 1024
TOO_LARGE = "The file is larger than 4 MiB: use the command import, or split the file."
# The columns to choose from: each is an option in the drop-down of each field.
MAX_COLUMNS = 300
# The program whose files need no map.
OWN = "cardfile"
CHOOSE = ("", "Choose…")
ORDERS = {"day": True, "month": False}
ENCODINGS = [("", "UTF-8 or UTF-16"), ("windows-1252", "Windows-1252 (Excel, Salesforce)")]


@blueprint.before_request
def check_request() -> Any:
    """Redirect to the sign-in page, or refuse a form that is too large or not the session's."""
    # base64 makes a file that can't be compressed a third larger.
    request.max_content_length = MAX_BYTES * 3 // 2
    if (request.content_length or 0) > request.max_content_length:
        abort(413, TOO_LARGE)
    return current_app.extensions["require_session"]()


@blueprint.get("")
@public
def show_upload(problem: str = "") -> str:
    """Show the form that takes a file."""
    return render_template("import.html", problem=without_options(problem), programs=presets(), encodings=ENCODINGS)


@blueprint.post("")
@public
def import_upload() -> Any:
    """Show a preview of the import, with its choices; with the button Import, store the rows."""
    try:
        data = read_file()
        with decode(BufferedReader(BytesIO(data)), request.form.get("encoding", "")) as text:
            header = Header(next(read_rows(text), (0, []))[1])
    except InvalidFile as error:
        return show_upload(str(error)), 422
    program, resource = choose_program(header)
    fields = {} if program == OWN else choose_fields(header, program, resource)
    options = read_options(program, resource, {name: value for name, (value, _mapped) in fields.items() if value})
    g.signed_in.write_as_key()
    report, problem = Report(resource, options.dry_run), ""
    try:
        with write_transaction(keep=not options.dry_run):
            store_file(BufferedReader(BytesIO(data)), report, options, lambda: None)
    except InvalidFile as error:
        problem = without_options(f"Line {error.line}: {error}" if error.line else str(error))
    report.advice = without_options(report.advice)
    if not (options.dry_run or problem):
        return render_template("imported.html", report=report), 201
    report.faults = [(line, without_options(fault)) for line, fault in report.faults]
    choices = list_choices(program, resource, options)
    columns = dict.fromkeys(name for name in header.labels[:MAX_COLUMNS] if COLUMN.fullmatch(f"{{{name}}}"))
    page = {"report": report, "problem": problem, "choices": choices, "fields": fields, "columns": columns}
    packed = b64encode(zlib.compress(data)).decode()
    return render_template("preview.html", **page, **shown_rows(report), packed=packed, program=program)


def without_options(sentence: str) -> str:
    """Return a sentence without the options of the command in parentheses: the page has other words for them."""
    return re.sub(r" \(--[^)]*\)", "", sentence)


def shown_rows(report: Report) -> dict[str, Any]:
    """Return the rows that a dry run shows, and the names of the fields in which any of them has a value."""
    rows = [json.loads(row) for row in report.rows.values()]
    names = [name for name in ENDPOINTS[report.resource].attributes if any(row[name] not in (None, []) for row in rows)]
    return {"rows": rows, "names": names}


def read_file() -> bytes:
    """Return the file of the form: a new one, or the one that was sent back. Raises InvalidFile."""
    try:
        packed = b64decode(request.form.get("packed", ""))
        data = zlib.decompressobj().decompress(packed, MAX_BYTES + 1) if packed else request.files["upload"].read()
    except (ValueError, KeyError, zlib.error):
        data = b""
    if not data or len(data) > MAX_BYTES:
        raise InvalidFile(TOO_LARGE if data else "Choose a file that is not empty.")
    return data


def choose_program(header: Header) -> tuple[str, str]:
    """Return the program and the resource that the form names, or else those that fit the header best."""
    program, resource = request.form.get("program", ""), request.form.get("resource", "")
    names = {name.lower() for name in header.names}
    own = [name for name in RESOURCES if names <= {each.lower() for each in ENDPOINTS[name].attributes}]
    if program not in {*presets(), OWN}:
        program = OWN if own else guess_map(header, presets())[1] or "other"
    if resource not in RESOURCES:
        resource = [*own, guess_map(header, {"": presets().get(program, {})})[2] or next(iter(RESOURCES))][0]
    return program, resource


def choose_fields(header: Header, program: str, resource: str) -> dict[str, tuple[str, str]]:
    """Return the chosen templates of each field, and those of the program's map, each as one text.

    If the form was for another program or resource, or is new, the map chooses them, or else the name of a column.
    """
    table = presets()[program].get(resource, {})
    names = [name for name in ENDPOINTS[resource].attributes if name != "companyId"]
    names += [f"company.{name}" for name in COMPANY if "companyId" in ENDPOINTS[resource].attributes]
    mapped = {name: " | ".join(filter(header.has, templates(table.get(name)))) for name in names}
    if request.form.get("chosen_for") == f"{program} {resource}":
        return {name: (request.form.get(f"field.{name}", ""), mapped[name]) for name in names}
    same = {name: f"{{{name}}}" for name in names if header.find(name) is not None}
    return {name: (mapped[name] or same.get(name, ""), mapped[name]) for name in names}


def read_options(program: str, resource: str, fields: dict[str, str]) -> Options:
    """Return the options of the form, with the program's map, in which these templates replace its own."""
    found = presets().get(program, {})
    values = {name: value for name, value in found.get(resource, {}).items() if name.startswith("values.")}
    table: Map = {name: value.split(" | ") for name, value in fields.items()} | values
    return Options(
        resource=resource,
        column_map=None if program == OWN else {**found, resource: table},
        match=request.form.get("match", ""),
        timezone=request.form.get("timezone", ""),
        day_first=ORDERS.get(request.form.get("order", "")),
        notes_from=tuple(request.form.getlist("notes_from")),
        encoding=request.form.get("encoding", ""),
        dry_run=request.form.get("action") != "import",
    )


def list_choices(program: str, resource: str, options: Options) -> list[tuple[str, str, Any, str]]:
    """Return the drop-downs about the whole file: each one's name, label, values with texts, and chosen value."""
    programs = [(OWN, "Cardfile"), *((name, found["name"]) for name, found in presets().items())]
    zones, match_on = [(name, name) for name in sorted(time_zones())], ENDPOINTS[resource].match_on
    return [
        ("resource", "Rows are", [(name, name) for name in RESOURCES], resource),
        ("program", "Exported by", programs, program),
        ("match", "Update the row with the same", [(name, name) for name in match_on], options.match),
        ("timezone", "Times are in", [CHOOSE, *zones], options.timezone),
        ("order", "04/05/2024 is", [CHOOSE, ("day", "4 May"), ("month", "April 5")], request.form.get("order", "")),
        ("encoding", "Encoding", ENCODINGS, options.encoding),
    ]

"""`export` and `import`, the commands of the room transfer."""

import re
from pathlib import Path
from typing import Any

import click
from flask import g

from commands.group import open_app, print_counts, print_undo, setting_options
from formats.errors import CONTROL, escape_control
from schemas import RESOURCES


@click.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(["ndjson", "csv"]), default="ndjson", show_default=True)
@setting_options("database_url")
def export_command(folder: Path, form: str, **options: str | None) -> None:
    """Write every resource to a file in DIR, all from one snapshot."""
    from transfer.exports import export_rows

    with open_app(options, create=False, writes=False):
        print_counts("Wrote", export_rows(folder, form))


@click.command("import")
@click.argument("path", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@click.option("--as", "resource", type=click.Choice(list(RESOURCES)), help="What the rows of the file are.")
@click.option("--map", "map_name", metavar="MAP", help="hubspot, salesforce, …, or a TOML file: the columns' fields.")
@click.option("--match", metavar="FIELD", default="", help="Update the row with the same value in this field.")
@click.option("--timezone", metavar="ZONE", default="", help="Of times without an offset, as in Europe/Berlin.")
@click.option("--day-first/--month-first", default=None, help="What 04/05/2024 means.")
@click.option("--notes-from", metavar="COLUMN", multiple=True, help="Add a column to the notes; can be repeated.")
@click.option("--encoding", metavar="NAME", default="", help="As in windows-1252, if it isn't UTF-8 or UTF-16.")
@click.option("--dry-run", is_flag=True, help="Show the first rows and all that is wrong, and store nothing.")
@setting_options("database_url")
def import_command(path: Path, map_name: str | None, database_url: str | None, **chosen: Any) -> None:
    """Store the rows of a file of NDJSON or CSV, or of a folder of files; rows with a known id are updated."""
    from transfer.imports import import_rows
    from transfer.maps import InvalidFile, Options, load_map

    options = {"database_url": database_url}
    with open_app(options):
        try:
            reports = import_rows(path, Options(column_map=load_map(map_name) if map_name else None, **chosen))
        except InvalidFile as error:
            raise click.ClickException(escape_control(str(error))) from None
        print_reports(reports, chosen["dry_run"])
        if any(report.faults for report in reports):
            raise click.ClickException("With these faults, nothing would be stored.")
        print_undo(options)


def print_reports(reports: list[Any], is_dry: bool) -> None:
    """Print the rows of a dry run; to standard error its faults, or the numbers of rows, and the columns left out."""
    counts = dict[str, int]()
    for report in reports:
        for row in report.rows.values():
            # A terminal obeys control characters, of which JSON escapes only some.
            click.echo(re.sub(f"[{CONTROL}]", lambda found: f"\\u{ord(found[0]):04x}", row))
        for line, fault in report.faults:
            click.echo(escape_control(f"{report.path}, line {line}: {fault}"), err=True)
        counts[report.resource] = report.count
        if report.companies.created:
            counts["companies"] = counts.get("companies", 0) + report.companies.created
    if not any(report.faults for report in reports):
        is_unchanged = "has_written" not in g and any(counts.values())
        print_counts("Would store" if is_dry else "Unchanged:" if is_unchanged else "Stored", counts)
    for report in reports:
        if report.repeated:
            click.echo(report.repeated, err=True)
        if report.left_out:
            has_notes = "notes" in RESOURCES[report.resource].fields
            hint = " --notes-from COLUMN adds a column to the notes." if has_notes else ""
            click.echo(escape_control(f"Left out: {report.list_left_out()}.{hint}"), err=True)
        if report.advice and report.count:
            click.echo(report.advice, err=True)

"""`export` and `import`, the commands of the room transfer."""

from pathlib import Path

import click

from commands.group import open_app, print_counts, print_undo, setting_options


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
@setting_options("database_url")
def import_command(path: Path, **options: str | None) -> None:
    """Store the rows of a file of NDJSON or CSV, or of a folder of files; rows with a known id are updated."""
    from transfer.imports import InvalidFile, import_rows

    with open_app(options):
        try:
            print_counts("Stored", import_rows(path))
            print_undo(options)
        except InvalidFile as error:
            raise click.ClickException(str(error)) from None

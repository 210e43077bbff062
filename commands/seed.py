"""`seed`: demo data, or the rows of a JSON file; `demo reset`."""

import click

from commands.group import open_app, print_counts, print_undo, setting_options
from seed import count_rows, load_demo, load_file


@click.command("seed")
@click.option("--companies", type=click.IntRange(0, 1_000_000), default=50, show_default=True)
@click.option(
    "--seed", "number", type=int, default=42, show_default=True, help="The same number and day give the same data."
)
@click.option("--until", metavar="DAY", help="The last day of the two years of data.  [default: today]")
@click.option("--from", "path", type=click.Path(exists=True, dir_okay=False), help="Load this JSON file instead.")
@click.option("--reset", is_flag=True, help="Delete all companies, contacts and conversations first.")
@click.option("--yes", is_flag=True, help="Don't ask before deleting.")
@setting_options("database_url")
def seed(
    companies: int, number: int, until: str | None, path: str | None, reset: bool, yes: bool, **options: str | None
) -> None:
    """Load demo data, or the rows of a JSON file, in one transaction."""
    with open_app(options):
        counts = count_rows()
        if reset and not yes and any(counts.values()):
            rows = ", ".join(f"{count} {name}" for name, count in counts.items())
            click.confirm(f"Delete {rows}?", abort=True)
        print_counts("Loaded", load_file(path, reset) if path else load_demo(companies, number, until, reset))
        print_undo(options)


@click.group("demo")
def demo() -> None:
    """Manage demo data."""


@demo.command("reset")
@click.option("--yes", is_flag=True, help="Don't ask before deleting.")
@setting_options("database_url")
def reset_demo(yes: bool, **options: str | None) -> None:
    """Delete all companies, contacts and conversations, and load the demo data of today."""
    click.get_current_context().invoke(seed, reset=True, yes=yes, **options)

"""Progress of a command on the terminal."""

import sys
from typing import Any

import click


def progress_bar(label: str, length: int) -> Any:
    """Return a progress bar that only a terminal shows."""
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())

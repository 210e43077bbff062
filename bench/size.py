"""Measure the size of many conversations in the file, and the time to import them and to back them up."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.measure import run_command
from bench.peers import ROOT

MANY = 100_000_000


class Size(NamedTuple):
    """Conversations that were imported, the bytes and seconds that they took, and the seconds of the file's backup."""

    rows: int
    bytes: int
    import_seconds: float
    file_bytes: int
    backup_seconds: float


def measure_size(folder: Path, source: Path) -> Size:
    """Import the companies and conversations of a database into a new one by the commands, and back it up."""
    folder.mkdir()
    new = folder / "new.db"
    timed(folder, "export", "rows", "--database", f"sqlite:///{source}")
    timed(folder, "import", "rows/companies.ndjson", "--database", f"sqlite:///{new}")
    before = new.stat().st_size
    seconds = timed(folder, "import", "rows/conversations.ndjson", "--database", f"sqlite:///{new}")
    after = new.stat().st_size
    with (folder / "rows" / "conversations.ndjson").open(encoding="utf-8") as lines:
        rows = sum(1 for _line in lines)
    backup = timed(folder, "backup", "copy.db", "--database", f"sqlite:///{new}")
    return Size(rows, after - before, seconds, after, backup)


def timed(folder: Path, *command: Any) -> float:
    """Run a command of Cardfile; return the seconds that it took."""
    started = time.perf_counter()
    run_command(sys.executable, ROOT / "service.py", *command, folder=folder)
    return time.perf_counter() - started


def size_rows(sizes: Sequence[Size]) -> list[list[str]]:
    """Return the table's header and rows: measured sizes, and in proportion to the last one, 100 million."""
    *_rest, last = sizes
    file_bytes = MANY * last.bytes / last.rows
    hours = MANY * last.import_seconds / last.rows / 3600
    backup_hours = file_bytes * last.backup_seconds / last.file_bytes / 3600
    return [
        ["of conversations", *(f"{size.rows:,}" for size in sizes), f"{MANY:,} in proportion"],
        [
            "bytes of each, with indexes and log",
            *(f"{s.bytes / s.rows:,.0f}" for s in sizes),
            f"{file_bytes / 1e9:.0f} GB",
        ],
        ["imported in a second", *(f"{s.rows / s.import_seconds:,.0f}" for s in sizes), f"{hours:.0f} hours"],
        [
            "MB backed up in a second",
            *(f"{s.file_bytes / s.backup_seconds / 1e6:,.0f}" for s in sizes),
            f"{backup_hours:.1f} hours",
        ],
    ]

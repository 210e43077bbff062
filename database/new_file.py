"""Files that commands write: complete or absent, and on the disk once they have their name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from database.write_lock import WriteLockTimeout, lock_file


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Run the block with the path of an empty file, which becomes `path` at the block's end.

    A file that a killed process left unfinished is replaced. Raises WriteLockTimeout while another process writes it.
    """
    part = Path(f"{path}.part")
    with part.open("ab") as file:
        lock_file(file.fileno(), 0, f" {path}")
        # Another process may have finished the file before this one got the lock.
        if not (part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat())):
            raise WriteLockTimeout(f"Another process has just written {path}.")
        file.truncate(0)
        Path(f"{part}-journal").unlink(missing_ok=True)
        try:
            yield part
            os.fsync(file.fileno())
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def file_time() -> str:
    """Return the time for the name of a file, to the microsecond: two files of the same second have two names."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"


def sync_folder(folder: Path) -> None:
    """Write the names of a folder's files to the disk, if the system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

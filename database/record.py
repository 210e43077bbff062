"""The record of a SQLite file, kept in its lock file: what the file must contain at the next start.

It has the number of the last acknowledged change, the Dataset-Ids that the file has had, the newest last, and CUT if a
server has found the file cut. A file without a record is used unchecked.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from database.schema import UnusableDatabase
from database.sqlite import driver, is_undamaged

CUT = "cut"
LAST_CHANGE = "SELECT id, (SELECT coalesce(max(seq), 0) FROM changes) FROM dataset"


class Record:
    """The record of a file: as it was when this process started, and then of this process's writes."""

    def __init__(self, path: str) -> None:
        self.path, self.wal, self.lock = Path(path), Path(f"{os.path.realpath(path)}-wal"), Path(f"{path}.lock")
        self.seq, self.datasets, self.was_cut = 0, list[str](), False
        with suppress(OSError, ValueError):
            # write() leaves the end of a longer line.
            seq, *self.datasets = self.lock.read_text(encoding="ascii").partition("\n")[0].split()
            if self.datasets[-1:] == [CUT]:
                self.was_cut = bool(self.datasets.pop())
            # Otherwise another file was put there since.
            if self.path.stat().st_ctime_ns <= self.lock.stat().st_mtime_ns:
                self.seq = int(seq)

    def require_own_wal(self) -> None:
        """Raise UnusableDatabase if the file was cut, or the WAL beside it is of another database."""
        has_wal = self.wal.exists() and self.wal.stat().st_size > 0
        is_empty = not (self.path.exists() and self.path.stat().st_size)
        if is_empty and (has_wal or (self.path.exists() and self.lock.exists())):
            evidence = self.wal if has_wal else self.lock
            raise UnusableDatabase(
                f"{self.path} is missing or empty, but was a database, as {evidence} shows:"
                f" restore a backup, or delete {evidence} for a new database."
            )
        if has_wal and self.datasets and self.dataset_without_wal() not in {None, *self.datasets}:
            raise UnusableDatabase(
                f"{self.wal} belongs to another database than {self.path}:"
                " delete it, or put the database back that it belongs to."
            )
        # SQLite itself fills the gap by empty pages when it stores the WAL in the file.
        if self.was_cut and not is_undamaged(str(self.path)):
            raise UnusableDatabase(f"{self.path} was cut short: restore a backup.")

    def dataset_without_wal(self) -> str | None:
        """Return the Dataset-Id in the file itself, if it is there."""
        with (
            suppress(driver.Error),
            closing(driver.connect(f"{self.path.as_uri()}?immutable=1", uri=True)) as connection,
        ):
            [dataset] = connection.execute("SELECT id FROM dataset").fetchone()
            return str(dataset)
        return None

    def require_last_change(self, dataset: str, seq: int) -> None:
        """Raise UnusableDatabase if the file, now closed, lacks an acknowledged change."""
        if dataset in self.datasets[-1:] and seq < self.seq:
            # Closing the file may have changed it: the next start is to refuse it, too.
            with suppress(OSError):
                os.utime(self.lock)
            raise UnusableDatabase(
                f"{self.path} lacks the changes {seq + 1} to {self.seq}, because {self.wal} was removed or cut:"
                " put that back, restore a backup, or accept the loss by `restore` without FILE."
            )

    def write(self, lock: int, dataset: str, seq: int) -> None:
        """Write the record into the open lock file."""
        if self.datasets[-1:] != [dataset]:
            self.datasets = [*(each for each in self.datasets if each != dataset), dataset]
        self.seq = seq
        # The change is stored, also if the disk has no room for the record.
        with suppress(OSError):
            os.write(lock, f"{seq:020} {' '.join(self.datasets)}\n".encode())

    def note_cut(self) -> None:
        """Record that the file was cut: the next start checks it, unless there was a write or a restore since."""
        with suppress(OSError, ValueError):
            # As it is in the file, because other processes may have written since.
            record = self.lock.read_text(encoding="ascii").partition("\n")[0].removesuffix(f" {CUT}")
            self.lock.write_text(f"{record} {CUT}\n", encoding="ascii")

    def accept(self, dataset: str | None) -> None:
        """Record that the file has this Dataset-Id from now on, and is used unchecked until the next write.

        The file itself may still have an older one, which the WAL changes.
        """
        names = dict.fromkeys(filter(None, [*self.datasets, self.dataset_without_wal(), dataset]))
        if self.lock.exists():
            self.lock.write_text(f"{0:020} {' '.join(names)}\n", encoding="ascii")

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Run the block with an empty record, so that it uses the file unchecked; if it fails, put the record back."""
        kept = self.lock.read_bytes() if self.lock.exists() else None
        if kept is not None:
            os.truncate(self.lock, 0)
        try:
            yield
        except BaseException:
            if kept is not None:
                self.lock.write_bytes(kept)
            raise

"""The identity of the SQLite file: what a process has open is what lies at its path, and whole.

SQLite notices neither in WAL mode: it would acknowledge writes to a deleted file, and create a new one in its place.
"""

import logging
import os
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from database.record import LAST_CHANGE, Record
from database.sqlite import driver, prepare

# Bytes before the first page in a WAL, and before each (sqlite.org/fileformat2.html).
WAL_HEADER, FRAME_HEADER = 32, 24
MOVED = "{} was moved, deleted or replaced: nothing is written until it is back, or the server is restarted."
CUT = "{} was cut short: nothing is written until it is restored."
BEHIND = "{} lacks acknowledged changes: nothing is written until it is restored."

log = logging.getLogger("cardfile")


class LostFile(Exception):
    """The database's file isn't the one that was opened, or isn't whole; the message says what happened."""


class Seen(NamedTuple):
    """A file as it was: its inode, which no other file has as long as it is open, and its size."""

    inode: tuple[int, int]
    size: int


class DatabaseFile:
    """The SQLite file of the app, with the WAL and the shared memory beside it."""

    def __init__(self, path: str) -> None:
        # SQLite keeps the WAL beside the file that a link points to.
        beside = os.path.realpath(path)
        self.paths = path, f"{beside}-wal", f"{beside}-shm"
        self.record = Record(path)
        # The ids of this process's connections, and what they have open. While there are none, SQLite may delete the
        # WAL, but the file itself must stay the same.
        self.open: set[int] = set()
        self.seen = [look(path), None, None]
        self.was_opened, self.fault = False, ""

    def connect(self) -> Any:
        """Return a new connection; only the first one may create the file. Raises LostFile."""
        self.require_in_place()
        return connect(self.paths[0], "rw" if self.seen[0] else "rwc")

    def note_opened(self, connection: Any, _record: object) -> None:
        """Note which files a new connection has opened."""
        self.open.add(id(connection))
        self.was_opened, self.seen = True, [look(path) for path in self.paths]

    def note_closed(self, connection: Any, _record: object) -> None:
        """Expect another WAL once all connections are closed."""
        self.open.discard(id(connection))
        if not self.open:
            self.seen = [self.seen[0], None, None]

    def require_current(self, own: Any) -> tuple[str, int]:
        """Return the Dataset-Id and the last change, also if not committed.

        Raises LostFile unless what a connection has open lies at its path, and has every acknowledged change.
        """
        dataset, seq = own.driver.execute(LAST_CHANGE).fetchone()
        self.require_in_place(own)
        if dataset in self.record.datasets[-1:] and seq < self.record.seq:
            raise self.lost(BEHIND, self.paths[0])
        if self.fault:
            log.warning("%s is in place and whole again", self.paths[0])
        self.fault = ""
        return dataset, seq

    def require_in_place(self, own: Any = None) -> None:
        """Raise LostFile unless the files that are open, also by the own connection, lie at their paths, uncut."""
        # In this order: another thread may open the first connection meanwhile.
        seen, now = self.seen, [look(path) for path in self.paths]
        for path, old, new in zip(self.paths, seen, now, strict=True):
            if old and (new is None or new.inode != old.inode):
                if own and now[1] is None:
                    # What is in the deleted WAL would be lost with the process.
                    with suppress(driver.Error):
                        own.end()
                        own.execute("PRAGMA wal_checkpoint(PASSIVE)")
                raise self.lost(MOVED, path)
            if old and new and new.size < old.size and not self.is_whole(path):
                raise self.lost(CUT, path)
        _path, wal, shm = self.paths
        if self.was_opened and now[2] and not look(wal) and look(shm):
            # SQLite creates the WAL before the shared memory, and deletes it after that: another process has it open.
            raise self.lost(MOVED, wal)
        if own:
            self.seen = now

    def is_whole(self, shortened: str) -> bool:
        """Tell whether SQLite needs nothing of what a file was shortened by, as erasing and restoring do."""
        path, wal, _shm = self.paths
        # SQLite takes an empty file for a new database, and deletes its WAL.
        if not os.path.getsize(path):
            return False
        # By another connection, because one may have in memory what is no longer in the file.
        with suppress(driver.Error), closing(connect(path, "rw")) as own:
            prepare(own, None)
            if shortened == path:
                return bool(own.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
            [page_size] = own.execute("PRAGMA page_size").fetchone()
            _busy, frames, stored = own.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
            return bool(stored == frames or os.path.getsize(wal) >= WAL_HEADER + frames * (FRAME_HEADER + page_size))
        return False

    def has_room(self) -> bool:
        """Tell whether the WAL can grow: by SQLite's error, a quota or a limit of file size is any other."""
        wal = look(self.paths[1])
        with suppress(OSError), TemporaryFile(dir=os.path.dirname(self.paths[1]), buffering=0) as probe:
            probe.seek(wal.size if wal else 0)
            return probe.write(bytes(64 * 1024)) == 64 * 1024
        return False

    def lost(self, fault: str, path: str) -> LostFile:
        """Return the exception for a fault; it is logged once."""
        sentence = fault.format(os.path.basename(path))
        # Another thread may find it at the same time.
        known, self.fault = self.fault, sentence
        if sentence != known:
            log.error("%s: %s", os.path.dirname(path), sentence)
        return LostFile(sentence)


def look(path: str) -> Seen | None:
    """Return what is at the path."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Seen((found.st_dev, found.st_ino), found.st_size)


def connect(path: str, mode: str) -> Any:
    """Return a connection to a file that SQLite opens in this mode (sqlite.org/uri.html)."""
    return driver.connect(f"{Path(path).as_uri()}?mode={mode}", uri=True, check_same_thread=False)

"""Checks that the SQLite file that a process has open is still the one at its path, and complete.

SQLite checks neither in WAL mode: it would acknowledge writes to a deleted file, and create a new one in its place.
"""

import logging
import os
from contextlib import closing, suppress
from tempfile import TemporaryFile
from typing import Any

from database.record import LAST_CHANGE, Record
from database.sqlite import connect, driver, is_undamaged, prepare

# Bytes at the beginning of a WAL, and before each of its pages (sqlite.org/fileformat2.html).
WAL_HEADER, FRAME_HEADER = 32, 24
MOVED = "{} was moved, deleted or replaced: nothing is written until it is back, or the server is restarted."
CUT = "{} was cut short: nothing is written until it is restored."
BEHIND = "{} lacks acknowledged changes: nothing is written until it is restored."

log = logging.getLogger("cardfile")


class LostFile(Exception):
    """The file at the database's path isn't the one that was opened, or is incomplete; the message says which."""


class DatabaseFile:
    """The SQLite file of the app, with the WAL and the shared memory beside it."""

    def __init__(self, path: str) -> None:
        self.path, self.record = path, Record(path)
        # The ids of this process's connections, and the files that they have open. While there are no connections,
        # SQLite may delete the WAL, but the file itself must stay the same.
        self.open: set[int] = set()
        # No other file gets the inode of one that is open.
        self.stats = [stat_file(path), None, None]
        self.was_opened, self.fault = False, ""

    @property
    def paths(self) -> tuple[str, str, str]:
        """The paths of the file, the WAL and the shared memory, which are beside the file that a link points to now."""
        beside = os.path.realpath(self.path) if os.path.islink(self.path) else self.path
        return self.path, f"{beside}-wal", f"{beside}-shm"

    def connect(self) -> Any:
        """Return a new connection; only the first one may create the file. Raises LostFile."""
        self.require_in_place()
        return connect(self.path, "rw" if self.stats[0] else "rwc")

    def note_opened(self, connection: Any, _record: object) -> None:
        """Note which files a new connection has opened."""
        self.open.add(id(connection))
        self.was_opened, self.stats = True, [stat_file(path) for path in self.paths]

    def note_closed(self, connection: Any, _record: object) -> None:
        """Expect another WAL once all connections are closed."""
        self.open.discard(id(connection))
        if not self.open:
            self.stats = [self.stats[0], None, None]

    def require_current(self, connection: Any) -> tuple[str, int]:
        """Return the Dataset-Id and the last change, also if not committed.

        Raises LostFile unless the connection's file is the one at its path, and has every acknowledged change.
        """
        # Read before the query, because another thread may write meanwhile.
        acknowledged = self.record.seq
        dataset, seq = connection.driver.execute(LAST_CHANGE).fetchone()
        self.require_in_place(connection)
        if dataset in self.record.datasets[-1:] and seq < acknowledged:
            raise self.lost(BEHIND, self.path)
        if self.fault:
            log.warning("%s is in place and complete again", self.path)
        self.fault = ""
        return dataset, seq

    def require_in_place(self, connection: Any = None) -> None:
        """Raise LostFile unless the open files are those at their paths, and complete.

        With the connection of a write, save what would be lost, or else note the new sizes.
        """
        # In this order: another thread may open the first connection meanwhile.
        stats, paths = self.stats, self.paths
        now = [stat_file(path) for path in paths]
        for path, old, new in zip(paths, stats, now, strict=True):
            if old and not (new and os.path.samestat(old, new)):
                if connection and now[1] is None:
                    # Otherwise the content of the deleted WAL would be lost with the process.
                    with suppress(driver.Error):
                        connection.end()
                        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                raise self.lost(MOVED, path)
            if old and new and new.st_size < old.st_size and not self.is_complete(path):
                raise self.lost(CUT, path)
        _path, wal, shm = paths
        if self.was_opened and now[2] and not stat_file(wal) and stat_file(shm):
            # SQLite creates the WAL before the shared memory, and deletes it after that: another process has it open.
            raise self.lost(MOVED, wal)
        if connection:
            self.stats = now

    def is_complete(self, shortened: str) -> bool:
        """Tell whether a file that became shorter is complete, as after `forget` and `restore`."""
        path, wal, _shm = self.paths
        # SQLite takes an empty file for a new database, and deletes its WAL.
        if not os.path.getsize(path):
            return False
        if shortened == path:
            return is_undamaged(path)
        with suppress(driver.Error), closing(connect(path, "rw")) as connection:
            prepare(connection, None)
            [page_size] = connection.execute("PRAGMA page_size").fetchone()
            _busy, frames, stored = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
            return bool(stored == frames or os.path.getsize(wal) >= WAL_HEADER + frames * (FRAME_HEADER + page_size))
        return False

    def has_room(self) -> bool:
        """Tell whether the WAL can grow: for a quota or a limit of file size, SQLite only reports an I/O error."""
        wal = stat_file(self.paths[1])
        with suppress(OSError), TemporaryFile(dir=os.path.dirname(self.paths[1]), buffering=0) as probe:
            probe.seek(wal.st_size if wal else 0)
            return probe.write(bytes(64 * 1024)) == 64 * 1024
        return False

    def lost(self, fault: str, path: str) -> LostFile:
        """Return the exception for a fault; it is logged once."""
        sentence = fault.format(os.path.basename(path))
        # Another thread may find it at the same time.
        known, self.fault = self.fault, sentence
        if sentence != known:
            log.error("%s: %s", os.path.dirname(path), sentence)
            if fault == CUT and path == self.path:
                self.record.note_cut()
        return LostFile(sentence)


def stat_file(path: str) -> os.stat_result | None:
    """Return the status of the file at a path, or None without one."""
    with suppress(OSError):
        return os.stat(path)
    return None

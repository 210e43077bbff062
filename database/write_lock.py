"""The lock that writers hold: SQLite's busy handler has no order, so that one writer of many may wait for seconds."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from database.slots import Slots

try:
    import fcntl
except ImportError:
    # Windows, where no server has several processes.
    fcntl = None  # type: ignore[assignment]

# Less than SQLite's busy timeout, so that requests behind a blocked writer fail no later than it does.
MAX_WAIT_SECONDS = 4.0
POLL_SECONDS = 0.0005


class WriteLockTimeout(Exception):
    """Other writers hold the lock for too long."""


class WriteLock:
    """A lock for the writers of this process and, with the path of a lock file, of other processes.

    At most `waiting` writers wait for a slow one, such as another program; the others are refused at once.
    """

    def __init__(self, path: str | Path | None = None, waiting: int = 1) -> None:
        self.path, self.lock, self.slots = path, threading.Lock(), Slots(waiting, patience=0.5)

    @contextmanager
    def hold(self) -> Iterator[int | None]:
        """Run the block while no other writer does, with the lock file's descriptor. Raises WriteLockTimeout."""
        deadline, descriptor = time.monotonic() + MAX_WAIT_SECONDS, None
        with ExitStack() as stack:
            if not self.slots.acquire():
                raise WriteLockTimeout("Other requests are waiting to write.")
            stack.callback(self.slots.release)
            if not self.lock.acquire(timeout=MAX_WAIT_SECONDS):
                raise WriteLockTimeout("Other requests are writing.")
            stack.callback(self.lock.release)
            # OSError: the file can't be created or locked. Then SQLite's own lock lets one writer in at a time.
            with suppress(OSError):
                if self.path is not None:
                    descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
                    # Closing the file unlocks it, and so does the end of the process.
                    stack.callback(os.close, descriptor)
                    lock_file(descriptor, deadline)
            yield descriptor


def lock_file(descriptor: int, deadline: float, name: str = "") -> None:
    """Lock a file for this process. Raises WriteLockTimeout."""
    while fcntl:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise WriteLockTimeout(f"Another process is writing{name}.") from None
            time.sleep(POLL_SECONDS)

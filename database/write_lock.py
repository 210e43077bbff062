"""Writers take turns: SQLite's own waiting has no order, so that one writer of many may wait for seconds."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Less than SQLite's busy timeout: while another program writes, all waiting requests give up at about the same time.
MAX_WAIT_SECONDS = 4.0
POLL_SECONDS = 0.0005


class WriteLockTimeout(Exception):
    """Other writers hold the lock for too long."""


class WriteLock:
    """A lock of this process's writers and, with the path of a file, of those of other processes."""

    def __init__(self, path: str | None = None) -> None:
        self.path, self.lock = path, threading.Lock()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Run the block while no other writer does. Raises WriteLockTimeout."""
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        if not self.lock.acquire(timeout=MAX_WAIT_SECONDS):
            raise WriteLockTimeout
        try:
            if self.path is None:
                yield
            else:
                with lock_file(self.path, deadline):
                    yield
        finally:
            self.lock.release()


@contextmanager
def lock_file(path: str, deadline: float) -> Iterator[None]:
    """Run the block while this process has the file locked; the system unlocks it if the process dies."""
    # Imported here because Windows has no fcntl, and no several processes of one server.
    import fcntl

    with open(path, "ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WriteLockTimeout from None
                time.sleep(POLL_SECONDS)
        yield

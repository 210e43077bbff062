"""Requests that take long may hold some of the server's threads, but not all."""

import threading
import time


class Slots:
    """So many slots; `patience` is in seconds."""

    def __init__(self, count: int, patience: float) -> None:
        self.count, self.patience, self.taken, self.last_change = max(1, count), patience, 0, 0.0
        self.change = threading.Condition()

    def acquire(self) -> bool:
        """Take a slot, after others have freed theirs; return False when none was taken or freed for `patience`."""
        with self.change:
            while self.taken == self.count:
                seconds = self.last_change + self.patience - time.monotonic()
                if seconds <= 0:
                    return False
                self.change.wait(seconds)
            self.taken += 1
            self.last_change = time.monotonic()
            return True

    def release(self) -> None:
        """Free a slot."""
        with self.change:
            self.taken -= 1
            self.last_change = time.monotonic()
            self.change.notify()

"""A limit for requests that take long: they may hold some of the server's threads, but not all."""

import threading
import time


class Slots:
    """A semaphore of `count` slots, whose acquire() waits only while slots are released within `patience` seconds."""

    def __init__(self, count: int, patience: float) -> None:
        self.count, self.patience, self.taken, self.last_taken = max(1, count), patience, 0, 0.0
        self.change = threading.Condition()

    def acquire(self) -> bool:
        """Take a slot, or wait for one; return False once none was taken for `patience` seconds."""
        with self.change:
            while self.taken == self.count:
                seconds = self.last_taken + self.patience - time.monotonic()
                if seconds <= 0:
                    return False
                self.change.wait(seconds)
            self.taken += 1
            self.last_taken = time.monotonic()
            return True

    def release(self) -> None:
        """Release a slot."""
        with self.change:
            self.taken -= 1
            self.change.notify()

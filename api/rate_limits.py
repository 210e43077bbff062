"""Rate limits: how many requests of a client are allowed in a window of time."""

import threading
from collections import OrderedDict
from math import ceil
from time import monotonic


class TooManyRequests(Exception):
    """The client has used up its requests; `seconds` is the time until it may send more."""

    def __init__(self, what: str, seconds: int) -> None:
        super().__init__(f"Too many {what}: try again in {seconds} seconds.")
        self.seconds = seconds


class RateLimit:
    """Counts requests by client, in windows: each begins with the client's first request after the one before."""

    def __init__(self, quota: int, seconds: int) -> None:
        self.quota, self.seconds = quota, seconds
        # The end of each client's window and its requests, in order of the ends.
        self.windows: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.lock = threading.Lock()

    def count(self, client: str) -> tuple[int, int]:
        """Count a request; return how many more are allowed, -1 if this one isn't, and the window's seconds left."""
        # Setting the system clock locks nobody out.
        time = monotonic()
        with self.lock:
            while self.windows and next(iter(self.windows.values()))[0] <= time:
                self.windows.popitem(last=False)
            end, requests = self.windows.get(client, (time + self.seconds, 0))
            requests = min(requests, self.quota) + 1
            self.windows[client] = end, requests
        return self.quota - requests, ceil(end - time)

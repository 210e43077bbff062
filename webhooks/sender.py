"""The thread that polls for webhooks with changes to send, and starts a delivery for each."""

import logging
import threading
import time
from datetime import datetime, timedelta

from flask import Flask, Response, g, request

from database.columns import from_driver
from database.connection import discard_connections
from database.identity import LostFile
from settings import Settings
from webhooks.client import MAX_RETRY_SECONDS
from webhooks.delivery import LEASE_SECONDS, MAX_JITTER, Delivery
from webhooks.outbox import Due, find_due, steady_now
from webhooks.signing import Vault

# The seconds between polls: at most, and at least even if requests write all the time.
POLL_SECONDS, PAUSE_SECONDS = 1.0, 0.02
# The pause before a message, in seconds, if a request wrote since the message before: sending slows writes.
AFTER_WRITE_SECONDS = 0.01
# At a stop: the seconds until requests in progress are aborted, then until threads are left to end with the process.
# Granian kills after 8 seconds.
STOP_SECONDS, ABORT_SECONDS = 3.0, 1.0
# No next attempt is later than this; if it is, the clock was wrong.
MAX_DELAY = timedelta(seconds=MAX_RETRY_SECONDS * (1 + MAX_JITTER) + 2)

log = logging.getLogger("cardfile")


class Sender:
    """Sends each active webhook its messages, while the process serves."""

    # How long a delivery waits for more changes before it ends: the end and another start cost two transactions.
    linger_seconds = 1.0

    def __init__(self, app: Flask, settings: Settings) -> None:
        self.app, self.settings, self.vault = app, settings, Vault(settings)
        self.change, self.writes = threading.Condition(), 0
        # At most one thread of the sender waits to write, and one pauses.
        self.writing, self.pausing = threading.Lock(), threading.Lock()
        self.thread: threading.Thread | None = None
        self.is_stopping = False
        self.running: dict[str, Delivery] = {}
        # When each lease was first read.
        self.leases: dict[str | None, float] = {}
        self.fault = ""

    def start(self) -> None:
        """Begin to send, once in each process."""
        with self.change:
            if self.thread is None and not self.is_stopping:
                self.thread = threading.Thread(target=self.poll_until_stopped, name="webhooks")
                self.thread.start()

    def stop(self) -> None:
        """Stop sending; requests in progress have a few seconds."""
        self.is_stopping = True
        self.wake()
        if self.thread:
            self.thread.join()

    def wake(self) -> None:
        """Wake the threads that wait for changes."""
        with self.change:
            self.writes += 1
            self.change.notify_all()

    def wait(self, seen: int, seconds: float) -> bool:
        """Wait for more writes than were seen; tell whether there were any."""
        with self.change:
            has_more = self.change.wait_for(lambda: self.writes > seen, seconds) and not self.is_stopping
        if has_more:
            time.sleep(PAUSE_SECONDS)
        return has_more

    def note_response(self, response: Response) -> Response:
        """Poll at once after a request that wrote. The first request of any WSGI server starts the thread."""
        if "has_written" in g:
            self.wake()
        if self.thread is None and "SERVER_SOFTWARE" in request.environ:
            self.start()
        return response

    def poll_until_stopped(self) -> None:
        """Poll each second, and after each write, until stop() or the end of the main thread."""
        while not self.is_stopping and threading.main_thread().is_alive():
            writes = self.writes
            try:
                self.poll()
            except Exception as error:
                self.note_fault(error)
            self.wait(writes, POLL_SECONDS)
        self.is_stopping = True
        self.wake()
        for seconds in STOP_SECONDS, ABORT_SECONDS:
            deadline = time.monotonic() + seconds
            for delivery in self.running.values():
                delivery.join(max(0, deadline - time.monotonic()))
            for delivery in self.running.values():
                delivery.client.abort()

    def note_fault(self, error: Exception) -> None:
        """Close connections that may be broken, log the fault unless it is the last one that was logged, and pause."""
        with self.app.app_context():
            discard_connections(error)
        if self.fault != type(error).__name__:
            self.fault = type(error).__name__
            # A lost file is in the log already.
            trace = None if isinstance(error, LostFile) else error
            log.warning("Webhooks are not sent: %s", self.fault, exc_info=trace)
        with self.change:
            self.change.wait_for(lambda: self.is_stopping, POLL_SECONDS)

    def pause_after_writes(self, seen: int) -> int:
        """Pause if there were more writes than were seen; return how many there were before the pause."""
        writes = self.writes
        if writes > seen:
            with self.pausing:
                time.sleep(AFTER_WRITE_SECONDS)
        return writes

    def poll(self) -> None:
        """Start a delivery for each webhook that is due; abort requests that take too long."""
        self.running = {webhook_id: each for webhook_id, each in self.running.items() if each.is_alive()}
        for delivery in self.running.values():
            delivery.client.abort(late=True)
        for due in self.find_due():
            if due.id not in self.running:
                delivery = Delivery(self, due)
                delivery.start()
                self.running[due.id] = delivery

    def find_due(self) -> list[Due]:
        """Return the webhooks whose messages may be sent now.

        Another process sends while its lease changes, as measured by this process's monotonic clock.
        """
        with self.app.app_context():
            found = find_due()
        now = time.monotonic()
        self.leases = {each.lease: self.leases.get(each.lease, now) for each in found}
        expired = [lease for lease, since in self.leases.items() if lease is None or now - since >= LEASE_SECONDS]
        return [each for each in found if each.lease in expired and is_time(from_driver(each.next_attempt_at))]


def is_time(next_attempt_at: datetime | None) -> bool:
    """Tell whether the time of the next attempt has come, or can't be right."""
    now = steady_now()
    return next_attempt_at is None or not now < next_attempt_at < now + MAX_DELAY

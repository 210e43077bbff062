"""A thread that sends one webhook its messages, one after the other, while this process has the webhook's lease."""

import logging
import random
import threading
import time
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from api.problems import Conflict
from database.columns import now
from formats.ids import new_id
from webhooks.client import ANSWER_SECONDS, Answer, Client
from webhooks.outbox import Due, read_messages, save, steady_now
from webhooks.signing import signed_headers

if TYPE_CHECKING:
    from webhooks.sender import Sender

# The seconds from each failed attempt to the next (Standard Webhooks 1.0.0); after the last, the webhook is disabled.
DELAYS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
MAX_JITTER = 0.1
GONE = 410
# The attempts that are shown, of each webhook.
KEPT_ATTEMPTS = 100
# The seconds after which progress is stored, and after which a delivery ends if it can't be stored.
SAVE_SECONDS, MAX_UNSAVED_SECONDS = 0.5, 20
# A lease that hasn't changed for so long has expired: its owner sends no more under it.
LEASE_SECONDS = MAX_UNSAVED_SECONDS + ANSWER_SECONDS + 5

log = logging.getLogger("cardfile")


class Delivery(threading.Thread):
    """Sends the messages in the order of the log. Progress is stored each half second, because that is a write."""

    def __init__(self, sender: "Sender", due: Due) -> None:
        super().__init__(name="webhook", daemon=True)
        self.sender, self.client = sender, Client(due.url, sender.settings)
        # The webhook as it is stored, and with the progress since.
        self.stored, self.webhook = due, due._replace(next_attempt_at=None)
        self.attempts = deque[dict[str, Any]](maxlen=KEPT_ATTEMPTS)

    def run(self) -> None:
        """Send until nothing is left, an attempt fails, the server stops, or the lease is lost."""
        try:
            if self.store(new_id()):
                self.send_all()
                self.sender.fault = ""
        except Exception as error:
            self.sender.note_fault(error)
        finally:
            self.sender.wake()

    def send_all(self) -> None:
        """Send the messages, and store the progress."""
        try:
            while self.send_page():
                pass
        except Conflict as error:
            self.disable(str(error))
        finally:
            self.client.close()
            self.save(None)

    def send_page(self) -> bool:
        """Read and send the next messages; tell whether to continue. Raises Conflict."""
        if self.is_unsaved() and not self.save(new_id()):
            return False
        writes, webhook = self.sender.writes, self.webhook
        with self.sender.app.app_context():
            page = read_messages(webhook, webhook.delivered)
        if page is None:
            return False
        messages, until = page
        keys = self.sender.vault.decrypt_all(webhook.secret, webhook.previous_secret, webhook.previous_until)
        for message in messages:
            writes = self.sender.pause_after_writes(writes)
            if self.sender.is_stopping or not self.send(*message, keys):
                return False
            if self.is_unsaved():
                return True
        self.webhook = self.webhook._replace(delivered=until)
        has_moved = until > webhook.delivered
        return not self.sender.is_stopping and (has_moved or self.sender.wait(writes, self.sender.linger_seconds))

    def is_unsaved(self) -> bool:
        """Tell whether to store the progress, and then to read the messages again: rows may have been forgotten."""
        return time.monotonic() - self.saved > SAVE_SECONDS

    def send(self, seq: int, body: bytes, keys: list[str]) -> bool:
        """Send a message; tell whether it was received."""
        message_id = f"msg_{self.webhook.dataset[:8]}_{self.webhook.id}_{seq}"
        answer = self.client.post(body, signed_headers(message_id, int(time.time()), body, keys))
        if answer.error and self.sender.is_stopping:
            # It may have been aborted: the next process sends it again.
            return False
        attempt = {"webhook_id": self.webhook.id, "seq": seq, "at": now(), "status": answer.status, "ms": answer.ms}
        self.attempts.append({**attempt, "error": answer.error, "answer": answer.text})
        if answer.error is None:
            self.webhook = self.webhook._replace(delivered=seq, failures=0)
        else:
            self.note_failure(seq, answer)
        return answer.error is None

    def note_failure(self, seq: int, answer: Answer) -> None:
        """Schedule the next attempt, or disable the webhook: after the last one, or when the receiver is gone."""
        failures = self.webhook.failures + 1
        self.webhook = self.webhook._replace(failures=failures)
        if answer.status == GONE:
            self.disable(f"The receiver answered 410 Gone to change {seq}.")
        elif failures > len(DELAYS):
            self.disable(f"Change {seq} could not be sent in {failures} attempts: {answer.error}")
        else:
            delay = max(DELAYS[failures - 1] * random.uniform(1, 1 + MAX_JITTER), answer.retry_after)  # noqa: S311
            # Rounded up to the next whole second, because times are stored without fractions.
            self.webhook = self.webhook._replace(next_attempt_at=steady_now(timedelta(seconds=delay + 1)))

    def disable(self, reason: str) -> None:
        """Disable the webhook."""
        log.warning("Webhook %s is disabled: %s", self.webhook.id, reason)
        self.webhook = self.webhook._replace(active=False, reason=reason[:500])

    def save(self, lease: str | None) -> bool:
        """Store the progress, and renew the lease, or end it by None; tell whether to continue."""
        try:
            return self.store(lease)
        except Exception as error:
            log.warning("The progress of webhook %s was not stored: %s", self.webhook.id, type(error).__name__)
            return time.monotonic() - self.saved < MAX_UNSAVED_SECONDS

    def store(self, lease: str | None) -> bool:
        """Store the progress with another lease; tell whether the webhook was still as it was stored before."""
        new = self.webhook._replace(lease=lease)
        with self.sender.writing, self.sender.app.app_context():
            is_current = save(self.stored, new, self.attempts)
        self.attempts.clear()
        self.stored, self.webhook, self.saved = new, new, time.monotonic()
        return is_current

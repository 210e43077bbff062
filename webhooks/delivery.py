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
from webhooks.outbox import Claim, Due, claim, read_messages, save, steady_now
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
        self.sender, self.due = sender, due
        self.client: Any = None
        self.attempts = deque[dict[str, Any]](maxlen=KEPT_ATTEMPTS)

    def run(self) -> None:
        """Send until nothing is left, an attempt fails, the server stops, or the lease is lost."""
        try:
            with self.sender.writing, self.sender.app.app_context():
                claimed = claim(self.due)
            if claimed:
                self.send_all(claimed)
                self.sender.fault = ""
        except Exception as error:
            self.sender.note_fault(error)
        finally:
            self.sender.wake()

    def send_all(self, claimed: Claim) -> None:
        """Send the messages of a webhook, and store the progress."""
        self.claimed = claimed
        self.progress: dict[str, Any] = {"delivered": claimed.delivered, "failures": claimed.failures}
        self.progress |= {"next_attempt_at": None, "active": True, "reason": None}
        self.client = Client(claimed.url, self.sender.settings)
        self.saved = time.monotonic()
        try:
            while self.send_page():
                pass
        except Conflict as error:
            self.disable(str(error))
        finally:
            self.client.close()
            self.save(last=True)

    def abort(self, late: bool) -> None:
        """Abort the request in progress from another thread; with `late`, only if its time is over."""
        if self.client:
            self.client.abort(late)

    def send_page(self) -> bool:
        """Read and send the next messages; tell whether to continue. Raises Conflict."""
        if self.is_unsaved() and not self.save():
            return False
        writes = self.sender.writes
        with self.sender.app.app_context():
            page = read_messages(self.claimed, self.progress["delivered"])
        if page is None:
            return False
        messages, until = page
        secrets = self.claimed.secret, self.claimed.previous_secret, self.claimed.previous_until
        keys = self.sender.vault.decrypt_all(*secrets)
        for message in messages:
            writes = self.sender.pause_after_writes(writes)
            if self.sender.is_stopping or not self.send(*message, keys):
                return False
            if self.is_unsaved():
                return True
        has_moved = until > self.progress["delivered"] or bool(messages)
        self.progress["delivered"] = until
        is_stopping = self.sender.is_stopping
        return not is_stopping and (has_moved or self.sender.wait(writes, self.sender.linger_seconds))

    def is_unsaved(self) -> bool:
        """Tell whether to store the progress, and then to read the messages again: rows may have been forgotten."""
        return time.monotonic() - self.saved > SAVE_SECONDS

    def send(self, seq: int, body: bytes, keys: list[str]) -> bool:
        """Send a message; tell whether it was received."""
        message_id = f"msg_{self.claimed.dataset[:8]}_{self.claimed.number}_{seq}"
        answer = self.client.post(body, signed_headers(message_id, int(time.time()), body, keys))
        if answer.error and self.sender.is_stopping:
            # It may have been aborted: the next process sends it again.
            return False
        attempt = {"webhook_id": self.claimed.id, "seq": seq, "at": now(), "status": answer.status, "ms": answer.ms}
        self.attempts.append({**attempt, "error": answer.error, "answer": answer.text})
        if answer.error is None:
            self.progress |= {"delivered": seq, "failures": 0}
        else:
            self.note_failure(seq, answer)
        return answer.error is None

    def note_failure(self, seq: int, answer: Answer) -> None:
        """Schedule the next attempt, or disable the webhook: after the last one, or when the receiver is gone."""
        failures = self.progress["failures"] = self.progress["failures"] + 1
        if answer.status == GONE:
            self.disable(f"The receiver answered 410 Gone to change {seq}.")
        elif failures > len(DELAYS):
            self.disable(f"Change {seq} could not be sent in {failures} attempts: {answer.error}")
        else:
            delay = max(DELAYS[failures - 1] * random.uniform(1, 1 + MAX_JITTER), answer.retry_after)  # noqa: S311
            # Rounded up to the next whole second, because times are stored without fractions.
            self.progress["next_attempt_at"] = steady_now(timedelta(seconds=delay + 1))

    def disable(self, reason: str) -> None:
        """Disable the webhook."""
        log.warning("Webhook %s is disabled: %s", self.due.id, reason)
        self.progress |= {"active": False, "reason": reason[:500]}

    def save(self, last: bool = False) -> bool:
        """Store the progress, and renew the lease, or end it; tell whether to continue."""
        new_lease = None if last else new_id()
        try:
            with self.sender.writing, self.sender.app.app_context():
                is_valid = save(self.claimed, new_lease, self.attempts, self.progress)
        except Exception as error:
            log.warning("The progress of webhook %s was not stored: %s", self.due.id, type(error).__name__)
            return time.monotonic() - self.saved < MAX_UNSAVED_SECONDS
        self.attempts.clear()
        self.claimed, self.saved = self.claimed._replace(lease=new_lease), time.monotonic()
        return is_valid

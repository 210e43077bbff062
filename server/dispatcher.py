"""Who answers what waitress has read: the thread that listens, the one that writes, or any of the others."""

import threading
import time
from collections import deque
from contextvars import Context
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ThreadedTaskDispatcher

from auth import API
from database import TakesLong, haste

# Answers that are sent together: more, and the first of them would be kept waiting.
MOST_TOGETHER = 32
# After so long in the same place of the queue, it is another program that writes.
SECONDS_IN_QUEUE = 1


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """Has short reads answered by the thread that listens, writes by one thread, and all else by any of the others.

    To hand a short read to another thread would take a third more. Writers on SQLite wait for each other in any case:
    in a queue each has its turn, where SQLite would have them ask again and again. On PostgreSQL the threads do all.
    """

    def __init__(self, threads: int, on_sqlite: bool) -> None:
        super().__init__()
        self.set_thread_count(threads)
        self.writer = ThreadedTaskDispatcher()
        self.writer.set_thread_count(1)
        self.on_sqlite = on_sqlite
        self.listener = threading.get_ident()
        # As a thread has one: the app's context that the command runs in is no request's.
        self.context = Context()
        self.taken: deque[HTTPChannel] = deque()
        self.next_writer: HTTPChannel | None = None
        self.next_since = 0.0

    def is_listener(self) -> bool:
        """Tell whether the thread that listens asks."""
        return threading.get_ident() == self.listener

    def add_task(self, task: HTTPChannel) -> None:
        """Take a connection, whose next request is to be answered."""
        request = task.requests[0]
        # What can't be read has neither a method nor a path.
        is_ours = self.on_sqlite and not request.error and request.path.startswith(f"{API}/")
        if is_ours and self.is_listener() and (request.command == "GET" or is_write(request)):
            # Not before all that was sent at once is read: only then is it known whether this client is behind.
            self.taken.append(task)
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """Stop the threads, once they have done what they are at; tell whether what waits was given up."""
        deadline = time.monotonic() + timeout
        self.writer.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, max(0, deadline - time.monotonic())))

    def work(self) -> None:
        """Answer here what is short; leave writes to their thread, and what takes long to the others."""
        tasks = [self.taken.popleft() for _each in range(min(len(self.taken), MOST_TOGETHER))]
        if tasks:
            self.part(tasks)
        self.part_queue()

    def part(self, tasks: list[HTTPChannel]) -> None:
        """Answer some of the connections' requests and send the answers together; give away the rest."""
        adjustments = tasks[0].adj
        answered = []
        # Each sending by itself may have to wake a client first.
        adjustments.send_bytes = 1 if len(tasks) == 1 else 64 * 1024
        haste.is_on = True
        try:
            for task in tasks:
                if is_behind(task):
                    super().add_task(task)
                elif is_write(task.requests[0]):
                    self.writer.add_task(task)
                elif self.answer(task):
                    answered.append(task)
                else:
                    super().add_task(task)
        finally:
            haste.is_on = False
            adjustments.send_bytes = 1
        for task in answered:
            wasyncore.write(task)

    def part_queue(self) -> None:
        """Have any thread take the writes that wait where one waits for another program: one by one they'd be late."""
        with self.writer.lock:
            queue = self.writer.queue
            first = queue[0] if queue else None
            if first is not self.next_writer:
                self.next_writer, self.next_since = first, time.monotonic()
            late = list(queue) if first and time.monotonic() - self.next_since > SECONDS_IN_QUEUE else []
            if late:
                queue.clear()
        for task in late:
            super().add_task(task)

    def answer(self, task: HTTPChannel) -> bool:
        """Answer a connection's request and return whether it could be done in haste."""
        try:
            self.context.run(task.service)
        except TakesLong:
            return False
        except Exception:
            # As waitress's own threads do: one connection's fault ends no other's.
            self.logger.exception("Exception when servicing %r", task)
        return True


def is_write(request: HTTPRequestParser) -> bool:
    """Tell whether a request may wait for others that write; a second one with its Idempotency-Key is told at once."""
    return request.command in {"POST", "PUT", "PATCH", "DELETE"} and "IDEMPOTENCY_KEY" not in request.headers


def is_behind(task: HTTPChannel) -> bool:
    """Tell whether the client asked for more before it took what it is sent, and so may have to be waited for."""
    return len(task.requests) > 1 or task.total_outbufs_len > 0


def wake(dispatcher: Dispatcher, trigger: Any) -> None:
    """Wake the thread that listens, unless it is the one that asks."""
    if not dispatcher.is_listener():
        trigger.pull_trigger()

"""Heartbeats of worker processes: one that hangs is killed, so that its server replaces it."""

import logging
import os
import signal
import time
from contextlib import suppress
from mmap import mmap

CHECK_SECONDS = 0.5
# gunicorn's default, too.
HUNG_SECONDS = 30

log = logging.getLogger("cardfile")


class Heartbeats:
    """Two numbers for each worker, in memory that the processes share: its process id, and how often it beat."""

    def __init__(self, workers: int) -> None:
        self.numbers = memoryview(mmap(-1, 16 * workers)).cast("Q")

    def beat(self, index: int) -> None:
        """Beat once, in a worker process, which does so several times in HUNG_SECONDS."""
        self.numbers[2 * index] = os.getpid()
        self.numbers[2 * index + 1] += 1

    def kill_hung_workers(self) -> None:
        """Kill each worker without a beat for HUNG_SECONDS, in an endless loop, in a thread of the main process.

        It counts its own rounds, not the time: a machine that sleeps, or a paused container, stops all processes.
        """
        seen, rounds = self.numbers.tolist(), [0] * len(self.numbers)
        while True:
            time.sleep(CHECK_SECONDS)
            for index in range(0, len(seen), 2):
                process, beats = self.numbers[index : index + 2]
                rounds[index] = rounds[index] + 1 if process and [process, beats] == seen[index : index + 2] else 0
                seen[index : index + 2] = process, beats
                if rounds[index] * CHECK_SECONDS > HUNG_SECONDS:
                    log.error("Worker %d hangs: it is killed and replaced.", index // 2 + 1)
                    self.numbers[index] = rounds[index] = 0
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)

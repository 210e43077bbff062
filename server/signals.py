"""The signals that stop a server: SIGTERM, Ctrl-C, and SIGHUP, which a terminal sends when it is closed."""

import signal
import time
from types import FrameType

# The one-file binary receives one Ctrl-C twice: from the terminal and from its parent process.
SAME_SIGNAL_SECONDS = 0.5


def catch_signals() -> list[float]:
    """Return a list that receives the times of these signals; a second Ctrl-C raises KeyboardInterrupt."""
    times: list[float] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        times.append(time.monotonic())
        if number == signal.SIGINT and times[-1] - times[0] > SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    # nohup ignores it.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handle)
    return times

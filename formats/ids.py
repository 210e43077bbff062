"""Ids: UUIDv7 (RFC 9562 §5.7), which sort in the order of their creation."""

import secrets
import threading
import time


class Clock:
    """The time as 48 bits of milliseconds and 12 bits of a fraction; each tick is later than the one before."""

    def __init__(self) -> None:
        self.last, self.lock = 0, threading.Lock()

    def tick(self) -> int:
        with self.lock:
            self.last = max(self.last + 1, time.time_ns() * 4096 // 1_000_000)
            return self.last


clock = Clock()


def new_id() -> str:
    """Return a UUIDv7 that sorts after all that this process made before (RFC 9562 §6.2, method 3)."""
    tick = clock.tick()
    bits = (tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | secrets.randbits(62)
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

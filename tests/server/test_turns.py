"""GET requests take turns: one at a time makes its response, but a slow one doesn't delay others for long."""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from server.turns import Turns


class SlowApp:
    """A WSGI app that notes how many requests it handles at once; /slow takes until `release` is set."""

    def __init__(self) -> None:
        self.active, self.most, self.release = 0, 0, threading.Event()

    def __call__(self, environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
        self.active += 1
        self.most = max(self.most, self.active)
        if environ["PATH_INFO"] == "/slow":
            assert self.release.wait(10)
        else:
            time.sleep(0.001)
        self.active -= 1
        return [b""]


def request(app: Turns, method: str, path: str = "/") -> float:
    """Send a request and return its duration in seconds."""
    started = time.monotonic()
    app({"REQUEST_METHOD": method, "PATH_INFO": path}, None)
    return time.monotonic() - started


def test_short_gets_are_handled_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.turns.MAX_WAIT_SECONDS", 10)
    app = SlowApp()
    turns = Turns(app)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _number: request(turns, "GET"), range(40)))

    assert app.most == 1


def test_a_slow_get_holds_up_neither_a_get_nor_a_post_for_long() -> None:
    app = SlowApp()
    turns = Turns(app)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(request, turns, "GET", "/slow")
        while not app.active:
            time.sleep(0.001)
        assert request(turns, "POST") < 0.5
        assert request(turns, "GET") < 0.5
        app.release.set()
        assert slow.result() > 0


def test_a_request_that_fails_gives_up_its_turn() -> None:
    def fail(_environ: Any, _start_response: Any) -> Iterable[bytes]:
        raise RuntimeError

    turns = Turns(fail)
    with pytest.raises(RuntimeError):
        request(turns, "GET")
    assert not turns.turn.locked()

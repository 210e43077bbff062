"""Requests are counted by client, in windows that begin with a client's first request."""

from collections.abc import Callable

import pytest

from api.rate_limits import RateLimit


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that lets seconds pass."""
    time = 1000.0

    def wait(seconds: float) -> None:
        nonlocal time
        time += seconds

    monkeypatch.setattr("api.rate_limits.monotonic", lambda: time)
    return wait


def test_a_window_begins_with_the_first_request(wait: Callable[[float], None]) -> None:
    limit = RateLimit(2, 60)
    rows = []
    for seconds in 0, 30.5, 0, 29, 0.5, 60, 600:
        wait(seconds)
        rows.append(limit.count("a"))

    assert rows == [(1, 60), (0, 30), (-1, 30), (-1, 1), (1, 60), (1, 60), (1, 60)]


def test_clients_are_counted_apart_and_forgotten_after_their_windows(wait: Callable[[float], None]) -> None:
    limit = RateLimit(1, 60)
    assert [limit.count(str(number))[0] for number in range(1000)] == [0] * 1000
    wait(59)
    assert limit.count("0") == (-1, 1)
    assert limit.count("late") == (0, 60)
    wait(1)
    assert limit.count("0") == (0, 60)
    assert [*limit.windows] == ["late", "0"]

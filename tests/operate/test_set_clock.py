"""A running server whose system's clock is set, by libfaketime."""

import http.client
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pages.sessions import HOME
from tests.conftest import ROOT, LiveServer, send_request
from tests.pages.conftest import SAME_ORIGIN

pytestmark = pytest.mark.tools

# With libfaketime, clock_nanosleep() fails, which Python's sleep() calls.
SHORT_LIMITS = """
import threading, time
time.sleep = threading.Event().wait
from server import listener
listener.STALLED_SECONDS = listener.IDLE_SECONDS = 2
from service import main
main()
"""
SetClock = Callable[[str], int]


class ImpatientServer(LiveServer):
    """A server with short limits for clients without progress."""

    program = (sys.executable, "-c", SHORT_LIMITS)


@pytest.fixture
def set_clock(tmp_path: Path) -> SetClock:
    """Return a function that sets the system's clock of the server to some hours from the true time."""
    return (tmp_path / "clock").write_text


@pytest.fixture(params=["waitress", "granian"])
def server(request: pytest.FixtureRequest, tmp_path: Path, set_clock: SetClock) -> Iterator[LiveServer]:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed: apt-get install faketime.")
    set_clock("+0h")
    options = {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": str(ROOT)}
    preload = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock")}
    with closing(ImpatientServer(tmp_path, "serve", "--server", request.param, **options, **preload)) as server:
        server.read_first_key()
        yield server


def post(server: LiveServer, path: str, body: str, **headers: str) -> http.client.HTTPResponse:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        response.read()
        return response


def test_stored_responses_outlive_a_clock_that_is_a_day_ahead_for_one_request(
    server: LiveServer, set_clock: SetClock
) -> None:
    def create(key: str) -> tuple[int, str | None, str | None]:
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json", "Idempotency-Key": key}
        response = post(server, "/api/v1/contacts", json.dumps({"name": key}), **headers)
        return response.status, response.headers["Idempotent-Replayed"], response.headers["Date"]

    first = create("before")
    set_clock("+25h")
    ahead = create("ahead")
    set_clock("+0h")

    assert (first[:2], ahead[:2]) == ((201, None), (201, None))
    assert first[2] and ahead[2] and first[2][:16] != ahead[2][:16]
    assert [create(key)[:2] for key in ("before", "ahead")] == [(201, "true")] * 2


def test_keys_cursors_and_the_times_of_the_feed_outlast_a_clock_that_is_set(
    server: LiveServer, set_clock: SetClock
) -> None:
    admin, expires = server.key, datetime.now(UTC) + timedelta(seconds=8)
    key = {"name": "short", "scope": "read", "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
    short = json.loads(send_request(server, "/api/v1/keys", key)[1])["key"]
    statuses, path = [], "/api/v1/contacts?limit=1"
    for number, hours in enumerate((0, 3, -3, 1)):
        set_clock(f"{hours:+}h")
        assert send_request(server, "/api/v1/contacts", {"name": str(number)})[0] == 201
        server.key = short
        statuses.append(send_request(server)[0])
        server.key = admin
        if number == 0:
            # A busy machine may take seconds for what came before.
            time.sleep(max(0, (expires - datetime.now(UTC)).total_seconds()))
    names = []
    while path:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {admin}"})
            response = connection.getresponse()
            names += [row["name"] for row in json.loads(response.read())]
            path = (response.headers["Link"] or "").partition("<")[2].partition(">")[0]
            set_clock(f"{len(names) - 2:+}h")

    assert statuses == [200, 401, 401, 401]
    assert sorted(names) == ["0", "1", "2", "3"]
    changes = json.loads(send_request(server, "/api/v1/changes")[1])
    times = [each["at"] for each in changes]
    assert times == sorted(times) and times[1] > times[0]
    assert all(each["data"]["createdAt"] <= each["data"]["updatedAt"] for each in changes)


def test_a_clock_that_is_set_back_locks_nobody_out_and_keeps_no_connection(
    server: LiveServer, set_clock: SetClock
) -> None:
    def sign_in() -> http.client.HTTPResponse:
        return post(server, f"{HOME}/sign-in", "key=wrong", **SAME_ORIGIN)

    assert [sign_in().status for _time in range(11)] == [403] * 10 + [429]
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as idle,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as unfinished,
    ):
        unfinished.sendall(b"GET /llms.txt HTTP/1.1\r\n")
        # An answer to another request: the server has seen both.
        assert sign_in().status == 429
        set_clock("-1h")
        assert int(sign_in().headers["Retry-After"]) <= 60
        assert (idle.recv(1), unfinished.recv(1)) == (b"", b"")

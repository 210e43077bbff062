"""Two servers on one database, as on two machines with PostgreSQL: one feed, no lost update, one row for one key."""

import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from typing import Any

import pytest

from tests.conftest import LiveServer

Servers = list[LiveServer]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.tools)])
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Start two servers on one database."""
    folder = tmp_path_factory.mktemp("two")
    url = request.getfixturevalue("new_database")() if request.param == "postgresql" else "sqlite:///cardfile.db"
    started: Servers = []
    try:
        for _server in range(2):
            started.append(LiveServer(folder, "serve", "--database", url))
            if not started[0].key:
                started[0].read_first_key()
            started[-1].key = started[0].key
        yield started
    finally:
        for server in started:
            server.close()


def call(server: LiveServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """Send a request; return the status, the headers and the body. Repeat it while the database is busy."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"} | headers
        connection.request(method, f"/api/v1/{path}", body and json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
    if response.status == 503:
        return call(server, method, path, body, **{name.replace("-", "_"): text for name, text in headers.items()})
    return response.status, response.headers, json.loads(text) if text else None


def in_parallel(function: Callable[[LiveServer, int], Any], servers: Servers, count: int) -> list[Any]:
    """Call the function with each server in turn and a number, in eight threads; return its results."""
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda number, server: function(server, number), range(count), cycle(servers)))


def test_the_feed_of_concurrent_writers_is_the_same_and_has_no_gap(servers: Servers) -> None:
    _status, headers, _body = call(servers[0], "GET", "companies")
    since = int(headers["Dataset-Version"])

    def write(server: LiveServer, number: int) -> tuple[str, int]:
        status, headers, row = call(server, "POST", "contacts", {"name": f"number {number}"})
        assert status == 201
        return row["id"], int(headers["Dataset-Version"])

    written = in_parallel(write, servers, 100)
    feeds = [call(server, "GET", f"changes?since={since}")[2] for server in servers]
    assert feeds[0] == feeds[1]
    assert [change["seq"] for change in feeds[0]] == list(range(since + 1, since + 101))
    assert {(change["id"], change["seq"]) for change in feeds[0]} == set(written)


def test_no_update_with_if_match_is_lost(servers: Servers) -> None:
    row = call(servers[0], "POST", "companies", {"name": "Counted"})[2]

    def increment(server: LiveServer, _number: int) -> int:
        for tries in range(1, 1000):
            _status, headers, found = call(server, "GET", f"companies/{row['id']}")
            body = {"position": found["position"] + 1}
            status = call(server, "PATCH", f"companies/{row['id']}", body, If_Match=headers["ETag"])[0]
            if status == 200:
                return tries
            assert status == 412
        raise AssertionError("Others are always faster.")

    tries = in_parallel(increment, servers, 40)
    assert sum(tries) > len(tries), "no two requests met"
    assert [call(server, "GET", f"companies/{row['id']}")[2]["position"] for server in servers] == [40, 40]


def test_each_server_reads_what_the_other_has_written(servers: Servers) -> None:
    row = call(servers[0], "POST", "contacts", {"name": "0"})[2]
    for number, server in zip(range(1, 21), cycle(servers), strict=False):
        _status, headers, _body = call(server, "PATCH", f"contacts/{row['id']}", {"name": str(number)})
        for each in servers:
            _status, seen, found = call(each, "GET", f"contacts/{row['id']}")
            assert (found["name"], seen["ETag"]) == (str(number), headers["ETag"])
            assert call(each, "GET", f"contacts?name={number}")[2] == [found]
        assert call(each, "GET", f"contacts/{row['id']}", If_None_Match=headers["ETag"])[0] == 304


def test_a_key_that_one_server_deletes_is_refused_by_the_other_at_once(servers: Servers) -> None:
    first, second = servers
    for scope in "read", "write", "admin":
        key = call(first, "POST", "keys", {"name": "short-lived", "scope": scope})[2]
        bearer = {"Authorization": f"Bearer {key['key']}"}
        assert [call(each, "GET", "contacts?limit=1", **bearer)[0] for each in servers] == [200, 200]
        assert call(first, "DELETE", f"keys/{key['id']}")[0] == 204
        assert [call(each, "GET", "contacts?limit=1", **bearer)[0] for each in (second, first)] == [401, 401]
        first, second = second, first


def test_a_request_that_both_servers_get_at_once_creates_one_row(servers: Servers) -> None:
    def create(server: LiveServer, number: int) -> tuple[str, str | None]:
        key, body = f"key-{number // 2}", {"name": f"once {number // 2}"}
        for _try in range(100):
            status, headers, row = call(server, "POST", "contacts", body, Idempotency_Key=key)
            if status != 409:
                assert status == 201
                return row["id"], headers["Idempotent-Replayed"]
        raise AssertionError("The first request never ends.")

    created = in_parallel(create, servers, 60)
    for first, second in zip(created[::2], created[1::2], strict=True):
        assert first[0] == second[0]
        assert {first[1], second[1]} == {None, "true"}
    [found] = {len(call(each, "GET", "contacts?q=once")[2]) for each in servers}
    assert found == 30

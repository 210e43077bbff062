"""Many at once, against a live server: nothing is lost, and the feed tells all of it in order."""

import http.client
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from schemas import RESOURCES
from tests.conftest import LiveServer, send_request

pytestmark = pytest.mark.databases("sqlite", "postgresql")

WRITERS = 8
COUNTS = 50
ROWS = 50


class Client:
    """A connection that stays open, with the server's key."""

    def __init__(self, server: LiveServer) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        self.statuses: list[int] = []

    def request(self, method: str, path: str, body: object = None, **headers: str) -> tuple[Any, str]:
        """Return what was answered and its ETag; note the status."""
        self.connection.request(method, f"/api/v1/{path}", body and json.dumps(body), {**self.headers, **headers})
        response = self.connection.getresponse()
        self.statuses.append(response.status)
        return json.loads(response.read() or b"null"), response.headers.get("ETag", "")


def count(client: Client, path: str) -> None:
    """Add 1 to a company's position by read, edit and PUT, until nobody came between."""
    while True:
        row, tag = client.request("GET", path)
        row["position"] += 1
        client.request("PUT", path, row, **{"If-Match": tag})
        if client.statuses[-1] == 200:
            return


def write(client: Client, number: int, counter: str) -> list[int]:
    """Make 250 writes that last: rows of its own, created, changed twice and deleted, and counts of a shared one."""
    for turn in range(ROWS):
        row, tag = client.request("POST", "contacts", {"name": f"writer {number}", "companyId": counter})
        path = f"contacts/{row['id']}"
        client.request("PATCH", path, {"title": f"turn {turn}"}, **{"If-Match": tag})
        client.request("PATCH", path, {"companyId": None})
        client.request("DELETE" if turn % 2 else "PATCH", path, None if turn % 2 else {"notes": "stays"})
        count(client, f"companies/{counter}")
    return client.statuses


def follow(client: Client, rows: dict[str, dict[str, Any]], since: int, done: threading.Event) -> int:
    """Apply the feed to the rows, while others write and until all they wrote has come; return the last number."""
    while True:
        last_round = done.is_set()
        changes, _tag = client.request("GET", f"changes?since={since}&limit=100")
        for change in changes:
            assert change["seq"] == since + 1
            since = change["seq"]
            rows[change["resource"]].pop(change["id"], None)
            if change["action"] != "deleted":
                rows[change["resource"]][change["id"]] = change["data"]
        if last_round and not changes:
            return since


def test_eight_writers_lose_nothing_while_the_feed_is_followed(
    start_server: Callable[..., LiveServer], database: str
) -> None:
    server = start_server("serve", "--database", database)
    server.read_first_key()
    rows: dict[str, dict[str, Any]] = {name: {} for name in RESOURCES}
    counter = json.loads(send_request(server, body={"name": "counter"})[1])["id"]
    done = threading.Event()
    clients = [Client(server) for _number in range(1 + WRITERS)]
    with ThreadPoolExecutor(len(clients)) as threads:
        following = threads.submit(follow, clients[0], rows, 0, done)
        writing = [threads.submit(write, client, number, counter) for number, client in enumerate(clients[1:])]
        statuses = [status for each in writing for status in each.result()]
        done.set()
        last = following.result()

    assert set(statuses) <= {200, 201, 204, 412}
    assert last == 1 + WRITERS * (4 * ROWS + COUNTS)
    assert rows["companies"][counter]["position"] == WRITERS * COUNTS
    assert len(rows["contacts"]) == WRITERS * ROWS // 2
    assert rows == {name: {row["id"]: row for row in clients[0].request("GET", name)[0]} for name in RESOURCES}
    for client in clients:
        client.connection.close()

"""Concurrent writers on a live server lose no write, and the change feed has every write in order."""

import http.client
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from schemas import RESOURCES
from tests.conftest import LiveServer, send_request

pytestmark = [pytest.mark.databases("sqlite", "postgresql"), pytest.mark.tools]

WRITERS = 8
INCREMENTS = 20
ROWS = 20


class Client:
    """An open connection that sends the server's key."""

    def __init__(self, server: LiveServer) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        self.statuses: list[int] = []

    def request(self, method: str, path: str, body: object = None, **headers: str) -> tuple[Any, str]:
        """Return the body of the response and its ETag; add its status code to `statuses`."""
        self.connection.request(method, f"/api/v1/{path}", body and json.dumps(body), {**self.headers, **headers})
        response = self.connection.getresponse()
        self.statuses.append(response.status)
        return json.loads(response.read() or b"null"), response.headers.get("ETag", "")


def increment(client: Client, path: str) -> None:
    """Add 1 to a company's position by GET and PUT with If-Match; repeat until the PUT succeeds."""
    while True:
        row, tag = client.request("GET", path)
        row["position"] += 1
        client.request("PUT", path, row, **{"If-Match": tag})
        if client.statuses[-1] == 200:
            return


def write(client: Client, number: int, counter: str) -> list[int]:
    """Make 100 writes: create, update and delete contacts, and increment the position of a shared company."""
    for turn in range(ROWS):
        row, tag = client.request("POST", "contacts", {"name": f"writer {number}", "companyId": counter})
        path = f"contacts/{row['id']}"
        client.request("PATCH", path, {"title": f"turn {turn}"}, **{"If-Match": tag})
        client.request("PATCH", path, {"companyId": None})
        client.request("DELETE" if turn % 2 else "PATCH", path, None if turn % 2 else {"notes": "stays"})
        increment(client, f"companies/{counter}")
    return client.statuses


def apply_changes(
    client: Client, rows: dict[str, dict[str, Any]], since: int, writers_are_done: threading.Event
) -> int:
    """Apply the change feed to the rows until the writers are done; return the number of the last change."""
    while True:
        last_round = writers_are_done.is_set()
        changes, _tag = client.request("GET", f"changes?since={since}&limit=100")
        for change in changes:
            assert change["seq"] == since + 1
            since = change["seq"]
            rows[change["resource"]].pop(change["id"], None)
            if change["action"] != "deleted":
                rows[change["resource"]][change["id"]] = change["data"]
        if last_round and not changes:
            return since


def test_eight_writers_lose_no_write_and_the_change_feed_has_every_write(
    start_server: Callable[..., LiveServer], database: str
) -> None:
    server = start_server("serve", "--database", database)
    server.read_first_key()
    rows: dict[str, dict[str, Any]] = {name: {} for name in RESOURCES}
    counter = json.loads(send_request(server, body={"name": "counter"})[1])["id"]
    writers_are_done = threading.Event()
    clients = [Client(server) for _number in range(1 + WRITERS)]
    with ThreadPoolExecutor(len(clients)) as threads:
        following = threads.submit(apply_changes, clients[0], rows, 0, writers_are_done)
        writing = [threads.submit(write, client, number, counter) for number, client in enumerate(clients[1:])]
        statuses = [status for each in writing for status in each.result()]
        writers_are_done.set()
        last = following.result()

    assert set(statuses) <= {200, 201, 204, 412}
    assert last == 1 + WRITERS * (4 * ROWS + INCREMENTS)
    assert rows["companies"][counter]["position"] == WRITERS * INCREMENTS
    assert len(rows["contacts"]) == WRITERS * ROWS // 2
    assert rows == {name: {row["id"]: row for row in clients[0].request("GET", name)[0]} for name in RESOURCES}
    for client in clients:
        client.connection.close()

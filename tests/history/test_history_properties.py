"""Whatever several keys and a shell write: the log has every version, and every revert can be reverted."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.conftest import Query
from tests.history.conftest import Rows, feed, key_id, revert, rows, timeless, version

pytestmark = pytest.mark.databases("sqlite", "postgresql")

IDS = "abcdef"
TEXTS = ["Ann", "ann", 'é "quoted" \\ %', "", '","id":"x"', "😀" * 3, "null"]


class Writers:
    """Several keys, and a shell, that write at random; `states` has the rows of every version that could be read."""

    def __init__(self, clients: list[FlaskClient], query: Query, seed: int) -> None:
        self.clients, self.query, self.random = clients, query, Random(seed)
        self.states: dict[int, Rows] = {0: {}}
        self.requests: list[str] = []

    def values(self, resource: str) -> dict[str, Any]:
        """Return random values of a resource's fields."""
        pick = self.random.choice
        if resource == "companies":
            amount = self.random.randrange(100_000) / 100
            return {
                "name": pick(TEXTS) or "x",
                "notes": pick(TEXTS),
                "dealValue": amount,
                "isCustomer": pick([True, False]),
            }
        company = {"companyId": pick([None, *(each["id"] for each in self.clients[0].get("/api/v1/companies").json)])}
        if resource == "contacts":
            return company | {
                "name": pick(TEXTS) or "x",
                "title": pick(TEXTS),
                "email": pick([None, "Ann@ACME.example"]),
            }
        return company | {"tags": self.random.sample(["a", '"', "é,", "null"], 2), "status": pick(["open", "closed"])}

    def write(self) -> None:
        """Write something, and note the version."""
        client, pick = self.random.choice(self.clients), self.random.choice
        resource = pick(["companies", "contacts", "conversations"])
        path = f"/api/v1/{resource}/{pick(IDS)}"
        actions: list[Callable[[], Any]] = [
            lambda: client.put(path, json=self.values(resource)),
            lambda: client.patch(path, json=self.values(resource)),
            lambda: client.delete(path),
            lambda: client.post(f"/api/v1/{resource}?matchOn=id", json=self.batch(resource)),
            lambda: client.post(f"/api/v1/{resource}", json=self.values(resource)),
            lambda: self.query(f"UPDATE {resource} SET updated_at = '2030-01-01T00:00:00Z' WHERE id < 'c'"),
            lambda: self.query("UPDATE contacts SET title = 'by a shell', company_id = NULL WHERE id > 'c'"),
            lambda: self.query("DELETE FROM companies WHERE id IN ('a', 'f')"),
            lambda: client.post("/api/v1/contacts?dryRun=true", json={"name": "nobody"}),
        ]
        response = self.random.choices(actions, [6, 6, 4, 4, 1, 1, 1, 1, 1])[0]()
        if isinstance(response, list):
            self.note("")
        elif response.status_code < 400:
            self.note(response.headers["X-Request-Id"])
        else:
            assert response.status_code == 404, response.text

    def batch(self, resource: str) -> list[dict[str, Any]]:
        """Return a batch of records, of which some may have the same id."""
        return [{"id": self.random.choice(IDS), **self.values(resource)} for _number in range(3)]

    def note(self, request_id: str) -> None:
        """Note the newest version, and the request that made it."""
        newest = version(self.clients[0])
        if newest not in self.states:
            self.requests += [request_id] if request_id else []
        self.states[newest] = rows(self.clients[0])

    def what_to_revert(self) -> dict[str, Any]:
        """Return the body of a revert: of a request, of a key, or to a version."""
        since = self.random.choice(sorted(self.states))
        key = {"keyId": key_id(self.random.choice(self.clients)), "since": since}
        return self.random.choice([{"requestId": self.random.choice(self.requests)}, key, {"to": since}])


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.tools)])
def writers(request: pytest.FixtureRequest, new_client: Callable[[str], FlaskClient], query: Query) -> Writers:
    """Return writers that have written."""
    writers = Writers([new_client("write") for _number in range(3)], query, request.param)
    for _number in range(50):
        writers.write()
    return writers


def test_every_version_has_the_rows_that_were_read_then(writers: Writers) -> None:
    client = writers.clients[0]
    rebuilt: Rows = {}
    assert len(writers.states) > 15
    for entry in feed(client, "limit=7"):
        if entry["data"]:
            rebuilt[entry["resource"], entry["id"]] = entry["data"]
        else:
            del rebuilt[entry["resource"], entry["id"]]
        if entry["seq"] in writers.states:
            assert rebuilt == writers.states[entry["seq"]]
    for at, expected in writers.states.items():
        assert rows(client, f"asOf={at}") == expected


def test_the_difference_of_two_versions_leads_from_one_to_the_other(writers: Writers) -> None:
    for _time in range(20):
        since, until = sorted(writers.random.sample(sorted(writers.states), 2))
        found = timeless(writers.states[since])
        for entry in feed(writers.clients[0], f"net=true&since={since}&until={until}&limit=5"):
            name = entry["resource"], entry["id"]
            before = found.pop(name, None)
            assert timeless({name: before or {}}) == timeless({name: entry["before"] or {}})
            assert (before is None, entry["data"] is None) == (
                entry["action"] == "created",
                entry["action"] == "deleted",
            )
            found |= timeless({name: entry["data"]}) if entry["data"] else {}
        assert found == timeless(writers.states[until])


def test_a_revert_of_a_revert_restores_the_rows(writers: Writers) -> None:
    kept = 0
    for _time in range(15):
        client, body, before = (
            writers.random.choice(writers.clients),
            writers.what_to_revert(),
            rows(writers.clients[0]),
        )
        preview = revert(client, "?dryRun=true", conflicts="overwrite", **body)
        assert rows(client) == before
        refused = revert(client, **body)
        assert refused.status_code in {200, 409, 404}, refused.text
        if refused.status_code == 409:
            assert rows(client) == before
            refused = revert(client, conflicts="overwrite", **body)
        if refused.status_code == 404:
            continue
        assert [each["id"] for each in refused.json] == [each["id"] for each in preview.json]
        if "to" in body:
            assert timeless(rows(client)) == timeless(writers.states[body["to"]])
        writers.note(refused.headers["X-Request-Id"])
        if refused.json:
            kept += 1
            again = revert(client, requestId=refused.headers["X-Request-Id"])
            assert again.status_code == 200, again.text
            writers.note(again.headers["X-Request-Id"])
        assert timeless(rows(client)) == timeless(before)
        writers.write()
    assert kept > 5
    test_every_version_has_the_rows_that_were_read_then(writers)


def test_skipped_conflicts_keep_their_changes(writers: Writers) -> None:
    client = writers.clients[0]
    for _time in range(8):
        request_id, before = writers.random.choice(writers.requests), rows(client)
        own = feed(client, f"requestId={request_id}")
        touched = {(each["resource"], each["id"]): each for each in own}
        refused = revert(client, requestId=request_id)
        if refused.status_code == 200:
            continue
        named = {tuple(each["pointer"][1:].split("/")) for each in refused.json["errors"]}
        assert named <= {*touched}
        skipped = revert(client, requestId=request_id, conflicts="skip")
        assert skipped.status_code == 200
        after = rows(client)
        changed = {(each["resource"], each["id"]) for each in skipped.json}
        assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == changed

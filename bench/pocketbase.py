"""PocketBase with the same rows, fields and indexes, and rules that require a signed-in user."""

import json
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, ClassVar

from bench.peers import BIN, Peer

ADMIN = {"identity": "admin@example.com", "password": "correct-horse"}
USER = {"identity": "user@example.com", "password": "correct-horse"}
RULES = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule"), '@request.auth.id != ""')
ID_FIELD = {
    "name": "id",
    "type": "text",
    "primaryKey": True,
    "required": True,
    "system": True,
    "min": 1,
    "max": 64,
    "pattern": "^[A-Za-z0-9._~-]+$",
    "autogeneratePattern": "[a-z0-9]{15}",
}
# Columns that are not text.
TYPES = {
    **dict.fromkeys(("deal_value", "position"), "number"),
    **dict.fromkeys(("is_customer", "is_primary", "is_read", "trust_uploads"), "bool"),
    "tags": "json",
}
INDEXES = {
    "companies": ("createdAt, id",),
    "contacts": ("createdAt, id", "companyId, createdAt, id", "email"),
    "conversations": ("createdAt, id", "companyId, createdAt, id", "status"),
}
RECORDS = "/api/collections/{}/records"
ALL = "skipTotal=1&sort=createdAt,id"


class PocketBase(Peer):
    name = "PocketBase"
    description = "compiled Go, uses both cores; all companies take 10 requests"
    paths: ClassVar[dict[str, str]] = {
        "all companies": f"{RECORDS.format('companies')}?perPage=1000&{ALL}",
        "page of 50": f"{RECORDS.format('companies')}?perPage=50&{ALL}",
        "contacts": f"{RECORDS.format('contacts')}?{ALL}&filter=(companyId=%27{{company}}%27)",
        "one company": f"{RECORDS.format('companies')}/{{company}}",
        "creates": RECORDS.format("contacts"),
    }
    requests: ClassVar[dict[str, int]] = {"all companies": 10}

    def command(self) -> list[Any]:
        return [BIN / "pocketbase", "serve", "--http", f"127.0.0.1:{self.port}", "--dir", self.folder / "data"]

    def prepare(self) -> None:
        """Create the collections and a user, copy the rows, and sign the user in."""
        superuser: list[Any] = [
            BIN / "pocketbase",
            "superuser",
            "upsert",
            *ADMIN.values(),
            "--dir",
            self.folder / "data",
        ]
        subprocess.run(superuser, check=True, capture_output=True)
        with self.run():
            token = self.sign_in("_superusers", ADMIN)
            for name in INDEXES:
                self.copy(name, token)
            user = {"email": USER["identity"], "password": USER["password"], "passwordConfirm": USER["password"]}
            self.post(RECORDS.format("users"), user, token)
            self.authorization = self.sign_in("users", USER)

    @contextmanager
    def run(self) -> Iterator[None]:
        """Run the server for the block."""
        process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _try in range(200):
                with suppress(OSError), self.get(f"http://127.0.0.1:{self.port}/api/health"):
                    break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait()

    def sign_in(self, collection: str, credentials: dict[str, str]) -> str:
        """Return a token for the user or superuser."""
        return str(self.post(f"/api/collections/{collection}/auth-with-password", credentials)["token"])

    def post(self, path: str, body: object, token: str = "") -> Any:
        """Return the JSON of a response to POST."""
        headers = {"Content-Type": "application/json", "Authorization": token}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def copy(self, name: str, token: str) -> None:
        """Create a collection and copy the table's rows into it."""
        described = self.database.execute(f"PRAGMA table_info({name})")
        columns = [row[1] for row in described if row[1] not in {"number", "id"}]
        indexes = [f"CREATE INDEX ix_{name}_{i} ON {name} ({on})" for i, on in enumerate(INDEXES[name])]
        fields = [ID_FIELD, *map(describe_field, columns)]
        collection = {"name": name, "type": "base", "fields": fields, "indexes": indexes, **RULES}
        self.post("/api/collections", collection, token)
        # PocketBase stores 0 or an empty string for null.
        empty = [0 if TYPES.get(column) == "number" else "" for column in ("id", *columns)]
        rows = [
            [default if value is None else value for default, value in zip(empty, row, strict=True)]
            for row in self.database.execute(f"SELECT id, {', '.join(columns)} FROM {name}")
        ]
        names = ", ".join(("id", *map(to_camel, columns)))
        with closing(sqlite3.connect(self.folder / "data" / "data.db", timeout=30)) as target, target:
            target.executemany(f"INSERT INTO {name} ({names}) VALUES ({', '.join('?' * len(empty))})", rows)


def describe_field(column: str) -> dict[str, Any]:
    """Return the collection's field for a column."""
    kind = TYPES.get(column, "text")
    return {"name": to_camel(column), "type": kind} | ({"max": 20_000} if kind == "text" else {})


def to_camel(column: str) -> str:
    """Return a column's name in camel case."""
    first, *rest = column.split("_")
    return first + "".join(map(str.capitalize, rest))

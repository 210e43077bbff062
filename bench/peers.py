"""What is measured: servers with the same rows, each started on a copy of them, and asked for the same work."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
WORKS = ("all companies", "a page of 50", "a company's contacts", "one company", "create a contact")
OURS = {
    "all companies": "/api/v1/companies",
    "a page of 50": "/api/v1/companies?limit=50",
    "a company's contacts": "/api/v1/contacts?companyId={company}",
    "one company": "/api/v1/companies/{company}",
    "create a contact": "/api/v1/contacts",
}


class Peer:
    """A server as a process of its own; `command` starts it, `paths` say where each work is."""

    name = ""
    paths = OURS
    # How many requests one work takes: PocketBase and Datasette have no whole lists.
    requests: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, folder: Path, source: Path, port: int, key: str) -> None:
        self.folder, self.source, self.port, self.key = folder, source, port, key
        self.company = sqlite3.connect(source).execute("SELECT id FROM companies ORDER BY created_at, id").fetchone()[0]
        folder.mkdir()
        self.prepare()

    def prepare(self) -> None:
        """Give the server its own copy of the rows."""
        shutil.copy(self.source, self.folder / "cardfile.db")

    def command(self) -> list[Any]:
        """Return the command that serves."""
        raise NotImplementedError

    @property
    def token(self) -> str:
        """Return what is sent as Authorization."""
        return f"Bearer {self.key}"

    def url(self, work: str) -> str:
        """Return where the work is asked for."""
        return f"http://127.0.0.1:{self.port}{self.paths[work].format(company=self.company)}"

    def start(self) -> float:
        """Start the server; return the seconds until its first good answer."""
        began = time.perf_counter()
        with (self.folder / "log").open("w") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            self.process = subprocess.Popen(self.command(), cwd=self.folder, env=environment, stdout=log, stderr=log)
        while True:
            with suppress(OSError), self.ask_for(self.url("one company")):
                return time.perf_counter() - began
            if self.process.poll() is not None or time.perf_counter() - began > 30:
                raise SystemExit(f"{self.name} does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.005)

    def ask_for(self, url: str) -> Any:
        """Return a good answer, to be read; raises OSError without one."""
        request = urllib.request.Request(url, headers={"Authorization": self.token})
        return urllib.request.urlopen(request, timeout=10)

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait()


class Waitress(Peer):
    name = "Cardfile, waitress"

    def command(self) -> list[Any]:
        return [sys.executable, ROOT / "service.py", "serve", "--port", str(self.port)]


class TwoWorkers(Peer):
    name = "Cardfile, Granian, two workers"

    def command(self) -> list[Any]:
        return [*Waitress.command(self), "--server", "granian", "--workers", "2"]  # type: ignore[arg-type]


class Twin(Peer):
    """A program of bench/twins, on the same tables."""

    module = ""

    def command(self) -> list[Any]:
        return [sys.executable, "-m", f"bench.twins.{self.module}", self.folder / "cardfile.db", str(self.port)]


class PlainFlask(Twin):
    name, module = "plain Flask + ORM + Schema.dump", "plain_flask"


class FastAPI(Twin):
    name, module = "FastAPI + ORM + pydantic", "fastapi_orm"


class Floor(Twin):
    name, module = "an empty Flask route", "floor"


class OurFloor(Twin):
    name, module = "the same by Cardfile's threads", "our_floor"
    paths = {"one company": OURS["one company"]}  # noqa: RUF012


class Datasette(Peer):
    """Reads only, and for everybody; its pages have at most 1,000 rows."""

    name = "Datasette (no keys, reads only)"
    paths = {  # noqa: RUF012
        "all companies": "/cardfile/companies.json?_shape=array&_size=1000&_sort=created_at",
        "a page of 50": "/cardfile/companies.json?_shape=array&_size=50&_sort=created_at",
        "a company's contacts": "/cardfile/contacts.json?_shape=array&_sort=created_at&company_id={company}",
        "one company": "/cardfile/companies.json?_shape=array&id={company}",
    }
    requests = {"all companies": 10}  # noqa: RUF012

    def command(self) -> list[Any]:
        settings = ["--setting", "max_returned_rows", "1000", "--setting", "facet_time_limit_ms", "1"]
        return [BIN / "datasette", "cardfile.db", "--port", str(self.port), *settings]


class PocketBase(Peer):
    """A compiled program with SQLite inside, its rules asking for a signed-in user."""

    name = "PocketBase"
    paths = {  # noqa: RUF012
        "all companies": "/api/collections/companies/records?perPage=1000&skipTotal=1&sort=createdAt,id",
        "a page of 50": "/api/collections/companies/records?perPage=50&skipTotal=1&sort=createdAt,id",
        "a company's contacts": "/api/collections/contacts/records?skipTotal=1&sort=createdAt,id"
        "&filter=(companyId=%27{company}%27)",
        "one company": "/api/collections/companies/records/{company}",
        "create a contact": "/api/collections/contacts/records",
    }
    requests = {"all companies": 10}  # noqa: RUF012
    jwt = ""
    kinds = {  # noqa: RUF012
        **dict.fromkeys(("deal_value", "position"), "number"),
        **dict.fromkeys(("is_customer", "is_primary", "is_read", "trust_uploads"), "bool"),
        "tags": "json",
    }
    indexed = {  # noqa: RUF012
        "companies": ("createdAt, id",),
        "contacts": ("createdAt, id", "companyId, createdAt, id", "email"),
        "conversations": ("createdAt, id", "companyId, createdAt, id", "status"),
    }

    @property
    def token(self) -> str:
        return self.jwt

    def command(self) -> list[Any]:
        return [BIN / "pocketbase", "serve", "--http", f"127.0.0.1:{self.port}", "--dir", self.folder / "data"]

    def prepare(self) -> None:
        """Make collections of the same fields and indexes, and a user; copy the rows in."""
        admin = {"identity": "admin@example.com", "password": "correct-horse"}
        superuser = [BIN / "pocketbase", "superuser", "upsert", *admin.values(), "--dir", self.folder / "data"]
        subprocess.run(superuser, check=True, capture_output=True)
        process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(2)
            signed_in = self.ask("/api/collections/_superusers/auth-with-password", admin)
            with sqlite3.connect(self.source) as rows:
                for name in self.indexed:
                    self.copy(name, rows, signed_in["token"])
            user = {"email": "user@example.com", "password": "correct-horse", "passwordConfirm": "correct-horse"}
            self.ask("/api/collections/users/records", user, signed_in["token"])
            given = {"identity": user["email"], "password": user["password"]}
            self.jwt = self.ask("/api/collections/users/auth-with-password", given)["token"]
        finally:
            process.terminate()
            process.wait()

    def ask(self, path: str, body: object, token: str = "") -> Any:
        """Return what is answered to a POST."""
        headers = {"Content-Type": "application/json", "Authorization": token}
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
            return json.load(answer)

    def copy(self, name: str, source: sqlite3.Connection, token: str) -> None:
        """Make a collection and fill it."""
        columns = [row[1] for row in source.execute(f"PRAGMA table_info({name})") if row[1] not in {"number", "id"}]
        public = [first + "".join(map(str.capitalize, rest)) for first, *rest in (each.split("_") for each in columns)]
        fields: list[dict[str, Any]] = [
            {"name": "id", "type": "text", "primaryKey": True, "required": True, "system": True, "min": 1, "max": 64}
            | {"pattern": "^[A-Za-z0-9._~-]+$", "autogeneratePattern": "[a-z0-9]{15}"}
        ]
        for column, shown in zip(columns, public, strict=True):
            kind = self.kinds.get(column, "text")
            fields.append({"name": shown, "type": kind} | ({"max": 20_000} if kind == "text" else {}))
        indexes = [f"CREATE INDEX ix_{name}_{i} ON {name} ({on})" for i, on in enumerate(self.indexed[name])]
        rules = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule"), '@request.auth.id != ""')
        collection = {"name": name, "type": "base", "fields": fields, "indexes": indexes, **rules}
        self.ask("/api/collections", collection, token)
        # PocketBase has no nulls.
        nothing = [0 if self.kinds.get(column) == "number" else "" for column in ("id", *columns)]
        rows = [
            [none if value is None else value for none, value in zip(nothing, row, strict=True)]
            for row in source.execute(f"SELECT id, {', '.join(columns)} FROM {name}")
        ]
        with sqlite3.connect(self.folder / "data" / "data.db", timeout=30) as target:
            marks = ", ".join("?" * (len(columns) + 1))
            target.executemany(f"INSERT INTO {name} (id, {', '.join(public)}) VALUES ({marks})", rows)
        target.close()


PEERS: tuple[type[Peer], ...] = (Waitress, TwoWorkers, PocketBase, PlainFlask, FastAPI, Datasette, OurFloor, Floor)

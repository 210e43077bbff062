"""`/metrics`: requests, rows, changes and sizes, in Prometheus's text format (version 0.0.4)."""

import os
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate
from mmap import mmap
from pathlib import Path
from time import perf_counter
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, g

from api.resources import ENDPOINTS
from database import db
from database.connection import connection, execute
from models import Change
from settings import Settings

METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
# In seconds: a small read takes less than one millisecond.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SECONDS = "cardfile_http_request_duration_seconds"
# A record of the memory is a text of labels, and numbers of 8 bytes: a count for each bucket and for more, the sum.
NUMBERS = len(BUCKETS) + 2
LABELS_BYTES, MAX_RECORDS, MAX_PROCESSES = 256, 512, 256
RECORD_BYTES = LABELS_BYTES + 8 * NUMBERS
PART_BYTES = MAX_RECORDS * RECORD_BYTES
COUNT_ROWS = sa.select(
    sa.select(sa.func.coalesce(sa.func.max(Change.seq), 0)).scalar_subquery(),
    *(sa.select(sa.func.count()).select_from(each.table).scalar_subquery() for each in ENDPOINTS.values()),
)


def init_metrics(app: Flask, settings: Settings) -> None:
    """Measure the requests of the app, and add the endpoint."""
    measured = app.wsgi_app = Requests(app.wsgi_app, settings.workers)  # type: ignore[method-assign]
    app.add_url_rule("/metrics", "metrics", partial(show_metrics, measured), methods=["GET"])


class Requests:
    """WSGI middleware that counts requests by method, route, status and duration.

    Worker processes count in memory that they share, each in a part of its own, so that any of them can return the
    sums. Single reads are 2 % slower by it; with prometheus_client, which shares files, they were 5 % slower.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], workers: int) -> None:
        self.app, self.lock = app, threading.Lock()
        self.rows: dict[tuple[str, str, str], Any] = {}
        self.memory = mmap(-1, PART_BYTES * (MAX_PROCESSES if workers > 1 else 1))
        self.part = 0 if workers == 1 else None
        if workers > 1:
            # Each process takes the number of its part from this pipe, at its first request.
            self.parts, write_end = os.pipe()
            os.write(write_end, bytes(range(MAX_PROCESSES)))
            os.close(write_end)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        started = perf_counter()

        def start(status: str, *rest: Any) -> Any:
            seconds = perf_counter() - started
            rule = environ["werkzeug.request"].url_rule
            labels = environ["REQUEST_METHOD"], rule.rule if rule else "none", status[:3]
            row = self.rows.get(labels) or self.add_row(*labels)
            # Python's global lock makes each addition whole.
            row[bisect_left(BUCKETS, seconds)] += 1
            row[-1] += seconds
            return start_response(status, *rest)

        return self.app(environ, start)

    def add_row(self, method: str, rule: str, status: str) -> Any:
        """Return the numbers for a method, a route and a status; the last record is for all too many."""
        labels = method if method in METHODS else "other", rule, status
        with self.lock:
            if self.part is None:
                self.part = (os.read(self.parts, 1) or bytes([MAX_PROCESSES - 1]))[0]
            if labels not in self.rows:
                start = self.part * PART_BYTES + min(len(self.rows), MAX_RECORDS - 1) * RECORD_BYTES
                text = re.sub("<[^>]+>", "{id}", 'method="{}",route="{}",status="{}"'.format(*labels))
                self.memory[start : start + LABELS_BYTES] = text.encode().ljust(LABELS_BYTES, b"\0")
                self.rows[labels] = self.numbers(start)
            return self.rows[labels]

    def numbers(self, start: int) -> Any:
        """Return the numbers of the record that starts there."""
        return memoryview(self.memory)[start + LABELS_BYTES : start + RECORD_BYTES].cast("d")

    def sums(self) -> dict[str, list[float]]:
        """Return the numbers of all processes, by labels."""
        found: dict[str, list[float]] = {}
        for part in range(0, len(self.memory), PART_BYTES):
            for start in range(part, part + PART_BYTES, RECORD_BYTES):
                labels = self.memory[start : start + LABELS_BYTES].rstrip(b"\0").decode()
                if not labels:
                    break
                row = zip(self.numbers(start), found.get(labels, [0] * NUMBERS), strict=True)
                found[labels] = [number + other for number, other in row]
        return found


def show_metrics(measured: Requests) -> Response:
    """Return all metrics; this request is not logged."""
    g.is_probe = True
    text = "\n".join((*request_lines(measured.sums()), *database_lines(), ""))
    return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def request_lines(sums: dict[str, list[float]]) -> Iterator[str]:
    """Yield the lines of the histogram: the time until a response begins."""
    yield f"# TYPE {SECONDS} histogram"
    for labels, (*counts, seconds) in sorted(sums.items()):
        for bound, count in zip((*BUCKETS, "+Inf"), accumulate(counts), strict=True):
            yield f'{SECONDS}_bucket{{{labels},le="{bound}"}} {count:.0f}'
        yield f"{SECONDS}_count{{{labels}}} {sum(counts):.0f}"
        yield f"{SECONDS}_sum{{{labels}}} {seconds:.6f}"


def database_lines() -> Iterator[str]:
    """Yield the lines of the last change's number, the numbers of rows, and the sizes in bytes."""
    last_change, *counts = execute(COUNT_ROWS).fetchone()
    yield f"# TYPE cardfile_changes_total counter\ncardfile_changes_total {last_change}\n# TYPE cardfile_rows gauge"
    for name, count in zip(ENDPOINTS, counts, strict=True):
        yield f'cardfile_rows{{resource="{name}"}} {count}'
    if db.engine.dialect.name == "sqlite":
        paths = {"database": Path(str(db.engine.url.database)), "wal": Path(f"{db.engine.url.database}-wal")}
        sizes = {name: path.stat().st_size for name, path in paths.items() if path.exists()}
    else:
        sizes = {"database": connection().execute("SELECT pg_database_size(current_database())").fetchone()[0]}
    for name, size in sizes.items():
        yield f"# TYPE cardfile_{name}_bytes gauge\ncardfile_{name}_bytes {size}"

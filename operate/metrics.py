"""`/metrics`: requests, rows, changes and sizes, for Prometheus."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import cache, partial
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir, mkdtemp
from time import perf_counter
from typing import Any
from weakref import finalize

import sqlalchemy as sa
from flask import Flask, Response, current_app, g

from api.resources import ENDPOINTS
from database import db
from database.connection import connection, execute
from models import Change
from settings import InvalidSetting, Settings

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# On Linux, a file system in memory.
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (mkdtemp makes a folder in it)
PREFIX = "cardfile-metrics-"
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
# In seconds: a small read takes less than one millisecond.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WSGI = Callable[..., Iterable[bytes]]
COUNT_ROWS = sa.select(
    sa.select(sa.func.coalesce(sa.func.max(Change.seq), 0)).scalar_subquery(),
    *(sa.select(sa.func.count()).select_from(each.table).scalar_subquery() for each in ENDPOINTS.values()),
)


def init_metrics(app: Flask, settings: Settings) -> None:
    """Measure the requests of the app, and add the endpoint."""
    if settings.workers > 1:
        # With this variable, prometheus_client counts in files that all processes share. It is read at import.
        os.environ[FOLDER] = make_shared_folder(app)
    if FOLDER in os.environ and not Path(os.environ[FOLDER]).is_dir():
        raise InvalidSetting(f"{FOLDER} must name a folder that exists, not {os.environ[FOLDER]!r}.")
    from prometheus_client import Histogram, disable_created_metrics
    from prometheus_client.multiprocess import MultiProcessCollector

    disable_created_metrics()
    labels, about = ("method", "route", "status"), "The time until a response begins."
    durations = Histogram("cardfile_http_request_duration_seconds", about, labels, buckets=BUCKETS, registry=None)
    collector = MultiProcessCollector(None) if FOLDER in os.environ else durations
    # Histogram.labels() takes as long as counting.
    child_of = cache(lambda method, rule, status: durations.labels(method, re.sub("<[^>]+>", "{id}", rule), status))
    app.wsgi_app = partial(measure, app.wsgi_app, child_of)  # type: ignore[method-assign]
    app.add_url_rule("/metrics", "metrics", partial(show_metrics, collector), methods=["GET"])


def make_shared_folder(app: Flask) -> str:
    """Return a folder in memory that is removed with the app; remove those that killed servers have left.

    Each is locked while one of its processes runs.
    """
    import fcntl

    # The files in it are mapped into memory: on a full disk, SIGBUS would kill the processes.
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else gettempdir()
    for left in Path(parent).glob(f"{PREFIX}*"):
        # OSError: its server still runs, or it is another user's.
        with suppress(OSError), ExitStack() as stack:
            stack.callback(os.close, descriptor := os.open(left, os.O_RDONLY))
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rmtree(left)
    folder = mkdtemp(prefix=PREFIX, dir=parent)
    finalize(app, os.close, descriptor := os.open(folder, os.O_RDONLY))
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    finalize(app, rmtree, folder)
    return folder


def measure(app: WSGI, child_of: Callable[..., Any], environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Call the app, and count the request when its response begins.

    It is WSGI middleware, because Flask's request and g would make single reads 5 to 7 % slower instead of 3 to 4 %.
    """
    started = perf_counter()

    def start(status: str, *rest: Any) -> Any:
        method, rule = environ["REQUEST_METHOD"], environ["werkzeug.request"].url_rule
        labels = method if method in METHODS else "other", rule.rule if rule else "none", status[:3]
        # OSError: the file that processes share can't be opened or grow.
        with suppress(OSError):
            child_of(*labels).observe(perf_counter() - started)
        return start_response(status, *rest)

    return app(environ, start)


def show_metrics(collector: Any) -> Response:
    """Return all metrics; this request is not logged."""
    from prometheus_client import CollectorRegistry, generate_latest

    g.is_probe = True
    registry = CollectorRegistry()
    registry.register(collector)
    for each in (Database(), *current_app.extensions.get("collectors", ())):
        registry.register(each)
    return Response(generate_latest(registry), content_type="text/plain; version=0.0.4; charset=utf-8")


class Database:
    """A collector of the last change's number, the numbers of rows, and the sizes in bytes."""

    def collect(self) -> Iterator[Any]:
        """Yield the metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        last_change, *counts = execute(COUNT_ROWS).fetchone()
        yield CounterMetricFamily("cardfile_changes", "The number of the last change.", last_change)
        rows = GaugeMetricFamily("cardfile_rows", "Rows by resource.", labels=["resource"])
        for name, count in zip(ENDPOINTS, counts, strict=True):
            rows.add_metric([name], count)
        yield rows
        for name, size in sizes().items():
            yield GaugeMetricFamily(f"cardfile_{name}_bytes", f"The size of the {name}.", size)


def sizes() -> dict[str, int]:
    """Return the size of the database and, on SQLite, of its WAL."""
    if db.engine.dialect.name == "sqlite":
        paths = {"database": Path(str(db.engine.url.database)), "wal": Path(f"{db.engine.url.database}-wal")}
        return {name: path.stat().st_size for name, path in paths.items() if path.exists()}
    return {"database": connection().execute("SELECT pg_database_size(current_database())").fetchone()[0]}

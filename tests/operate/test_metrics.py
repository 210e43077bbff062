"""/metrics: requests, rows, changes and sizes, as Prometheus reads them."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from operate import metrics
from tests.conftest import CreateRow, LiveServer, send_request

COMPANIES = "/api/v1/companies"
SECONDS = "cardfile_http_request_duration_seconds"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """Return the samples of a response by name and labels."""
    families = [*text_string_to_metric_families(text)]
    assert all(family.type != "unknown" for family in families)
    found = [each for family in families for each in family.samples]
    assert len({(each.name, *sorted(each.labels.items())) for each in found}) == len(found)
    return {(each.name, frozenset(each.labels.items())): each.value for each in found}


def requests(found: Samples) -> dict[tuple[str, str, str], int]:
    """Return the number of requests by method, route and status."""
    counts = [(dict(labels), value) for (name, labels), value in found.items() if name == f"{SECONDS}_count"]
    return {(each["method"], each["route"], each["status"]): int(value) for each, value in counts}


def test_a_request_that_cannot_be_counted_is_answered(reader: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("prometheus_client.Histogram.observe", fail)
    assert reader.get(COMPANIES).status_code == 200


def test_requests_are_counted_by_method_route_and_final_status(
    app: Flask, reader: FlaskClient, anonymous: FlaskClient, create_row: CreateRow
) -> None:
    row_id = create_row("companies")
    tag = reader.get(f"{COMPANIES}/{row_id}").headers["ETag"]
    reader.get(f"{COMPANIES}/{row_id}", headers={"If-None-Match": tag})
    for _time in range(3):
        reader.get(f"{COMPANIES}/nobody")
    reader.post(COMPANIES, json={})
    anonymous.get(COMPANIES)
    anonymous.options(COMPANIES)
    anonymous.get("/nothing")
    reader.open(COMPANIES, method="\x1b[2KGET")
    reader.open(COMPANIES, method="PURGE")
    assert app.test_client().get("/docs").status_code == 200

    assert requests(samples(reader.get("/metrics").text)) == {
        ("GET", "/api/v1/companies/{id}", "200"): 1,
        ("GET", "/api/v1/companies/{id}", "304"): 1,
        ("GET", "/api/v1/companies/{id}", "404"): 3,
        ("POST", "/api/v1/companies", "403"): 1,
        ("GET", "/api/v1/companies", "401"): 1,
        ("OPTIONS", "/api/v1/companies", "204"): 1,
        ("GET", "none", "404"): 1,
        ("other", "none", "405"): 2,
        ("GET", "/docs", "200"): 1,
    }
    assert requests(samples(reader.get("/metrics").text))["GET", "/metrics", "200"] == 1


def test_durations_are_a_cumulative_histogram(reader: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0, 0.0005, 10, 10.02, 20, 40])
    monkeypatch.setattr(metrics, "perf_counter", lambda: next(times))
    for _time in range(3):
        reader.get("/llms.txt")
    monkeypatch.undo()
    found = samples(reader.get("/metrics").text)
    labels = frozenset({"method": "GET", "route": "/llms.txt", "status": "200"}.items())
    buckets = {
        float(dict(each)["le"]): value
        for (name, each), value in found.items()
        if name == f"{SECONDS}_bucket" and labels <= each
    }

    assert [buckets[bound] for bound in (0.001, 0.01, 0.025, 10, float("inf"))] == [1, 1, 2, 2, 3]
    assert [*buckets] == sorted(buckets)
    assert (found[f"{SECONDS}_count", labels], round(found[f"{SECONDS}_sum", labels], 4)) == (3, 20.0205)


@pytest.mark.databases("sqlite", "postgresql")
def test_rows_changes_and_sizes_are_those_of_the_database(
    reader: FlaskClient, create_row: CreateRow, database: str
) -> None:
    for name in "companies", "contacts", "contacts":
        create_row(name)
    response = reader.get("/metrics")
    found = samples(response.text)

    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    rows = {dict(labels)["resource"]: value for (name, labels), value in found.items() if name == "cardfile_rows"}
    assert rows == {"companies": 1, "contacts": 2, "conversations": 0}
    assert found["cardfile_changes_total", frozenset()] == 3
    assert found["cardfile_database_bytes", frozenset()] > 100_000
    if database.startswith("sqlite"):
        file = Path(database.removeprefix("sqlite:///"))
        assert found["cardfile_database_bytes", frozenset()] == file.stat().st_size
        # The last use of a key may have been written meanwhile.
        assert 0 < found["cardfile_wal_bytes", frozenset()] <= Path(f"{file}-wal").stat().st_size


def test_the_metrics_need_a_key_and_are_not_logged(
    reader: FlaskClient, anonymous: FlaskClient, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (reader.get("/metrics").status_code, capfd.readouterr().err) == (200, "")
    assert anonymous.get("/metrics").status_code == 401
    assert " GET /metrics 401 " in capfd.readouterr().err


def test_a_folder_of_the_counts_that_is_missing_stops_the_start(
    run_command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(metrics.FOLDER, f"{tmp_path}/gone")
    refused = run_command("serve")
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"Error: PROMETHEUS_MULTIPROC_DIR must name a folder that exists, not '{tmp_path}/gone'.\n",
    )


def test_folders_that_killed_servers_left_are_removed(
    app: Flask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(metrics, "SHARED_MEMORY", str(tmp_path))
    (tmp_path / "cardfile-metrics-killed").mkdir()
    (tmp_path / "another").mkdir()
    running = Path(metrics.make_shared_folder(app))
    (running / "counts.db").touch()
    starting = Path(metrics.make_shared_folder(app))

    assert {*tmp_path.iterdir()} >= {running, starting, tmp_path / "another"}
    assert not (tmp_path / "cardfile-metrics-killed").exists() and (running / "counts.db").exists()


@pytest.mark.tools
def test_all_workers_return_the_sums_also_of_one_that_died(
    start_server: Callable[..., LiveServer], tmp_path: Path
) -> None:
    (tmp_path / "temporary").mkdir()
    server = start_server("serve", "--server", "granian", "--workers", "2", TMPDIR=f"{tmp_path}/temporary")
    server.read_first_key()

    def counted() -> set[int]:
        texts = [send_request(server, "/metrics")[1].decode() for _time in range(12)]
        return {requests(samples(text))["GET", COMPANIES, "200"] for text in texts}

    for _time in range(40):
        assert send_request(server)[0] == 200
    assert counted() == {40}
    os.kill(server.children()[0], signal.SIGKILL)
    for _time in range(20):
        send_request(server)
    assert min(counted()) >= 40 and len(counted()) == 1
    assert (server.stop(signal.SIGTERM), [*(tmp_path / "temporary").iterdir()]) == (0, [])
    assert server.stop(signal.SIGTERM) == 0

"""Measure how Cardfile's cost and memory grow with the number of rows and changes."""

import base64
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import targets
from bench.measure import Plan, measure_round, memory_in_mb, running, seed_database, send
from bench.peers import Database, Peer, Waitress

REVERTED = 300


class Finding(NamedTuple):
    """A measured value and the most that it may be."""

    question: str
    value: float
    most: float
    unit: str = ""


def measure_growth(folder: Path, database: Database, plan: Plan) -> list[Finding]:
    """Return how cost grows with the companies, and the cost of the last page and of a streamed list."""
    largest = seed_database(folder / "largest-source", plan.largest)
    server = Waitress(folder / "largest", largest)
    large = seed_database(folder / "large-source", plan.large) if plan.large else database
    findings = compare_sizes(folder, database, large, plan) if plan.large else []
    findings += [*compare_versions(Waitress(folder / "versions", large), large, plan)]
    findings.append(compare_pages(server, largest, plan))
    return [*findings, *stream(server, "contacts"), *stream(server, "changes?net=true")]


def compare_sizes(folder: Path, database: Database, large_database: Database, plan: Plan) -> list[Finding]:
    """Return the cost of each reading workload with many companies in terms of its cost with few."""
    small = Waitress(folder / "small", database)
    large = Waitress(folder / "large", large_database)
    findings = []
    with running((small, large)):
        for workload in filter(targets.GROWTH.get, plan.workloads):
            cost = cost_ratio(workload, [(small, small.url(workload)), (large, large.url(workload))], plan)
            question = f"{workload}, {plan.large:,} companies to {plan.companies:,}"
            findings.append(Finding(question, cost, targets.GROWTH[workload]))
    return findings


def compare_versions(server: Peer, database: Database, plan: Plan) -> Iterator[Finding]:
    """Yield the cost of reads as of a version relative to the same reads now, and the time of a revert."""
    [[version]] = database.execute("SELECT max(seq) FROM changes")
    with running([server]):
        for question, (workload, most) in targets.AS_OF.items():
            url = server.url(workload)
            cost = cost_ratio(workload, [(server, url), (server, f"{url}?asOf={version}")], plan)
            yield Finding(f"{question} as of a version, to now", cost, most)
        times = [revert_ms(server) for _round in range(plan.rounds)]
    yield Finding(f"revert of {REVERTED} changes, {server.name}", statistics.median(times), targets.REVERT_MS, " ms")


def revert_ms(server: Peer) -> float:
    """Create rows, and return the milliseconds that the revert to the version before takes."""
    with server.get(server.url("one company")) as response:
        version = int(response.headers["Dataset-Version"])
    send(server, "contacts", [{"name": f"{number}"} for number in range(REVERTED)])
    started = time.perf_counter()
    reverted = send(server, "changes/revert", {"to": version})
    assert len(reverted) == REVERTED
    return (time.perf_counter() - started) * 1000


def compare_pages(server: Peer, database: Database, plan: Plan) -> Finding:
    """Return the cost of the last page of all contacts in terms of the first."""
    [[count]] = database.execute("SELECT count(*) FROM contacts")
    order = "ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET 50"
    [[created_at, row_id]] = database.execute(f"SELECT created_at, id FROM contacts {order}")
    position = json.dumps(["contacts", "createdAt", created_at, row_id]).encode()
    cursor = base64.urlsafe_b64encode(position).decode().rstrip("=")
    first = f"http://127.0.0.1:{server.port}/api/v1/contacts?limit=50"
    with running([server]):
        cost = cost_ratio("page of 50", [(server, first), (server, f"{first}&cursor={cursor}")], plan)
    return Finding(f"last page of 50 of {count:,} contacts to the first", cost, targets.LAST_PAGE_RATIO)


def cost_ratio(workload: str, urls: Sequence[tuple[Peer, str]], plan: Plan) -> float:
    """Return the cost of the second URL in terms of the first, by medians of interleaved rounds."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _round in range(plan.rounds):
        for measured, (server, url) in zip(rates, urls, strict=True):
            measured.append(measure_round(server, workload, plan.seconds, url).rate)
    return statistics.median(rates[0]) / statistics.median(rates[1])


def stream(server: Peer, path: str) -> list[Finding]:
    """Return the memory that a long list adds to the server, and the time to its first byte."""
    with running([server]):
        before = largest = memory_in_mb(server)
        started = time.perf_counter()
        with server.get(f"http://127.0.0.1:{server.port}/api/v1/{path}") as response:
            response.read(1)
            first_byte = (time.perf_counter() - started) * 1000
            while response.read(4_000_000):
                largest = max(largest, memory_in_mb(server))
    return [
        Finding(f"memory that all {path} add", largest - before, targets.STREAM_MB, " MB"),
        Finding(f"first byte of all {path}", first_byte, targets.STREAM_FIRST_BYTE_MS, " ms"),
    ]

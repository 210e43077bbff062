"""Measure how long a request takes beside many others."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import targets
from bench.growth import Finding
from bench.measure import Plan, measure_round, running
from bench.peers import Cardfile, Database, GranianOne, GranianTwo, Peer, Waitress

SERVERS: tuple[type[Cardfile], ...] = (Waitress, GranianOne, GranianTwo)
LIST_READERS, WRITERS = 8, 64


def measure_load(folder: Path, database: Database, plan: Plan) -> list[Finding]:
    """Return the 99th percentiles of single reads beside readers of whole lists, and of creates by many writers."""
    findings = []
    for server in SERVERS:
        peer = server(folder / f"load-{server.__name__}", database)
        with running([peer]):
            with reading_lists(peer, plan):
                read = measure_round(peer, "one company", plan.seconds, connections=1)
            create = measure_round(peer, "creates", plan.seconds, connections=WRITERS)
        question = f"single reads beside {LIST_READERS} readers of whole lists, {peer.name}"
        findings.append(Finding(f"99th percentile of {question}", read.p99, targets.READ_BESIDE_LISTS_P99_MS, " ms"))
        question = f"99th percentile of creates by {WRITERS} writers, {peer.name}"
        findings.append(Finding(question, create.p99, targets.MANY_WRITERS_P99_MS, " ms"))
    return findings


@contextmanager
def reading_lists(peer: Peer, plan: Plan) -> Iterator[None]:
    """Read whole lists by several connections during the block."""
    command = ["wrk", "-t1", f"-c{LIST_READERS}", f"-d{plan.seconds + 2}", "--timeout", "30s"]
    command += ["-H", f"Authorization: {peer.authorization}", peer.url("all companies")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as wrk:
        yield
        wrk.wait()

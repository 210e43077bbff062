"""Measure a running server: throughput, latency, CPU time and memory."""

import json
import math
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.peers import ROOT, Database, Peer

CREATE_CONTACTS = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local n = 0
request = function()
  n = n + 1
  return wrk.format(nil, nil, nil, '{"name":"Bench ' .. n .. '","email":"bench' .. n .. '@example.com","title":"CTO"}')
end
"""
MILLISECONDS = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}


class Plan(NamedTuple):
    """How much is measured: rounds, seconds for each workload and server, workloads, and the sizes of databases."""

    rounds: int
    seconds: int
    workloads: tuple[str, ...]
    companies: int = 10_000
    # Companies in the databases for growth; 0 to skip the comparison.
    large: int = 0
    largest: int = 0


class Round(NamedTuple):
    """One round of a workload: workloads per second and per CPU second, 99th percentile of latency in ms."""

    rate: float
    per_cpu: float
    p99: float


Rounds = dict[tuple[str, str], list[Round]]


def run_command(*command: Any, folder: Path) -> str:
    """Return a command's output; raises CalledProcessError when it fails."""
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def seed_database(folder: Path, companies: int) -> Database:
    """Return a new database: each company has five contacts and two conversations."""
    folder.mkdir()
    run_command(sys.executable, ROOT / "service.py", "seed", "--companies", companies, folder=folder)
    create = ("keys", "create", "bench", "--scope", "write")
    database = Database(
        folder / "cardfile.db", run_command(sys.executable, ROOT / "service.py", *create, folder=folder)
    )
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database


@contextmanager
def running(peers: Iterable[Peer]) -> Iterator[None]:
    """Start the servers, and stop them after the block."""
    started: list[Peer] = []
    try:
        for peer in peers:
            peer.start()
            started.append(peer)
        yield
    finally:
        for peer in started:
            peer.stop()


def measure_rounds(peers: Sequence[Peer], plan: Plan) -> Rounds:
    """Return the rounds of each (workload, server's name), measured one server after the other in each round."""
    rounds: Rounds = defaultdict(list)
    for number in range(plan.rounds):
        # Each round begins with another server, so that none always follows the same one.
        first = number % len(peers)
        for workload in plan.workloads:
            for peer in (*peers[first:], *peers[:first]):
                if workload in peer.paths:
                    rounds[workload, peer.name].append(measure_round(peer, workload, plan.seconds))
    return rounds


def measure_round(peer: Peer, workload: str, seconds: int, url: str = "", connections: int = 0) -> Round:
    """Run wrk for some seconds. Raises SystemExit when a response has an error status, or none came for an error."""
    script = peer.folder / "post.lua"
    script.write_text(CREATE_CONTACTS)
    connections = connections or (4 if workload == "all companies" else 16)
    options = ["-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "30s", "--latency"]
    options += ["-s", str(script)] if workload == "creates" else []
    header = f"Authorization: {peer.authorization}"
    cpu_before = cpu_seconds(peer)
    output = run_command("wrk", *options, "-H", header, url or peer.url(workload), folder=peer.folder)
    cpu = cpu_seconds(peer) - cpu_before
    if "Non-2xx" in output or (" 0 requests" in output and "Socket errors" in output):
        raise SystemExit(f"{peer.name}, {workload}: {output}\n{(peer.folder / 'log').read_text()[-1000:]}")
    wait_until_idle(peer)
    return parse_round(output, cpu, peer.requests.get(workload, 1))


def parse_round(output: str, cpu: float, requests: int) -> Round:
    """Return the round that wrk printed; `requests` of them are one workload, and with none latency is infinite."""
    if " 0 requests" in output:
        return Round(0, 0, math.inf)
    count = float(re.findall(r"([0-9]+) requests in", output)[0]) / requests
    rate = float(re.findall(r"Requests/sec: +([0-9.]+)", output)[0]) / requests
    number, unit = re.findall(r"99% +([0-9.]+)(us|ms|s|m)", output)[0]
    return Round(rate, count / max(cpu, 0.01), float(number) * MILLISECONDS[unit])


def wait_until_idle(peer: Peer) -> None:
    """Wait while the server still works on requests that wrk gave up at its end, for ten seconds at most."""
    for _try in range(100):
        before = cpu_seconds(peer)
        time.sleep(0.1)
        if cpu_seconds(peer) - before < 0.03:
            return


def process_ids(pids: Iterable[int]) -> Iterator[int]:
    """Yield the ids of processes and of their descendants."""
    for pid in pids:
        yield pid
        yield from process_ids(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def cpu_seconds(peer: Peer) -> float:
    """Return the CPU time of a server's processes."""
    ticks = 0
    for each in process_ids(peer.process_ids()):
        # utime and stime (proc_pid_stat(5)), counted from the field after the command's name.
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_in_mb(peer: Peer) -> float:
    """Return the memory of a server's processes; shared pages count once."""
    rollups = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in process_ids(peer.process_ids())]
    return sum(int(re.findall(r"^Pss: +([0-9]+)", text, re.M)[0]) for text in rollups) / 1024


def send(peer: Peer, path: str, body: Any = None, method: str | None = None) -> Any:
    """Send a request to the API; return the body of the response."""
    headers = {"Authorization": peer.authorization, "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{peer.port}/api/v1/{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)

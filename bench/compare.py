"""Compare Cardfile with its peers, and with itself without its tricks for speed."""

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.ablations import ABLATIONS, CONTROL
from bench.measure import Plan, Rounds, measure_rounds, memory_in_mb, run_command, running
from bench.peers import (
    ROOT,
    Cardfile,
    Database,
    Datasette,
    FastAPI,
    Floor,
    GranianOne,
    GranianOneBound,
    GranianTwo,
    Peer,
    PlainFlask,
    PostgreSQL,
    Waitress,
    WaitressBound,
)
from bench.pocketbase import PocketBase

PEERS: tuple[type[Peer], ...] = (
    Waitress,
    WaitressBound,
    GranianOne,
    GranianOneBound,
    GranianTwo,
    PostgreSQL,
    PocketBase,
    PlainFlask,
    FastAPI,
    Datasette,
    Floor,
)
ABLATED_SERVERS: tuple[type[Cardfile], ...] = (WaitressBound, GranianTwo)
PACKAGES = "flask, flask_sqlalchemy, marshmallow, prometheus_client, waitress"


class Comparison(NamedTuple):
    """The measured rounds; memory in MB and seconds to start by server; seconds to import Cardfile's packages."""

    rounds: Rounds
    memory: dict[str, float]
    starts: dict[str, float]
    imports: float


def compare_peers(folder: Path, database: Database, plan: Plan) -> Comparison:
    """Measure all peers in the same rounds."""
    peers = [peer(folder / peer.__name__, database) for peer in PEERS]
    imports, starts = measure_starts(peers, plan.rounds)
    with running(peers):
        rounds = measure_rounds(peers, plan)
        memory = {peer.name: memory_in_mb(peer) for peer in peers}
    return Comparison(rounds, memory, starts, imports)


def measure_starts(peers: Sequence[Peer], rounds: int) -> tuple[float, dict[str, float]]:
    """Return the medians of the seconds that importing Cardfile's packages takes, and each server's start.

    The first start of each, which compiles modules, doesn't count.
    """
    for peer in peers:
        peer.start()
        peer.stop()
    imports: list[float] = []
    starts: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for _round in range(rounds):
        started = time.perf_counter()
        run_command(sys.executable, "-c", f"import {PACKAGES}", folder=ROOT)
        imports.append(time.perf_counter() - started)
        for peer in peers:
            starts[peer.name].append(peer.start())
            peer.stop()
    return statistics.median(imports), {name: statistics.median(seconds) for name, seconds in starts.items()}


def compare_ablations(folder: Path, database: Database, plan: Plan, tricks: Sequence[str]) -> Rounds:
    """Measure Cardfile whole, once more as a control, and without each trick, in the same rounds.

    The rounds' server names are `server` and `server without trick`.
    """
    peers: list[Peer] = []
    for server in ABLATED_SERVERS:
        for trick in ("", CONTROL, *tricks):
            peer = server(folder / f"{server.__name__}-{trick or 'whole'}", database)
            peer.without = trick
            peer.name = ablated_name(server.name, trick)
            peers.append(peer)
    with running(peers):
        return measure_rounds(peers, plan)


def ablated_name(server: str, trick: str) -> str:
    """Return the name under which rounds of a server without a trick are kept."""
    return f"{server} without {trick}" if trick else server


def choose_tricks(name: str) -> list[str]:
    """Return the tricks to measure without: every one for `all`, else the one, or those joined by +.

    Raises SystemExit for an unknown name.
    """
    if name == "all":
        return [trick for trick in ABLATIONS if trick != CONTROL]
    for each in name.split("+"):
        if each not in ABLATIONS:
            raise SystemExit(f"There is no trick {each}: choose all, {', '.join(ABLATIONS)}.")
    return [name]

"""Measure how fast the changes of an import are sent to a receiver on this machine, and how much slower writes are."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import ClassVar

from bench import targets
from bench.growth import Finding
from bench.measure import Plan, measure_round, run_command, running, send
from bench.peers import ROOT, Database, Waitress

CHANGES, BATCH = 10_000, 1_000
# Answers 204 to each request that has come whole.
RECEIVER = """
import socketserver

class Receiver(socketserver.StreamRequestHandler):
    def handle(self):
        length = 0
        for line in self.rfile:
            name, _, value = line.lower().partition(b":")
            length = int(value) if name == b"content-length" else length
            if line == b"\\r\\n":
                self.rfile.read(length)
                self.wfile.write(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")

server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Receiver)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class Sending(Waitress):
    """Cardfile on waitress that may send to this machine."""

    options: ClassVar[tuple[str, ...]] = ("--webhook-networks", "private")


@contextmanager
def receiving() -> Iterator[str]:
    """Give the URL of a receiver in a process of its own."""
    with subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/"
        process.terminate()


def measure_webhooks(folder: Path, database: Database, plan: Plan) -> list[Finding]:
    """Return the time of messages, and the creates without a webhook in terms of those while one is sent to."""
    peer = Sending(folder / "webhooks", database)
    create_key = ("keys", "create", "admin", "--scope", "admin")
    peer.authorization = f"Bearer {run_command(sys.executable, ROOT / 'service.py', *create_key, folder=peer.folder)}"
    with running([peer]), receiving() as url:
        webhook = send(peer, "webhooks", {"url": url, "events": ["*"]})["id"]
        seconds = import_and_wait(peer, f"webhooks/{webhook}")
        alone, beside = [], []
        for _round in range(plan.rounds):
            send(peer, f"webhooks/{webhook}", {"active": False}, "PATCH")
            alone.append(measure_round(peer, "creates", plan.seconds).rate)
            send(peer, f"webhooks/{webhook}", {"active": True}, "PATCH")
            beside.append(measure_round(peer, "creates", plan.seconds).rate)
    messages = f"1,000 messages, of those on {CHANGES:,} created rows, {peer.name}"
    creates = "creates without a webhook in terms of those while one is sent to"
    return [
        Finding(messages, 1000 * seconds / (CHANGES / 1000), targets.THOUSAND_MESSAGES_MS, " ms"),
        Finding(creates, median(alone) / median(beside), targets.WEBHOOK_RATIO),
    ]


def import_and_wait(peer: Sending, webhook: str) -> float:
    """Create rows; return the seconds until all of them were delivered."""
    before, started = send(peer, webhook)["delivered"], time.perf_counter()
    for _batch in range(CHANGES // BATCH):
        send(peer, "contacts", [{"name": f"{number}"} for number in range(BATCH)])
    while send(peer, webhook)["delivered"] < before + CHANGES:
        time.sleep(0.1)
    return time.perf_counter() - started

"""A power cut loses no acknowledged write: each was synced to the disk before its response."""

import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, LiveServer, send_request

WRITES = 40


@pytest.mark.tools
@pytest.mark.parametrize("server", ["waitress", "granian"])
def test_every_acknowledged_write_was_synced_before_its_response(tmp_path: Path, server: str) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    calls = "trace=pwrite64,fsync,fdatasync,write,writev,sendto,sendmsg"

    class TracedServer(LiveServer):
        # -D: the process is the server, and strace its grandchild.
        program = (
            "strace",
            "-D",
            "-f",
            "-y",
            "-s",
            "16",
            "-e",
            calls,
            "-o",
            trace,
            sys.executable,
            ROOT / "service.py",
        )

    traced = TracedServer(tmp_path, "serve", "--server", server)
    try:
        traced.read_first_key()
        assert {send_request(traced, body={"name": f"{number}"})[0] for number in range(WRITES)} == {201}
        assert traced.stop(signal.SIGTERM) == 0
    finally:
        traced.close()

    is_synced, syncs, responses = True, 0, 0
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        if re.search(r"pwrite64\(\d+<.*cardfile\.db-wal>", line):
            is_synced = False
        elif re.search(r"f(data)?sync\(\d+<.*cardfile\.db-wal>", line):
            is_synced, syncs = True, syncs + 1
        elif "HTTP/1.1 201" in line:
            assert is_synced, line
            responses += 1
    assert responses == WRITES
    assert syncs >= WRITES

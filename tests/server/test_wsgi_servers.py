"""gunicorn and Flask's server, started as README says: the first key, requests, webhooks' thread, and the end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from api.first_key import NO_KEYS
from auth import new_key
from tests.conftest import ROOT
from tests.operate.conftest import free_port, wait_for_port

pytestmark = pytest.mark.tools

INSTALL = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Install\n")[2].partition("\n## ")[0]


def command_of(program: str) -> list[str]:
    """Return README's command that starts a program, which is one of the tests' environment."""
    [line] = re.findall(rf"^\| .*? `({program} [^`]+)`", INSTALL, re.M)
    return [str(Path(sys.executable).with_name(program)), *(word.strip("'") for word in line.split()[1:])]


def request(port: int, key: str, path: str = "/api/v1/companies", body: object = None) -> tuple[int, bytes]:
    """Send a request; return the status and the body of the response."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        return response.status, response.read()


@pytest.mark.parametrize(
    ("program", "options"),
    [("gunicorn", "--workers 2 --bind 127.0.0.1:{port}"), ("flask", "--port {port}")],
    ids=["gunicorn", "flask"],
)
def test_another_server_says_how_to_create_the_first_key_and_serves(tmp_path: Path, program: str, options: str) -> None:
    port, database = free_port(), f"{tmp_path}/cardfile.db"
    command = [*command_of(program), *options.format(port=port).split()]
    environment = {**os.environ, "DATABASE_URL": database}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_for_port(port)
        assert json.loads(request(port, "")[1])["detail"] == NO_KEYS
        create = [
            sys.executable,
            ROOT / "service.py",
            "keys",
            "create",
            "a",
            "--scope",
            "write",
            "--database",
            database,
        ]
        key = subprocess.run(create, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
        assert request(port, key, body=[{"name": f"number {number}"} for number in range(500)])[0] == 201
        assert request(port, key, body=[{"name": f"number {number}"} for number in range(600)])[0] == 201
        for _time in range(6):
            assert len(json.loads(request(port, key)[1])) == 1100
            assert "needs an API key" in json.loads(request(port, "")[1])["detail"]
        started = time.monotonic()
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=20)
        assert time.monotonic() - started < 10
    finally:
        server.kill()
        server.wait()
    written = (tmp_path / "log").read_text(encoding="utf-8")
    assert NO_KEYS in written and "Traceback" not in written and key not in written


def test_the_workers_of_gunicorn_store_one_first_key_of_the_environment(tmp_path: Path) -> None:
    port, key = free_port(), new_key()
    command = [*command_of("gunicorn"), "--workers", "2", "--bind", f"127.0.0.1:{port}"]
    environment = {**os.environ, "DATABASE_URL": f"{tmp_path}/cardfile.db", "CARDFILE_ADMIN_KEY": key}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_for_port(port)
        for _time in range(8):
            assert [each["scope"] for each in json.loads(request(port, key, "/api/v1/keys")[1])] == ["admin"]
    finally:
        server.terminate()
        server.wait(timeout=20)
    written = (tmp_path / "log").read_text(encoding="utf-8")
    assert NO_KEYS not in written and "Traceback" not in written and key not in written

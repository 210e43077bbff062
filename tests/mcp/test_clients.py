"""Real clients of the protocol: the Python packages mcp 1 and 2, and the MCP inspector."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, LiveServer
from tests.mcp.test_tools import READING, WRITING

pytestmark = pytest.mark.tools

CLIENTS = Path(__file__).parent / "clients"
INSPECTOR = CLIENTS / "node_modules" / ".bin" / "mcp-inspector"
ANSWERS = [
    ["tools", READING + WRITING],
    ["describe", False, "companies: A company and its current deal. matchOn: id, website, name."],
    ["save", False, "id | name"],
    ["update", True, "422 Unprocessable Entity: Some of the fields are not valid: see errors."],
    ["find", False, "name"],
    ["revert", False, "seq | at | action | resource | id"],
    ["error", "Unknown tool: nope. Known: describe, find, get, changes, save, update, delete, revert."],
]


@pytest.fixture
def server(shared_server: LiveServer) -> LiveServer:
    return shared_server


def run_client(server: LiveServer, program: Path, *arguments: str | Path) -> str:
    """Run a client with the server's key; return what it prints."""
    if not program.exists():
        pytest.skip(f"{program} is not installed: make .venv/mcp1 .venv/mcp2 .venv/node.")
    completed = subprocess.run(
        [program, *arguments],
        cwd=server.folder,
        env={**os.environ, "CARDFILE_KEY": server.key},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert completed.returncode == 0, completed.stdout[-4000:] + completed.stderr[-4000:]
    return completed.stdout


def targets(server: LiveServer) -> dict[str, list[str]]:
    """Return the arguments of a client that name each transport."""
    command = [sys.executable, str(ROOT / "service.py"), "mcp"]
    url = f"http://127.0.0.1:{server.port}"
    return {
        "http": [f"{url}/mcp"],
        "stdio": [*command, "--database", f"sqlite:///{server.folder}/cardfile.db"],
        "stdio to a server": [*command, "--url", url],
    }


@pytest.mark.parametrize(
    ("package", "options", "version", "transport"),
    [
        ("1", [], "2025-11-25", "http"),
        ("1", [], "2025-11-25", "stdio"),
        ("2", ["legacy"], "2025-11-25", "http"),
        ("2", ["auto"], "2026-07-28", "http"),
        ("2", ["auto"], "2026-07-28", "stdio"),
        ("2", ["auto"], "2026-07-28", "stdio to a server"),
    ],
)
def test_clients_in_python_work(
    server: LiveServer, package: str, options: list[str], version: str, transport: str
) -> None:
    python, script = ROOT / ".venv" / f"mcp{package}" / "bin" / "python", CLIENTS / f"client_{package}.py"
    output = run_client(server, python, script, *options, *targets(server)[transport])

    assert [json.loads(line) for line in output.splitlines()] == [["version", version], *ANSWERS]


@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_the_inspector_works(server: LiveServer, transport: str) -> None:
    if shutil.which("node") is None:
        pytest.skip("Node is not installed.")
    options = ["--transport", "http", "--header", f"Authorization: Bearer {server.key}"] if transport == "http" else []
    target = [*targets(server)[transport], *options]
    environment = [] if options else ["-e", f"CARDFILE_KEY={server.key}"]

    def inspect(*arguments: str) -> Any:
        return json.loads(run_client(server, INSPECTOR, "--cli", *environment, *target, *arguments))

    listed = inspect("--method", "tools/list")
    assert [tool["name"] for tool in listed["tools"]] == READING + WRITING
    called = inspect("--method", "tools/call", "--tool-name", "find", "--tool-arg", "resource=companies", "limit=5")
    assert called["structuredContent"]["rows"] == []

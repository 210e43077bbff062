"""The example programs work with a live server while other programs write."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas import RESOURCES
from tests.conftest import ROOT, LiveServer, run_external_sql, send_request


@pytest.mark.tools
def test_keep_in_step_makes_a_copy_equal_to_the_source(start_server: Callable[..., LiveServer], tmp_path: Path) -> None:
    server = start_server("serve", "--demo")
    server.read_first_key()
    base = f"http://127.0.0.1:{server.port}/api/v1"
    program = [sys.executable, ROOT / "examples" / "keep_in_step.py", base, server.key, tmp_path / "copy.json"]

    def command(arguments: list[Any]) -> None:
        subprocess.run(arguments, check=True, timeout=60, capture_output=True, cwd=tmp_path)

    def keep_in_step() -> dict[str, Any]:
        command(program)
        copy: dict[str, Any] = json.loads((tmp_path / "copy.json").read_text(encoding="utf-8"))
        return copy

    def source() -> dict[str, Any]:
        return {
            name: {row["id"]: row for row in json.loads(send_request(server, f"/api/v1/{name}")[1])}
            for name in RESOURCES
        }

    first = keep_in_step()
    assert {name: first[name] for name in RESOURCES} == source()

    send_request(server, "/api/v1/contacts", [{"name": f"new {number}"} for number in range(600)])
    run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", "DELETE FROM companies WHERE position = 0")
    run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", "UPDATE conversations SET is_read = 1")
    second = keep_in_step()
    assert {name: second[name] for name in RESOURCES} == source()
    assert first["companies"] != second["companies"]

    # A restored database is behind the copy, then ahead of it.
    for number in 0, 9:
        command([sys.executable, ROOT / "service.py", "backup", f"{number}.db"])
        send_request(server, "/api/v1/contacts", [{"name": "lost"}] * 5)
        assert "lost" in str(keep_in_step())
        command([sys.executable, ROOT / "service.py", "restore", f"{number}.db"])
        send_request(server, "/api/v1/contacts", [{"name": f"kept {number}"}] * number or [{"name": "kept"}])
        third = keep_in_step()
        assert {name: third[name] for name in RESOURCES} == source()

    refused = subprocess.run([*program[:3], "cfk_wrong", *program[4:]], timeout=60, capture_output=True, check=False)
    assert (refused.returncode, refused.stderr.decode()) == (1, f"{base} can't be read: HTTP Error 401: UNAUTHORIZED\n")

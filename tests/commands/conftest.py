"""Commands that run in a process of their own, with real standard streams and permissions."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

SCRIPT = """
import contextlib, json, sys
from commands import cli
from service import create_app
for command in json.loads(sys.argv[1]):
    with contextlib.suppress(SystemExit):
        cli(command, obj=create_app)
"""


def run_commands(folder: Path, commands: list[list[str]], environment: dict[str, str], **options: Any) -> str:
    """Run commands one after the other in a new process; return what they wrote to its two streams."""
    completed = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands, ensure_ascii=False).encode(errors="surrogateescape")],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=True,
        timeout=60,
        **options,
    )
    return completed.stdout

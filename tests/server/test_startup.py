"""The start of a server."""

import subprocess
import sys

from flask import Flask

from tests.conftest import ROOT
from tests.core.test_migrations import OPEN_DATABASE


def test_a_start_without_an_upgrade_imports_only_needed_modules(app: Flask, database: str) -> None:
    unneeded = {"alembic", "mimesis", "mistune", "psycopg", "granian", "limits", "transfer"}
    script = (
        f"{OPEN_DATABASE}; import commands, server, server.waitress_server; print(*({unneeded} & set(sys.modules)))"
    )

    completed = subprocess.run(
        [sys.executable, "-c", script, database], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert completed.stdout == "\n"

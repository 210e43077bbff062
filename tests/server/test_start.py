"""The start of a server."""

import subprocess
import sys

from flask import Flask

from tests.conftest import ROOT
from tests.core.test_migrations import OPEN


def test_a_start_that_has_nothing_to_upgrade_imports_only_what_serving_needs(app: Flask, database: str) -> None:
    needless = {"alembic", "mimesis", "mistune", "psycopg", "granian", "limits", "transfer"}
    script = f"{OPEN}; import commands, server, server.waitress_server; print(*({needless} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", script, database], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == "\n"

"""`import` with maps, on PostgreSQL."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import run_external_sql
from tests.transfer.conftest import RunCommand
from tests.transfer.test_maps import EXPORTS, IMPORTS


@pytest.mark.databases("postgresql")
def test_exports_are_stored_on_postgresql_and_a_second_time_nothing_changes(
    run_command: RunCommand, tmp_path: Path, database: str
) -> None:
    shutil.copytree(EXPORTS, tmp_path, dirs_exist_ok=True)
    for is_second in False, True:
        for file, options, said in IMPORTS:
            done = run_command("import", file, *options, "--database", database).stderr
            assert done.splitlines()[0] == (
                said.splitlines()[0].replace(", 24 companies", "").replace("Stored", "Unchanged:")
                if is_second
                else said.splitlines()[0]
            )
        assert run_external_sql(database, "SELECT count(*) FROM changes") == [(144,)]
    options = ("--match", "name", "--dry-run", "--database", database)
    assert run_command("import", "hubspot-companies.csv", *IMPORTS[0][1], *options).exit_code == 0
    assert run_external_sql(database, "SELECT count(*) FROM changes") == [(144,)]

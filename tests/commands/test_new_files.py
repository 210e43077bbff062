"""Files that commands write: complete or absent, on the disk, and written at once after a killed try."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from database.schema import revisions
from tests.conftest import EXAMPLES, ROOT, run_external_sql

RunCommand = Callable[..., Result]
WRITES = [
    (["backup", "b.db"], "b.db"),
    (["export", "."], "companies.ndjson"),
    (["export", ".", "--format", "csv"], "contacts.csv"),
]


@pytest.mark.parametrize(("command", "name"), WRITES)
def test_the_next_command_replaces_the_files_of_a_killed_one(
    run_command: RunCommand, tmp_path: Path, command: list[str], name: str
) -> None:
    run_command("seed", "--from", str(EXAMPLES))
    (tmp_path / f"{name}.part").write_bytes(b"x" * 9000)
    # SQLite would roll back the transaction of such a journal.
    (tmp_path / f"{name}.part-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(1000))

    assert run_command(*command).exit_code == 0
    assert b"xxx" not in (tmp_path / name).read_bytes()
    assert list(tmp_path.glob("*.part*")) == []
    if name == "b.db":
        assert "integrity: ok" in run_command("check", "--database", "sqlite:///b.db").stdout


@pytest.mark.parametrize(("command", "name"), WRITES)
def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_end(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], name: str
) -> None:
    run_command("seed", "--from", str(EXAMPLES))
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(descriptor: int) -> None:
        steps.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        steps.append(f"rename {path.name}")
        return rename(path, target)

    monkeypatch.setattr("os.fsync", note_fsync)
    monkeypatch.setattr("pathlib.Path.rename", note_rename)
    assert run_command(*command).exit_code == 0
    start = steps.index(f"fsync {name}.part")
    assert steps[start : start + 3] == [f"fsync {name}.part", f"rename {name}.part", f"fsync {tmp_path.name}"]


@pytest.mark.tools
def test_of_several_backups_at_once_to_one_file_one_succeeds_and_the_others_say_why(
    run_command: RunCommand, tmp_path: Path
) -> None:
    run_command("seed")
    command = [sys.executable, ROOT / "service.py", "backup", "b.db"]
    processes = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _number in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in processes]

    assert sorted(process.returncode for process in processes) == [0, 1, 1]
    reasons = {
        "Wrote b.db.\n",
        "Error: b.db exists: name a new file.\n",
        "Error: Another process is writing b.db.\n",
        "Error: Another process has just written b.db.\n",
    }
    assert set(errors) <= reasons
    assert "integrity: ok" in run_command("check", "--database", "sqlite:///b.db").stdout
    assert list(tmp_path.glob("*.part*")) == []


def test_an_upgrade_removes_copies_of_killed_ones_and_a_failed_one_leaves_no_copy(
    run_command: RunCommand, tmp_path: Path, first_revision: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_command("seed", "--from", str(EXAMPLES))
    monkeypatch.setattr("database.schema.MIGRATIONS", ROOT / "migrations")
    for name in "cardfile.db.0004-20260101T000000Z.bak.part", "cardfile.db.0004-20260101T000000Z.bak.part-journal":
        (tmp_path / name).write_bytes(b"x" * 5000)

    with monkeypatch.context() as broken:
        # Before the upgrade, and after it.
        found = iter([[], ["row 1 refers to nothing"]] * 2)
        broken.setattr("database.sqlite.broken_references", lambda _connection: next(found))
        for _time in range(2):
            assert (
                run_command("check").stderr == "Error: The upgrade would break a reference: row 1 refers to nothing.\n"
            )
    assert [path.name for path in tmp_path.glob("*.bak*")] == []
    assert run_command("check").exit_code == 0
    assert [
        revision for path in tmp_path.glob("*.bak") for revision in revisions() if f".{revision}-" in path.name
    ] == ["0004"]
    assert list(tmp_path.glob("*.part*")) == []


def test_check_reports_damage_only_for_a_damaged_file(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("seed", "--from", str(EXAMPLES))
    run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", "DROP TRIGGER contacts_log_created")

    checked = run_command("check")
    assert "integrity: ok" in checked.stdout
    assert (checked.exit_code, checked.stderr) == (
        1,
        "fault: contacts_log_created is missing or changed\n"
        "Error: The rows are undamaged, but the schema isn't Cardfile's: `import` an `export` into a new database.\n",
    )

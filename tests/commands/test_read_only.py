"""A database that can't be written, as on a read-only medium: commands that read work, others say what to do."""

import ctypes
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from database.schema import revisions
from database.sqlite import driver as sqlite
from tests.commands.conftest import run_commands
from tests.conftest import EXAMPLES

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
READS = [["check"], ["export", "../out"], ["backup", "../copy.db"], ["keys", "list"]]
# As the commands see it, whose locale is another one than that of the tests.
EXAMPLES_PATH = os.fsencode(EXAMPLES).decode(errors="surrogateescape")
WRITES = [
    ["serve", "--port", "0"],
    ["keys", "create", "a"],
    ["keys", "delete", "a"],
    ["seed"],
    ["import", EXAMPLES_PATH.rpartition("/")[0]],
    ["forget", "contacts", "a"],
    ["restore"],
    ["restore", EXAMPLES_PATH],
]


# Of a transaction that was cut off; by its magic number (sqlite.org/fileformat2.html) SQLite wants to roll it back.
HOT_JOURNAL = bytes.fromhex("d9d505f920a163d7") + bytes(1000)


def obey_file_modes() -> None:
    """Let the modes of files bind the next program, even if root runs it."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)


def run(folder: Path, *commands: list[str]) -> list[str]:
    return run_commands(folder, list(commands), {}, preexec_fn=obey_file_modes).splitlines()


@pytest.fixture
def make_read_only(tmp_path: Path, run_command: Callable[..., Result]) -> Callable[..., Path]:
    """Return a function that copies a database with one company and files beside it to a read-only folder.

    The database is "closed", a "backup", or "open": then the company is in its WAL only.
    """
    path = tmp_path / "cardfile.db"
    run_command("keys", "create", "a")
    with closing(sqlite.connect(path)) as reader:
        reader.execute("SELECT 1 FROM companies").fetchall()
        run_command("seed", "--from", str(EXAMPLES))
        shutil.copytree(tmp_path, tmp_path / "open")
    (tmp_path / "backup").mkdir()
    run_command("backup", "backup/cardfile.db")

    def make(kind: str, *beside: str, file_mode: int = 0o444, folder_mode: int = 0o555) -> Path:
        folder = tmp_path / "why? 100%"
        folder.mkdir()
        shutil.copy(path if kind == "closed" else tmp_path / kind / "cardfile.db", folder)
        for suffix in beside:
            source = tmp_path / kind / f"cardfile.db{suffix}"
            shutil.copy(source, folder) if source.exists() else (folder / source.name).touch()
        for each in folder.iterdir():
            each.chmod(file_mode)
        folder.chmod(folder_mode)
        return folder

    return make


@pytest.mark.parametrize(
    ("database", "modes"),
    [
        (["closed"], {}),
        pytest.param(["closed"], {"file_mode": 0o644}, marks=pytest.mark.tools),
        pytest.param(["closed"], {"folder_mode": 0o755}, marks=pytest.mark.tools),
        pytest.param(["closed", "-wal"], {}, marks=pytest.mark.tools),
        pytest.param(["backup"], {}, marks=pytest.mark.tools),
        pytest.param(["backup"], {"folder_mode": 0o755}, marks=pytest.mark.tools),
        pytest.param(["open", "-wal", "-shm"], {}, marks=pytest.mark.tools),
        (["open", "-wal"], {"folder_mode": 0o755}),
    ],
)
def test_commands_that_only_read_work(
    make_read_only: Callable[..., Path], tmp_path: Path, database: list[str], modes: dict[str, int]
) -> None:
    folder = make_read_only(*database, **modes)
    before = sorted(folder.iterdir())
    restore = ["restore", "cardfile.db", "--database", "sqlite:///../restored.db"]
    copy = ["copy", "--from", "sqlite:///cardfile.db", "--to", "sqlite:///../copied.db"]
    lines = run(folder, *READS, restore, copy, ["check", "--database", "sqlite:///../restored.db"])

    assert lines[1] == "integrity: ok"
    assert lines[4] == "Wrote 1 companies, 1 contacts, 1 conversations."
    assert lines[5] == "Wrote ../copy.db."
    assert lines[7].endswith("-                     a")
    assert lines[8].startswith(f"Restored {tmp_path}/")
    assert "integrity: ok" in lines[9:]
    assert len([line for line in lines if line.startswith("Copied and compared ") and "1 companies" in line]) == 1
    assert not [line for line in lines if line.startswith("Error")]
    assert sorted(folder.iterdir()) == before or database == ["open", "-wal"]
    with closing(sqlite.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM companies").fetchone() == (1,)


@pytest.mark.parametrize("modes", [{"file_mode": 0o644}, {"folder_mode": 0o755}])
def test_commands_that_write_say_what_must_be_writable(
    make_read_only: Callable[..., Path], modes: dict[str, int]
) -> None:
    folder = make_read_only("closed", **modes)
    sentence = (
        f"Error: {folder}/cardfile.db can't be written: it and its folder {folder} must be writable,"
        " because SQLite keeps its WAL beside the file."
    )

    assert run(folder, *WRITES) == [sentence] * len(WRITES)
    assert [path.name for path in folder.iterdir()] == ["cardfile.db"]


def test_a_link_counts_as_the_file_that_it_points_to(make_read_only: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "cardfile.db").symlink_to(make_read_only("open", "-wal", "-shm") / "cardfile.db")
    assert run(tmp_path / "link", ["export", "../out"]) == ["Wrote 1 companies, 1 contacts, 1 conversations."]
    (tmp_path / "link" / "writable.db").symlink_to(tmp_path / "cardfile.db")
    (tmp_path / "link").chmod(0o555)
    [key] = run(tmp_path / "link", ["keys", "create", "b", "--database", "sqlite:///writable.db"])
    assert key.startswith("cfk_")


def test_a_database_is_not_created_in_a_read_only_folder(make_read_only: Callable[..., Path]) -> None:
    folder = make_read_only("closed")
    [line] = run(folder, ["serve", "--port", "0", "--database", "sqlite:///new.db"])

    assert line.startswith(f"Error: {folder}/new.db can't be written: it and its folder {folder} must be writable")


@pytest.mark.parametrize(("kind", "suffix"), [("open", "-wal"), ("open", "-shm"), ("backup", "-journal")])
def test_a_wal_or_journal_that_cannot_be_read_is_an_error(
    make_read_only: Callable[..., Path], tmp_path: Path, kind: str, suffix: str
) -> None:
    (tmp_path / "backup" / "cardfile.db-journal").write_bytes(HOT_JOURNAL)
    folder = make_read_only(kind, suffix)
    restore = ["restore", "cardfile.db", "--database", "sqlite:///../restored.db"]
    *lines, last = run(folder, *READS, restore)

    name = f"cardfile.db{suffix}"
    reason = f"SQLite must write to read {name}: copy cardfile.db and {name} to a folder that can be written."
    assert lines == [f"Error: {folder}/cardfile.db can't be opened: {reason}"] * len(READS)
    assert last == f"Error: cardfile.db is not a usable backup: {reason}"
    assert list(folder.parent.glob("*out*")) == []


def test_an_older_schema_is_not_upgraded_but_named(make_read_only: Callable[..., Path], tmp_path: Path) -> None:
    with closing(sqlite.connect(tmp_path / "cardfile.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0004'")
    folder = make_read_only("closed")

    sentence = (
        f"Error: {folder}/cardfile.db can't be upgraded to schema {revisions()[-1]}: it and its folder {folder}"
        " must be writable, because SQLite keeps its WAL beside the file."
    )
    assert run(folder, *READS) == [sentence] * len(READS)

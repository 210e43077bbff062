"""The commands: their output, errors and exit status."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from auth import is_well_formed
from database.sqlite import driver as sqlite
from tests.commands.conftest import run_commands
from tests.conftest import EXAMPLES, ROOT, LiveServer, send_request

RunCommand = Callable[..., Result]

NAME_A_DATABASE = "name a file, as in ./cardfile.db or sqlite:///cardfile.db, or a PostgreSQL database"
NAME_ORIGINS = "be none, *, or origins as in https://app.example,http://localhost:5173"
LIMIT_REQUESTS = "be off, or requests per second, minute, hour or day, as in 100/minute"


def test_a_generated_key_is_whole_and_stored_nowhere(run_command: RunCommand, tmp_path: Path) -> None:
    keys = {run_command("keys", "generate").stdout for _time in range(3)}

    assert len(keys) == 3 and all(is_well_formed(key.removesuffix("\n")) for key in keys)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_created_listed_and_deleted(run_command: RunCommand) -> None:
    created = run_command("keys", "create", "Nightly sync", "--scope", "write", "--expires", "30")
    assert is_well_formed(created.stdout.removesuffix("\n"))

    header, line = run_command("keys", "list").stdout.splitlines()
    assert header.split() == ["id", "prefix", "scope", "createdAt", "lastUsedAt", "expiresAt", "name"]
    key_id, prefix, scope, created_at, last_used, expires, *name = line.split()
    assert created.stdout.startswith(prefix)
    assert (scope, last_used, " ".join(name)) == ("write", "-", "Nightly sync")
    assert created_at < expires
    assert created.stdout.strip() not in line

    assert run_command("keys", "delete", key_id).exit_code == 0
    assert len(run_command("keys", "list").stdout.splitlines()) == 1
    again = run_command("keys", "delete", key_id)
    assert (again.exit_code, again.stderr) == (1, f"Error: There is no key with the id {key_id}: see `keys list`.\n")


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize(
    "command",
    [
        "serve --port 0",
        "seed --reset --yes",
        "demo reset --yes",
        "seed --from rows.json",
        "import contacts.ndjson",
        "export rows",
        "keys list",
        "keys create a",
        "keys delete a",
        "check",
        "backup b.db",
        "forget contacts a",
        "restore",
        "restore own.db",
        "restore other.db --database sqlite:///own.db",
        "copy --from sqlite:///own.db --to sqlite:///other.db",
        "copy --from sqlite:///other.db --to sqlite:///new.db",
    ],
)
def test_the_file_of_another_program_is_refused_and_not_a_byte_of_it_changes(
    run_command: RunCommand, tmp_path: Path, empty_database: Path, command: str, mode: str
) -> None:
    shutil.copy(empty_database, tmp_path / "own.db")
    shutil.copy(EXAMPLES, tmp_path / "rows.json")
    (tmp_path / "contacts.ndjson").write_text('{"name": "Ann"}\n', encoding="utf-8")
    other = tmp_path / "other.db"
    with closing(sqlite.connect(other)) as connection:
        connection.executescript(f"PRAGMA journal_mode = {mode}; CREATE TABLE bookmarks (url)")
    before = other.read_bytes(), other.stat().st_mtime_ns
    names = sorted(tmp_path.iterdir())

    options = () if "sqlite:///" in command else ("--database", "sqlite:///other.db")
    refused = run_command(*command.split(), *options)
    assert (refused.exit_code, "not Cardfile's" in refused.stderr) == (1, True), refused.stderr
    assert (other.read_bytes(), other.stat().st_mtime_ns) == before
    assert sorted(tmp_path.iterdir()) == names


@pytest.mark.parametrize("script", [pytest.param(["service.py", "seed"], marks=pytest.mark.tools), ["seed.py"]])
def test_both_seed_scripts_load_demo_data(tmp_path: Path, script: list[str]) -> None:
    path, *command = script

    def run_script(*options: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, ROOT / path, *command, *options]
        return subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    completed = run_script("--companies", "3")
    assert (completed.returncode, completed.stdout) == (0, "")
    assert completed.stderr.startswith("Loaded 3 companies, ")
    again = run_script()
    sentence = "Error: The database has rows already: add --reset to delete them first.\n"
    assert (again.returncode, again.stderr) == (1, sentence)
    [undo] = re.findall("^To undo: (.*)$", completed.stderr, re.M)
    undone = subprocess.run(shlex.split(undo), cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert len(undone.stdout.splitlines()) > 3


def test_a_key_that_cannot_be_printed_is_not_stored(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("keys", "create", "first")
    command = [sys.executable, ROOT / "service.py", "keys", "create", "second"]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        refused = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)

    assert (refused.returncode, refused.stderr) == (1, b"Error: The output: No space left on device.\n")
    assert "second" not in run_command("keys", "list").stdout


@pytest.mark.parametrize("command", [("seed", "--reset"), ("demo", "reset")])
def test_reset_asks_for_confirmation(run_command: RunCommand, tmp_path: Path, command: tuple[str, ...]) -> None:
    run_command("seed", "--from", str(EXAMPLES))

    refused = run_command(*command, input="n\n")
    assert refused.exit_code == 1
    assert "Delete 1 companies, 1 contacts, 1 conversations?" in refused.stdout
    with sqlite.connect(tmp_path / "cardfile.db") as connection:
        assert connection.execute("SELECT count(*) FROM companies").fetchone() == (1,)
    connection.close()

    assert "Loaded 50 companies" in run_command(*command, "--yes").stderr


def test_check_prints_the_versions_and_finds_damage(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("keys", "create", "a")
    undamaged = run_command("check")
    assert undamaged.exit_code == 0
    assert [line.split(":")[0] for line in undamaged.stdout.splitlines()] == [
        "database",
        "integrity",
        "schema",
        "version",
    ]
    assert "integrity: ok" in undamaged.stdout

    with sqlite.connect(tmp_path / "cardfile.db") as connection:
        connection.execute(
            "INSERT INTO contacts (id, company_id, name, is_primary, created_at, updated_at) VALUES"
            " ('b', 'nobody', 'John', 0, '2024-01-01T00:00:00Z', '2024-01-01T00:00:00Z')"
        )
    connection.close()
    damaged = run_command("check")
    assert damaged.exit_code == 1
    assert damaged.stderr.splitlines() == [
        "fault: row 1 of contacts refers to a row of companies that is missing",
        "Error: The database is damaged: restore a backup.",
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--port", "x"], {}, "--port must be a whole number from 0 to 65535, not 'x'."),
        (["--port", "65536"], {}, "--port must be a whole number from 0 to 65535, not '65536'."),
        ([], {"PORT": "-1"}, "PORT must be a whole number from 0 to 65535, not '-1'."),
        ([], {"THREADS": "0"}, "THREADS must be a whole number from 1 to 64, not '0'."),
        (["--port", f"{10**20:031}"], {}, f"--port must be a whole number from 0 to 65535, not '{10**20:031}'."),
        (["--port", f"{1:05000}"], {}, f"--port must be a whole number from 0 to 65535, not '{1:05000}'."),
        ([], {"RATE_LIMIT": "100"}, f"RATE_LIMIT must {LIMIT_REQUESTS}, not '100'."),
        (["--rate-limit", "0/minute"], {}, f"--rate-limit must {LIMIT_REQUESTS}, not '0/minute'."),
        ([], {"RATE_LIMIT": "9 per day"}, f"RATE_LIMIT must {LIMIT_REQUESTS}, not '9 per day'."),
        ([], {"CORS_ORIGINS": "app.example"}, f"CORS_ORIGINS must {NAME_ORIGINS}, not 'app.example'."),
        (["--cors-origins", ""], {}, f"--cors-origins must {NAME_ORIGINS}, not ''."),
        ([], {"LOG_FORMAT": "xml"}, "LOG_FORMAT must be text or json, not 'xml'."),
        (["--host", "a b"], {}, "--host must be a host name or an IP address, without a port, not 'a b'."),
        ([], {"DATABASE_URL": "cardfile"}, f"DATABASE_URL must {NAME_A_DATABASE}, not 'cardfile'."),
        ([], {"DATABASE_URL": "a.db?mode=ro"}, f"DATABASE_URL must {NAME_A_DATABASE}, not '***'."),
        ([], {"DATABASE_URL": "file:a.db"}, f"DATABASE_URL must {NAME_A_DATABASE}, not '***'."),
        (["--database", ":memory:"], {}, f"--database must {NAME_A_DATABASE}, not '***'."),
        (["--database", ""], {}, f"--database must {NAME_A_DATABASE}, not ''."),
        (["--database", "./"], {}, f"--database must {NAME_A_DATABASE}, not './'."),
        (["--database", "sqlite:///."], {}, f"--database must {NAME_A_DATABASE}, not 'sqlite:///.'."),
        (["--database", "sqlite://"], {}, f"--database must {NAME_A_DATABASE}, not 'sqlite://'."),
    ],
)  # fmt: skip
def test_an_invalid_setting_is_an_error_of_one_line(
    run_command: RunCommand, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    completed = run_command("serve", *arguments, env=environment)

    assert (completed.exit_code, completed.stdout) == (1, "")
    assert completed.stderr == f"Error: {sentence}\n"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:otS33cret+tb/e4=@localhost:5432",
        "postgresql://me:p@S33cret@localhost",
        "postgresql://me:p@S33cret@localhost/cardfile",
        "postgresql://me:S33cret@localhost:port/cardfile",
        "postgresql://me:S33cret",
        "postgresql:me:S33cret@localhost/cardfile",
        "postgresql://me:a?S33cret@nowhere.invalid/cardfile",
        "postgresql://me:S33cret@nowhere.invalid/cardfile",
        "postgresql://me:%533%33cret@nowhere.invalid/cardfile",
        "postgresql://nowhere.invalid/cardfile?user=me&password=S33cret",
        "postgresql://nowhere.invalid/cardfile?pasword=S33cret",
        "postgresql://nowhere.invalid/cardfile?host=S33cret.invalid",
        "mysql://me:a:b/S33cret@db/x",
        "postgresql://me:p@ss/S33cret@localhost/cardfile",
        "postgresql://me/x:S33cret@localhost:59/cardfile",
        "postgresql://me:S33cret@/cardfile?host=/tmp,/x&port=1",
        "postgresql://me:S33cret@/cardfile?host=/tmp&port=abc",
        "password=S33cret host=localhost",
        "sqlite://me:S33cret@host/x",
        "sqlite:///x.db?password=S33cret",
        "sqlite:///x?S33cret.db",
        "S33cret@localhost/cardfile",
    ],
)
def test_no_message_has_a_part_of_a_password(run_command: RunCommand, url: str) -> None:
    pytest.importorskip("psycopg")
    for command in ["check"], ["serve", "--port", "0"], ["check", "--database", url]:
        completed = run_command(*command, env={"DATABASE_URL": url})

        assert completed.exit_code == 1
        assert completed.stderr.startswith("Error: ") and completed.stderr.count("\n") <= 3
        assert not re.search("cret|S33|e4=", completed.output)


def test_a_database_url_with_an_unescaped_at_sign_says_how_to_escape_it(run_command: RunCommand) -> None:
    completed = run_command("check", env={"DATABASE_URL": "postgresql://me:p@ssw0rd@localhost/cardfile"})

    sentence = "DATABASE_URL must have each @ in the password percent-encoded, as %40, not 'postgresql://***'."
    assert completed.stderr == f"Error: {sentence}\n"


def test_files_can_be_read_by_their_owner_alone(tmp_path: Path, start_server: Callable[..., LiveServer]) -> None:
    server = start_server("serve", "--demo", umask=0o022)
    server.read_first_key()
    for command in ("backup", "b.db"), ("restore", "b.db"), ("export", "out"), ("export", "out", "--format", "csv"):
        subprocess.run([sys.executable, ROOT / "service.py", *command], cwd=tmp_path, check=True, umask=0o022)

    assert send_request(server)[0] == 200
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert {"cardfile.db-shm", "cardfile.db-wal"} < set(names)
    assert len(names) == 13
    assert {name: oct((tmp_path / name).stat().st_mode & 0o077) for name in names} == dict.fromkeys(names, "0o0")


def test_a_file_that_exists_keeps_its_mode(run_command: RunCommand, tmp_path: Path) -> None:
    path = tmp_path / "cardfile.db"
    path.touch()
    path.chmod(0o640)
    run_command("seed")

    assert oct(path.stat().st_mode & 0o777) == "0o640"


@pytest.mark.parametrize(
    "path", ["x.db", "./x", "../x", "folder/x", "{folder}/x", "{folder}/me@work: x?", "./a=b", "ä ö.db", "a%20b.db"]
)
def test_a_database_can_be_named_by_its_path(run_command: RunCommand, tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    path = path.format(folder=tmp_path)
    run_command("keys", "create", "a", "--database", path)

    assert (tmp_path / path).is_file()
    assert " a\n" in run_command("keys", "list", env={"DATABASE_URL": path}).stdout


def test_a_path_in_a_folder_that_is_missing_is_an_error_of_one_line(run_command: RunCommand, tmp_path: Path) -> None:
    refused = run_command("keys", "create", "a", "--database", "localhost/cardfile")

    assert refused.exit_code == 1
    sentence = f"There is no folder {tmp_path}/localhost for the database: create it first."
    assert refused.stderr == f"Error: {sentence}\n"


def test_a_folder_with_the_name_of_the_default_database_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "cardfile.db").mkdir()
    refused, created = [["keys", "list"]], [["keys", "create", "a", "--database", "b.db"]]

    sentence = "Error: The default of DATABASE_URL must name a file"
    assert re.match(f"{sentence}.*, not 'sqlite:///cardfile.db'.\n$", run_commands(tmp_path, refused, {}))
    assert run_commands(tmp_path, created, {}).startswith("cfk_")


def test_a_flag_overrides_the_environment(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("keys", "create", "a", "--database", "sqlite:///flag.db", env={"DATABASE_URL": "sqlite:///variable.db"})
    run_command("keys", "create", "a", env={"DATABASE_URL": "sqlite:///variable.db"})
    run_command("keys", "create", "a", env={"DATABASE_URL": ""})

    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["cardfile.db", "flag.db", "variable.db"]


def test_the_error_for_an_unknown_command_or_option_names_it(run_command: RunCommand) -> None:
    assert "No such command 'sreve'" in run_command("sreve").stderr
    assert "No such option '--prot'" in run_command("--prot", "9").stderr


def test_version_and_help_do_not_start_the_server(run_command: RunCommand) -> None:
    assert re.match(
        r"cardfile \d+\.\d+\.\d+ \(SQLite 3\.\d+\.\d+, Python 3\.\d+\.\d+\)\n$", run_command("--version").stdout
    )
    assert "keys" in run_command("--help").stdout


@pytest.mark.parametrize("name", ["", " ", "\u00a0", "\u200b", "a\x1bb", "a\nb"])
def test_the_name_of_a_key_must_be_visible_and_printable(run_command: RunCommand, name: str) -> None:
    refused = run_command("keys", "create", name)

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Invalid value for NAME: Must not be blank, nor have line feeds" in refused.stderr


@pytest.mark.parametrize("command", [["check"], ["backup", "copy.db"], ["keys", "list"], ["keys", "delete", "x"]])
def test_a_missing_database_is_refused_and_not_created(
    run_command: RunCommand, tmp_path: Path, command: list[str]
) -> None:
    refused = run_command(*command, "--database", "sqlite:///typo.db")

    assert (refused.exit_code, refused.stderr) == (1, f"Error: There is no database at {tmp_path}/typo.db.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["a%41b", "why?x", "with space#1"])
def test_the_commands_work_in_a_folder_with_special_characters(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)

    assert run_command("keys", "create", "a").exit_code == 0
    assert (tmp_path / folder / "cardfile.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_check_reports_a_missing_trigger_or_index(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("keys", "create", "a")
    with sqlite.connect(tmp_path / "cardfile.db") as connection:
        connection.execute("DROP TRIGGER contacts_log_updated")
        connection.execute("DROP INDEX ix_contacts_email_created_at_id")
    connection.close()

    errors = [line for line in run_command("check").stderr.splitlines() if line.startswith("fault")]
    assert sorted(errors) == [
        "fault: contacts_log_updated is missing or changed",
        "fault: ix_contacts_email_created_at_id is missing or changed",
    ]


def test_seed_stores_the_rows_of_a_file(run_command: RunCommand, tmp_path: Path) -> None:
    loaded = run_command("seed", "--from", str(EXAMPLES)).stderr
    assert loaded.startswith("Loaded 1 companies, 1 contacts, 1 conversations.\nTo undo: cli revert --request ")
    with sqlite.connect(tmp_path / "cardfile.db") as connection:
        logged = [json.loads(row[0]) for row in connection.execute("SELECT data FROM changes ORDER BY seq")]
    connection.close()

    assert logged == [rows[0] for rows in json.loads(EXAMPLES.read_text(encoding="utf-8")).values()]


def test_a_backup_is_a_complete_database(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("seed", "--from", str(EXAMPLES))

    assert run_command("backup", "copy.db").exit_code == 0
    assert run_command("check", "--database", "sqlite:///copy.db").exit_code == 0
    with sqlite.connect(tmp_path / "copy.db") as connection:
        assert connection.execute("SELECT count(*) FROM changes").fetchone() == (3,)
    connection.close()

    again, missing_folder = run_command("backup", "copy.db"), run_command("backup", "nowhere/copy.db")
    assert (again.exit_code, again.stderr) == (1, "Error: copy.db exists: name a new file.\n")
    assert (missing_folder.exit_code, missing_folder.stderr) == (
        1,
        "Error: nowhere/copy.db.part: No such file or directory.\n",
    )


def test_a_command_reads_only_the_settings_that_it_has_options_for(run_command: RunCommand) -> None:
    others = {"HOST": "a b", "PORT": "tcp://10.0.0.7:8000", "SERVER": "web1", "WORKERS": "auto", "LOG_FORMAT": "xml"}
    for command in (
        ["seed"],
        ["keys", "list"],
        ["export", "a"],
        ["import", "a"],
        ["backup", "b"],
        ["restore", "b"],
        ["check"],
    ):
        assert run_command(*command, env=others).exit_code == 0, command
        assert run_command(*command, env={"DATABASE_URL": "x"}).exit_code == 1
    for name, value in others.items():
        assert run_command("serve", env={name: value}).stderr.startswith(f"Error: {name} must be ")

"""`revert` takes changes back; commands that write print how to undo them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.conftest import run_external_sql

RunCommand = Callable[..., Result]


def rows(folder: Path, sql: str = "SELECT name FROM companies ORDER BY name") -> list[str]:
    return [row[0] for row in run_external_sql(f"sqlite:///{folder}/cardfile.db", sql)]


def undo(result: Result) -> list[str]:
    """Return the arguments of the command that undoes another, as that one printed it."""
    [command] = re.findall("^To undo: cli (.*)$", result.stderr, re.M)
    return str(command).split()


@pytest.mark.parametrize("name", ["rows.json", "companies.ndjson"])
def test_the_printed_command_undoes_a_command_and_then_its_undoing(
    run_command: RunCommand, tmp_path: Path, name: str
) -> None:
    acme = '{"id": "acme", "name": "Acme"}'
    (tmp_path / name).write_text(acme if name.endswith("ndjson") else f'{{"companies": [{acme}]}}', encoding="utf-8")
    command = ["import", name] if name.endswith("ndjson") else ["seed", "--from", name]
    stored = run_command(*command)
    assert rows(tmp_path) == ["Acme"]

    reverted = run_command(*undo(stored))
    assert (reverted.exit_code, reverted.stdout, rows(tmp_path)) == (0, "2 deleted companies/acme\n", [])
    assert run_command(*undo(reverted)).stdout == "3 created companies/acme\n"
    assert rows(tmp_path) == ["Acme"]


@pytest.mark.parametrize("command", ["seed --reset --yes --companies 1", "demo reset --yes"])
def test_the_printed_command_undoes_a_reset(run_command: RunCommand, tmp_path: Path, command: str) -> None:
    (tmp_path / "companies.ndjson").write_text('{"id": "acme", "name": "Acme"}', encoding="utf-8")
    run_command("import", "companies.ndjson")
    reset = run_command(*command.split())
    assert "Acme" not in rows(tmp_path)

    assert run_command(*undo(reset)).exit_code == 0
    assert rows(tmp_path) == ["Acme"]
    ranges = rows(tmp_path, "SELECT first_seq || '-' || last_seq FROM writes ORDER BY first_seq")
    numbers = [number for each in ranges for number in range(int(each.split("-")[0]), int(each.split("-")[1]) + 1)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_command_that_changes_nothing_has_nothing_to_undo(run_command: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "companies.ndjson").write_text('{"id": "acme", "name": "Acme"}', encoding="utf-8")
    assert "To undo" in run_command("import", "companies.ndjson").stderr
    assert "To undo" not in run_command("import", "companies.ndjson").stderr


def test_the_printed_command_names_the_database(run_command: RunCommand, tmp_path: Path) -> None:
    seeded = run_command("seed", "--companies", "2", "--database", "sqlite:///other.db")
    assert run_command(*undo(seeded)).exit_code == 0
    assert run_external_sql(f"sqlite:///{tmp_path}/other.db", "SELECT count(*) FROM companies") == [(0,)]


@pytest.mark.tools
@pytest.mark.databases("postgresql")
def test_the_printed_command_has_no_password(run_command: RunCommand, database: str) -> None:
    url = database.replace("postgres:@", "postgres:secret@")
    seeded = run_command("seed", "--companies", "1", "--database", url)
    assert "--database 'postgresql+psycopg://postgres:***@" in seeded.stderr and "secret" not in seeded.stderr


def test_a_dry_run_prints_what_it_would_do_and_changes_nothing(run_command: RunCommand, tmp_path: Path) -> None:
    run_command("seed", "--companies", "2")
    before, writes = rows(tmp_path), rows(tmp_path, "SELECT count(*) FROM writes")
    shown = run_command("revert", "--to", "0", "--dry-run")

    assert shown.stdout.count(" deleted companies/") == 2 and shown.stderr == "Nothing was changed.\n"
    assert (rows(tmp_path), rows(tmp_path, "SELECT count(*) FROM writes")) == (before, writes)


def test_the_rows_that_are_left_out_are_named(run_command: RunCommand, tmp_path: Path) -> None:
    data = '{"companies": [{"id": "acme", "name": "Acme"}, {"id": "globex", "name": "Globex"}]}'
    (tmp_path / "rows.json").write_text(data, encoding="utf-8")
    request = undo(run_command("seed", "--from", "rows.json"))[-1]
    sql = "INSERT INTO contacts (id, company_id, name, is_primary, created_at, updated_at)"
    sql += " SELECT 'ann', id, 'Ann', 0, created_at, updated_at"
    run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", f"{sql} FROM companies WHERE id = 'acme'")

    for options, end in (("--dry-run",), "Nothing was changed.\n"), ((), "To undo: "):
        result = run_command("revert", "--request", request, "--conflicts", "skip", *options)
        assert result.stdout == "4 deleted companies/globex\n"
        assert result.stderr.startswith(f"Left out: companies/acme: contacts/ann is in it.\n{end}")
    assert rows(tmp_path) == ["Acme"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "Error: Name the changes by --request, by --key and --since, or by --to.\n"),
        (("--to", "1", "--request", "x"), "Error: Name the changes by --request, by --key and --since, or by --to.\n"),
        (("--key", "x"), "Error: Name the changes by --request, by --key and --since, or by --to.\n"),
        (("--to", "9"), "Error: to: Must not be after the last change, 3.\n"),
        (("--request", "nobody"), "Error: There are no changes by the request nobody.\n"),
        (("--key", "nobody", "--since", "0"), "Error: There are no changes by the key nobody.\n"),
        (
            ("--request", "REQUEST"),
            "companies/acme: Was changed afterwards, by change 2.\nAdd --conflicts skip or --conflicts overwrite.\n",
        ),
    ],
)
def test_the_error_names_the_changes_that_cannot_be_reverted(
    run_command: RunCommand, tmp_path: Path, arguments: tuple[str, ...], error: str
) -> None:
    (tmp_path / "companies.ndjson").write_text('{"id": "acme", "name": "Acme"}', encoding="utf-8")
    request = undo(run_command("import", "companies.ndjson"))[-1]
    for name in "Acme Corporation", "Acme Ltd":
        run_external_sql(f"sqlite:///{tmp_path}/cardfile.db", f"UPDATE companies SET name = '{name}'")

    refused = run_command("revert", *(each.replace("REQUEST", request) for each in arguments))
    assert refused.exit_code and refused.stderr.endswith(error)
    assert rows(tmp_path) == ["Acme Ltd"]
    for mode, left in ("skip", ["Acme Ltd"]), ("overwrite", []):
        assert run_command("revert", "--request", request, "--conflicts", mode).exit_code == 0
        assert rows(tmp_path) == left

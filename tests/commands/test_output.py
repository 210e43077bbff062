"""The output in terminals whose encoding lacks characters of paths and names."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import run_commands
from tests.conftest import ROOT, LiveServer, send_request

LATIN = {"PYTHONIOENCODING": "latin-1"}
COMMANDS = [
    ["keys", "create", "名"],
    ["keys", "list"],
    ["check"],
    ["backup", "本"],
    ["backup", "本"],
    ["restore", "本"],
    ["export", "日"],
    ["import", "日"],
    ["keys", "delete", "日"],
    ["forget", "contacts", "日"],
    ["check", "--database", "sqlite:///日.db"],
    ["check", "--日"],
    ["日"],
]


FOLDERS: list[object] = [
    pytest.param("日本", LATIN, r"\u65e5\u672c", marks=pytest.mark.tools),
    pytest.param("日本", {"PYTHONIOENCODING": "ascii"}, "日本", marks=pytest.mark.tools),
    pytest.param("J\udcfcrgen", {"PYTHONIOENCODING": "utf-8"}, r"J\udcfcrgen", marks=pytest.mark.tools),
]
# In an ASCII locale, Python itself can't import packages from a folder like Zoë since 3.12.
if str(ROOT).isascii() or sys.version_info < (3, 12):
    FOLDERS.append(("日本", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "??????"))


@pytest.mark.parametrize(("folder", "environment", "shown"), FOLDERS)
def test_the_first_key_is_shown_in_any_folder_and_encoding(
    tmp_path: Path, folder: str, environment: dict[str, str], shown: str
) -> None:
    path = tmp_path / os.fsdecode(folder.encode(errors="surrogateescape"))
    path.mkdir()
    environment = {"LC_ALL": "C.UTF-8", **environment}
    server = LiveServer(path, **environment)
    try:
        server.read_first_key()
        assert send_request(server) == (200, b"[]")
        assert server.stop(signal.SIGTERM) == 0
    finally:
        server.close()

    assert f"/{shown}/cardfile.db (SQLite" in server.first_line
    output = run_commands(path, COMMANDS, environment)
    assert "integrity: ok" in output
    assert "Traceback" not in output


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    key, _header, listed, *rest = run_commands(tmp_path, COMMANDS, LATIN).splitlines()

    assert key.startswith("cfk_")
    assert listed.endswith(r"  \u540d")
    assert r"Error: \u672c exists: name a new file." in rest


def test_an_argument_that_is_not_utf_8_is_an_error_of_one_line(tmp_path: Path) -> None:
    commands = [["keys", "delete", "\udcff"], ["forget", "contacts", "\udcff"], ["keys", "create", "\udcff"]]

    output = run_commands(tmp_path, [["seed"], *commands], {})

    assert "Traceback" not in output
    assert [line for line in output.splitlines() if line.startswith("Error")] == [
        r"Error: '\udcff' is not UTF-8.",
        r"Error: '\udcff' is not UTF-8.",
        "Error: Invalid value for NAME: Must not contain an unpaired surrogate.",
    ]


def test_files_may_have_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = "\udcff"
    commands = [["seed"], ["backup", name], ["restore", name], ["export", f"{name}.out"], ["import", f"{name}.out"]]
    output = run_commands(tmp_path, commands, {})

    assert "Traceback" not in output and "Error" not in output
    assert Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).stat().st_size > 0


def run_without_reader(folder: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose standard output is a pipe that nothing reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, ROOT / "service.py", *command]
    with open(writer, "wb") as output:
        return subprocess.run(arguments, cwd=folder, stdout=output, stderr=subprocess.PIPE, check=False, timeout=60)


@pytest.mark.parametrize(
    "command", [["keys", "list"], ["keys", "create", "second"], ["check"], ["serve", "--port", "0"]]
)
def test_a_reader_of_the_output_that_leaves_ends_a_command_silently(tmp_path: Path, command: list[str]) -> None:
    run_commands(tmp_path, [["keys", "create", "first"]], {})
    ended = run_without_reader(tmp_path, *command)

    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")
    assert "second" not in run_commands(tmp_path, [["keys", "list"]], {})


def test_a_revert_whose_output_nothing_reads_names_its_request(tmp_path: Path) -> None:
    run_commands(tmp_path, [["seed", "--companies", "1"]], {})
    ended = run_without_reader(tmp_path, "revert", "--to", "0")

    assert ended.returncode == 128 + signal.SIGPIPE
    assert ended.stderr.startswith(b"To undo: ") and ended.stderr.count(b"\n") == 1

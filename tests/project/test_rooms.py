"""In copies of the project, a room can be removed and a fourth resource added."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.soak.conftest import times

# The command file of each room, the lines in other files that import or call the room, and a request or command of it.
ROOMS = {
    "openapi": ("", r"from openapi import .*|    init_openapi\(app\)", "GET /openapi.json"),
    "pages": ("", r"from pages import .*|    init_pages\(app\)", "GET /settings/activity"),
    "server": ("serve", r"from server\.log import .*|    init_log\(.*|.*serve.*", "serve"),
    "transfer": ("files", r".*(export|import)_command.*|from transfer import .*|    init_transfer\(app\)", "export"),
    "operate": ("database", r".*(operat|backup|restore|copy|forget|check).*", "GET /healthz"),
    "mcp": ("mcp", r".*mcp.*", "POST /mcp"),
    "webhooks": ("", r"from webhooks import .*|    init_webhooks\(.*", "OPTIONS /api/v1/webhooks"),
}
# Prints the requests that are not 404, and the commands that exist.
FIND_ROOMS = """
import re
import sys
from commands import cli
from service import create_app
from settings import load_settings
client = create_app(load_settings({"database_url": "sqlite:///rooms.db"}, {})).test_client()
for name in sys.argv[1:]:
    method, _, path = name.partition(" ")
    if client.open(path, method=method).status_code != 404 if path else name in cli.commands:
        print(name)
# Every page of the documentation is there, also without the room.
for path in {*re.findall('href="(/docs[^"#]*)', client.get("/docs").text)}:
    assert client.get(path).status_code == 200, path
"""


DESCRIBE_TASKS = """
from service import create_app
from settings import load_settings
client = create_app(load_settings({"database_url": "sqlite:///tasks.db"}, {})).test_client()
print(client.get("/api/v1/tasks").status_code)
print("/api/v1/tasks/{id}" in client.get("/openapi.json").json["paths"])
print('id="listTasks"' in client.get("/docs/api/tasks").text)
"""


@pytest.fixture
def project_copy(tmp_path: Path) -> Path:
    """Return a copy of the project."""
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", ".*_cache", "__pycache__", "node_modules", "build", "dist", "*.db*"
    )
    return Path(shutil.copytree(ROOT, tmp_path / "copy", ignore=ignored))


def run_command(folder: Path, *command: str) -> str:
    """Run a command in a copy; return what it prints."""
    # One case of each test: all of them would take a minute.
    environment = {**os.environ, "ONE_OF_EACH": "1"}
    completed = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=500
    )
    assert completed.returncode == 0, completed.stdout[-3000:] + completed.stderr[-3000:]
    return completed.stdout


def run_tests(folder: Path, *paths: str) -> str:
    """Run tests of a copy on SQLite; return what pytest prints."""
    options = "-p", "no:cacheprovider", "-n", "0", "-k", "not postgresql", "-m", "not tools"
    return run_command(folder, sys.executable, "-m", "pytest", *options, *paths)


def remove_rooms(folder: Path, *rooms: str) -> None:
    """Remove the folders of rooms, and the lines that import or call them."""
    for room in rooms:
        commands, lines, _answer = ROOMS[room]
        shutil.rmtree(folder / room)
        shutil.rmtree(folder / "tests" / room, ignore_errors=True)
        if commands:
            (folder / "commands" / f"{commands}.py").unlink()
        for path in folder / "service.py", folder / "commands" / "__init__.py":
            kept = [each for each in path.read_text(encoding="utf-8").splitlines() if not re.fullmatch(lines, each)]
            path.write_text("\n".join(kept) + "\n", encoding="utf-8")


@pytest.mark.tools
@pytest.mark.parametrize("room", ROOMS)
def test_a_room_can_be_taken_away(project_copy: Path, room: str) -> None:
    remove_rooms(project_copy, room)

    answers = [answer for _commands, _lines, answer in ROOMS.values()]
    found = run_command(project_copy, sys.executable, "-c", FIND_ROOMS, "GET /api/v1/contacts", *answers)
    assert found.splitlines() == ["GET /api/v1/contacts", *(each for each in answers if each != ROOMS[room][2])]


@pytest.mark.soak
@pytest.mark.parametrize("room", [*ROOMS][: times(len(ROOMS))])
def test_the_core_works_without_a_room(project_copy: Path, room: str) -> None:
    remove_rooms(project_copy, room)

    assert " passed" in run_tests(project_copy, "tests/core")


@pytest.mark.tools
def test_the_core_works_without_rooms(project_copy: Path) -> None:
    remove_rooms(project_copy, *ROOMS)

    assert " passed" in run_tests(project_copy, "tests/core")


@pytest.mark.tools
def test_a_fourth_resource_takes_the_documented_diff(project_copy: Path) -> None:
    text = (project_copy / "examples" / "fourth_resource.md").read_text(encoding="utf-8")
    [diff] = re.findall(r"```diff\n(.*?)```", text, re.S)
    (project_copy / "tasks.diff").write_text(diff, encoding="utf-8")
    if shutil.which("git") is None:
        pytest.skip("git is not installed.")
    run_command(project_copy, "git", "apply", "tasks.diff")

    assert " passed" in run_tests(project_copy, "tests/core/test_tasks.py", "tests/core/test_migrations.py")
    run_command(project_copy, sys.executable, "service.py", "seed", "--database", "sqlite:///tasks.db")
    assert run_command(project_copy, sys.executable, "-c", DESCRIBE_TASKS) == "401\nTrue\nTrue\n"

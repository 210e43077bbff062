"""The rules of the house that nobody can see by looking at one file."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import click
from flask import Flask

from commands import cli
from settings import Settings
from tests.conftest import ROOT

# Each may import what stands after it, and nothing before it.
ORDER = [
    "service",
    "commands",
    "pages",
    "openapi",
    "server",
    "transfer",
    "api",
    "seed",
    "auth",
    "schemas",
    "models",
    "database",
    "settings",
]
README = (ROOT / "README.md").read_text()


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Return the rooms that a file imports from, but for a script's own start."""
    tree = ast.parse(path.read_text())
    found = set()
    for part in tree.body:
        if not (isinstance(part, ast.If) and "__main__" in ast.unparse(part.test)):
            for node in ast.walk(part):
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.split(".")[0])
                elif isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
    return found & set(ORDER)


def application_files() -> list[Path]:
    return [path for path in ROOT.rglob("*.py") if room(path) in ORDER]


def test_imports_point_one_way() -> None:
    files = application_files()
    assert len(files) > 12

    for path in files:
        later = set(ORDER[ORDER.index(room(path)) :])
        assert imports_of(path) <= later, path


def test_application_code_stays_small() -> None:
    for path in application_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 35, f"{path.name}: {node.name}"


def test_every_setting_is_documented() -> None:
    for row in fields(Settings):
        told = row.metadata
        assert f"| `{row.name.upper()}` | `{told['flag']}` | `{told['default']}` | {told['help']} |" in README


def test_every_route_is_documented(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        path = re.sub("<[^>]+>", "{id}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            assert f"| `{method} {path}` |" in README


def test_every_picture_of_the_readme_is_there_and_small() -> None:
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert pictures

    for path in pictures:
        assert (ROOT / path).stat().st_size < 200_000


def test_every_command_and_its_options_are_documented() -> None:
    def walk(command: click.Command, path: str) -> None:
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                walk(inner, f"{path} {name}".strip())
            return
        [line] = [line for line in README.splitlines() if line.startswith(f"| `{path}")]
        settings = {row.metadata["flag"] for row in fields(Settings)}
        for option in command.params:
            if isinstance(option, click.Option) and option.opts[0] not in settings:
                assert option.opts[0] in line, (path, option.opts)

    walk(cli, "")


def test_every_file_of_the_layout_is_drawn() -> None:
    drawn = (ROOT / "ARCHITECTURE.md").read_text()

    for path in application_files():
        assert path.name in drawn or path.name == "__init__.py", path

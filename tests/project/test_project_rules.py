"""Rules for all files: the direction of imports, sizes, private names of libraries, and complete documentation."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from statistics import median

import click
from flask import Flask

from commands import cli
from settings import Settings
from tests.conftest import ROOT

ROOMS = {"openapi", "pages", "server", "transfer", "operate", "mcp", "webhooks"}
# A file can import from its own part and from the layers below.
LAYERS = [
    {"service"},
    {"commands"},
    ROOMS,
    {"api"},
    {"auth", "seed"},
    {"schemas"},
    {"models"},
    {"database"},
    {"formats"},
    {"settings"},
]
PARTS = set().union(*LAYERS)
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Private names of libraries, by the file that uses them; its docstring says why.
PRIVATE_NAMES = {
    "packaging/onefile.py": {"sys._MEIPASS"},
    "server/granian_server.py": {"self._shd", "self._sso", "self._ssp", "super()._spawn_worker"},
    "server/waitress_server.py": {"waitress.channel", "waitress.server", "waitress.task", "wasyncore"},
    "webhooks/client.py": {"super()._read_status"},
}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def application_files() -> list[Path]:
    return [path for path in ROOT.rglob("*.py") if part_of(path) in PARTS]


def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def parts_imported_by(path: Path) -> set[str]:
    """Return the parts that a file imports from, except in `if __name__ == "__main__"`."""
    body = [node for node in syntax_tree(path).body if "__main__" not in ast.unparse(node).partition("\n")[0]]
    return {module.split(".")[0] for node in body for module in imported_modules(node)} & PARTS


def test_imports_point_one_way_and_no_room_imports_another() -> None:
    files = application_files()
    assert len(files) > 50

    for path in files:
        part = part_of(path)
        [depth] = [number for number, layer in enumerate(LAYERS) if part in layer]
        assert parts_imported_by(path) <= {part}.union(*LAYERS[depth + 1 :]), path


def test_files_and_functions_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in application_files()}
    functions = {
        f"{path.name}:{node.lineno}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in lengths
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, ast.FunctionDef)
    }

    assert median(lengths.values()) <= 120
    assert [path for path, length in lengths.items() if length > 300] == []
    assert median(functions.values()) <= 8
    assert [name for name, length in functions.items() if length > 30] == []


def private_names(path: Path) -> set[str]:
    """Return the private names of other libraries that a file uses."""
    tree = syntax_tree(path)
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    found = {
        ast.unparse(node)
        for node in attributes
        if re.match("_[^_]", node.attr)
        # A named tuple's own methods are public.
        and node.attr not in {"_asdict", "_fields", "_replace"}
    }
    internal = re.compile(r"waitress\.(?!create_server)\w+|.*\._\w+")
    found |= {module for module in imported_modules(tree) if internal.fullmatch(module)}
    return found | ({"wasyncore"} if any(ast.unparse(each) == "wasyncore.loop" for each in attributes) else set())


def test_only_the_listed_private_names_of_libraries_are_used() -> None:
    found = {
        str(path.relative_to(ROOT)): private_names(path)
        for path in [*application_files(), *ROOT.glob("packaging/*.py")]
    }

    assert {path: names for path, names in found.items() if names} == PRIVATE_NAMES


def test_every_setting_is_documented() -> None:
    for row in fields(Settings):
        setting = row.metadata
        assert f"| `{row.name.upper()}` | `{setting['flag']}` | `{setting['default']}` | {setting['help']} |" in README


def test_every_route_is_documented(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        path = re.sub("<[^>]+>", "{id}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            assert f"| `{method} {path}` |" in README


def test_every_test_that_the_security_policy_names_exists() -> None:
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", policy))
    defined = {
        node.name
        for path in ROOT.glob("tests/*/**/test_*.py")
        if "node_modules" not in path.parts
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, ast.FunctionDef)
    }

    assert len(re.findall(r"^\| API\d+ ", policy, re.M)) == 10
    assert len(named) > 15
    assert named <= defined


def test_every_image_of_the_readme_exists_and_is_small() -> None:
    images = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert images

    for path in images:
        assert (ROOT / path).stat().st_size < 200_000


def test_every_command_and_its_options_are_documented() -> None:
    def check(command: click.Command, path: str) -> None:
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                check(inner, f"{path} {name}".strip())
            return
        [line] = [line for line in README.splitlines() if line.startswith(f"| `{path}")]
        settings = {row.metadata["flag"] for row in fields(Settings)}
        for option in command.params:
            if isinstance(option, click.Option) and option.opts[0] not in settings:
                assert option.opts[0] in line, (path, option.opts)

    check(cli, "")


def test_every_file_is_listed_in_the_architecture_document() -> None:
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")

    for path in application_files():
        assert path.stem in architecture or path.name == "__init__.py", path

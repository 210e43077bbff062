"""Every regular expression of the application takes linear time: no text keeps a thread busy."""

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from marshmallow import validate

from tests.conftest import ROOT
from tests.project.test_project_rules import application_files, syntax_tree

# The shorter texts fail sooner.
LENGTHS = (1_000, 10_000, 30_000)
STARTS = ["", '"', "http://", "a@", "W/", "[", "sep=", "2024-01-01T00:00:00", "cfk_", ","]
UNITS = ["a", "0", " ", ".", "-", ",", '"', "\\", "/", ":", "@", "[", "]", "+", "\n", "\t", "é", "\u0300", "a.", ".a"]
UNITS += ['a"', '"\\', "a-", "::", "xn--a.", '"",', 'W/"a",', "[a", "a=", ", ", "/a", "count", "a@a.", "\u200b"]
METHODS = ("fullmatch", "match", "search", "sub", "split", "findall")
# These build expressions of those of others, of a parameter, or of a local variable.
NOT_CONSTANT = {"database/backend.py", "settings.py", "transfer/csv_rows.py"}


def expressions() -> Iterator[tuple[str, re.Pattern[Any], str]]:
    """Yield file, pattern and method of each use of a regular expression that is constant."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in application_files())
    for path in application_files():
        name = str(path.relative_to(ROOT))
        module = importlib.import_module(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        for value in vars(module).values():
            pattern = value.regex if isinstance(value, validate.Regexp) else value
            if isinstance(pattern, re.Pattern):
                target = next(key for key, each in vars(module).items() if each is value)
                used = [method for method in METHODS if f"{target}.{method}(" in source]
                yield from ((name, pattern, method) for method in used or ["match"])
        for node in ast.walk(syntax_tree(path)):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if call.startswith("re.") and call[3:] in METHODS:
                flags = [re.M for word in node.keywords if ast.unparse(word.value) == "re.M"]
                try:
                    pattern = eval(ast.unparse(node.args[0]), vars(module))  # noqa: S307
                except NameError:
                    assert name in NOT_CONSTANT
                else:
                    yield name, re.compile(pattern, *flags), call[3:]


@pytest.mark.tools
def test_every_regular_expression_is_linear() -> None:
    found = list(expressions())
    assert len(found) > 30
    assert {"schemas.py", "api/changes.py", "formats/matching.py"} <= {name for name, *_rest in found}

    unique = {(pattern, method): name for name, pattern, method in found}
    for ((pattern, method), name), start, unit, length in product(unique.items(), STARTS, UNITS, LENGTHS):
        text = (start + unit * length)[:length] + "\0"
        arguments: tuple[str | bytes, ...] = ("", text) if method == "sub" else (text,)
        if isinstance(pattern.pattern, bytes):
            arguments = (text.encode(),)
        # The best of three: other programs may use the processor, too.
        fast = any(seconds(getattr(pattern, method), *arguments) < 0.05 for _time in range(3))
        assert fast, (name, pattern.pattern, method, start, unit)


def seconds(method: Callable[..., object], *arguments: str | bytes) -> float:
    """Return the processor time of a call."""
    started = time.thread_time()
    method(*arguments)
    return time.thread_time() - started

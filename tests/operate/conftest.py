"""Fixtures for tests with nginx, configured by packaging/nginx.conf."""

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT, LiveServer

# nginx's own paths need root. Compression is on, as it may be for other sites of the machine.
WRAPPER = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr; events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    gzip on; gzip_types *; gzip_min_length 1;
    {site}
}}
"""


class Nginx(NamedTuple):
    """A running nginx: its port, its certificate, and the server behind it."""

    port: int
    certificate: Path
    server: LiveServer

    @property
    def address(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)


@pytest.fixture
def start_nginx(start_server: Callable[..., LiveServer], tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """Return a function that starts a server and nginx in front of it; skip the test without nginx or openssl."""
    # Debian keeps nginx out of the PATH of ordinary users.
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("openssl") is None:
        pytest.skip("nginx or openssl is not installed: apt-get install nginx-light openssl.")
    processes = []

    def start(*arguments: str) -> Nginx:
        server = start_server("serve", "--demo", *arguments, PROXIES="1")
        server.read_first_key()
        nginx = Nginx(free_port(), make_certificate(tmp_path), server)
        (tmp_path / "nginx.conf").write_text(configuration(nginx, tmp_path), encoding="utf-8")
        command = [program, "-e", "stderr", "-p", tmp_path, "-c", tmp_path / "nginx.conf"]
        processes.append(subprocess.Popen(command))
        wait_for_port(nginx.port)
        wait_for_port(server.port)
        return nginx

    yield start
    for process in processes:
        process.terminate()
        process.wait(timeout=20)


def configuration(nginx: Nginx, folder: Path) -> str:
    """Return packaging/nginx.conf with the ports and files of a test, as a whole configuration."""
    site = (ROOT / "packaging" / "nginx.conf").read_text(encoding="utf-8")
    for name, value in (
        ("listen 443", f"listen 127.0.0.1:{nginx.port}"),
        ("127.0.0.1:8000", f"127.0.0.1:{nginx.server.port}"),
        ("/etc/ssl/crm.example.pem", str(nginx.certificate)),
        ("/etc/ssl/crm.example.key", str(nginx.certificate.with_suffix(".key"))),
    ):
        assert name in site
        site = site.replace(name, value)
    return WRAPPER.format(folder=folder, site=site)


def make_certificate(folder: Path) -> Path:
    """Create a certificate for localhost, and its key beside it."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout localhost.key"
    command += " -addext subjectAltName=DNS:localhost -out localhost.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "localhost.pem"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    """Wait until a process listens on the port."""
    for _attempt in range(100):
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise AssertionError(f"Nothing listens on port {port}.")

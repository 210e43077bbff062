"""Cardfile behind nginx with TLS, at the root of a host and below a path, by packaging/nginx.conf."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from http.client import IncompleteRead
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from schemas import RESOURCES
from tests.conftest import ROOT, send_request
from tests.operate.conftest import Nginx

if TYPE_CHECKING:
    from http.client import HTTPResponse

pytestmark = pytest.mark.tools

StartNginx = Callable[..., Nginx]
PREFIXES = pytest.mark.parametrize("prefix", ["", "/crm"], ids=["root", "prefix"])
SERVERS = pytest.mark.parametrize("server", ["waitress", "granian"])


def fetch(nginx: Nginx, url: str, body: object = None, **headers: str) -> HTTPResponse:
    """Return the response to a request with the server's first key; the method is POST if there is a body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"Authorization": f"Bearer {nginx.server.key}", "Content-Type": "application/json"} | named
    method = named.pop("Method", "GET" if body is None else "POST")
    data = None if body is None else json.dumps(body).encode()
    try:
        response: HTTPResponse = urlopen(Request(url, data, sent, method=method), context=nginx.context, timeout=30)  # noqa: S310
    except HTTPError as error:
        return error  # type: ignore[return-value]
    return response


@PREFIXES
@SERVERS
def test_the_example_program_copies_several_pages(start_nginx: StartNginx, server: str, prefix: str) -> None:
    nginx = start_nginx("--server", server)
    base = f"{nginx.address}{prefix}/api/v1"
    assert fetch(nginx, f"{base}/contacts", [{"name": f"number {number}"} for number in range(600)]).status == 201
    copy = nginx.server.folder / "copy.json"
    program = [sys.executable, ROOT / "examples" / "keep_in_step.py", base, nginx.server.key, copy]
    for _time in "load", "update":
        subprocess.run(program, check=True, timeout=60, env=os.environ | {"SSL_CERT_FILE": str(nginx.certificate)})
        fetch(nginx, f"{base}/companies", [{"name": f"number {number}"} for number in range(600)])
    subprocess.run(program, check=True, timeout=60, env=os.environ | {"SSL_CERT_FILE": str(nginx.certificate)})

    rows: dict[str, Any] = json.loads(copy.read_text(encoding="utf-8"))
    for name in RESOURCES:
        assert list(rows[name].values()) == json.loads(send_request(nginx.server, f"/api/v1/{name}")[1]), name


@SERVERS
def test_a_stranger_cannot_choose_the_public_address(start_nginx: StartNginx, server: str) -> None:
    nginx = start_nginx("--server", server)
    names = ("For", "Host", "Prefix", "Proto", "Port", "Server")
    strangers = {f"X{line}Forwarded{line}{name}": "203.0.113.9" for name in names for line in ("_", "-")}
    for prefix in "", "/crm":
        for path in "/docs", "/llms.txt", "/openapi.json", "/settings/developer/sign-in":
            url = nginx.address + prefix + path
            assert fetch(nginx, url, **strangers).read() == fetch(nginx, url).read()
    assert "203.0.113.9" not in nginx.server.log


@PREFIXES
def test_large_headers_and_etags_pass(start_nginx: StartNginx, prefix: str) -> None:
    nginx = start_nginx()
    base = f"{nginx.address}{prefix}/api/v1"
    fetch(nginx, f"{base}/companies", [{"name": name, "notes": "ж" * 10_000} for name in ("a", "b")])
    first = fetch(nginx, f"{base}/companies?sort=-notes&limit=1&fields=id,name")
    following = fetch(nginx, first.headers["Link"].partition(">")[0].removeprefix("<"))
    assert [row["name"] for page in (first, following) for row in json.load(page)] == ["a", "b"]

    one = f"{base}/companies/{'x' * 64}"
    fetch(nginx, one, {"name": "c"}, Method="PUT")
    tag = fetch(nginx, one, Accept_Encoding="gzip, br").headers["ETag"]
    assert not tag.startswith("W/")
    assert fetch(nginx, one, {"name": "d"}, Method="PATCH", If_Match=tag).status == 200
    assert fetch(nginx, one, {"name": "e"}, Method="PATCH", If_Match=tag).status == 412


def test_a_list_that_breaks_off_is_an_error_for_the_client(start_nginx: StartNginx) -> None:
    nginx = start_nginx()
    for _time in range(10):
        fetch(nginx, f"{nginx.address}/api/v1/companies", [{"name": "a", "notes": "x" * 1000}] * 1000)
    response = fetch(nginx, f"{nginx.address}/api/v1/companies")
    response.read(1)
    nginx.server.stop(signal.SIGKILL)

    with pytest.raises(IncompleteRead):
        response.read()

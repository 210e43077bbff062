"""A server starts and answers on a system with few privileges and resources."""

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from server.listener import raise_descriptor_limit
from tests.conftest import ROOT, LiveServer, send_request

StartServer = Callable[..., LiveServer]
SERVERS = ("waitress", "granian")
# Numbers of the system calls on x86-64.
FORBIDDEN = {"setrlimit": 160, "prlimit64": 302, "sched_setaffinity": 203, "chown": 92, "fchown": 93, "fchownat": 260}
# A seccomp filter (linux/filter.h) that lets the listed system calls fail with EPERM, and then runs the program.
FORBID = f"""
import ctypes, os, struct, sys
numbers = {sorted(FORBIDDEN.values())}
code = [(0x20, 0, 0, 0)]
code += [(0x15, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(code), ctypes.addressof(program)))) == 0, ctypes.get_errno()
try:
    os.sched_setaffinity(0, os.sched_getaffinity(0))
except PermissionError:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class RestrictedServer(LiveServer):
    """A server that may not set limits, affinities or owners."""

    program = (sys.executable, "-c", FORBID, ROOT / "service.py")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="The numbers of system calls are those of x86-64")
@pytest.mark.parametrize("name", [pytest.param("waitress", marks=pytest.mark.tools), "granian"])
def test_a_server_needs_no_right_to_set_limits_affinity_or_owners(tmp_path: Path, name: str) -> None:
    with closing(RestrictedServer(tmp_path, "serve", "--server", name)) as server:
        server.read_first_key()
        assert send_request(server) == (200, b"[]")
        assert send_request(server, body={"name": "Acme"})[0] == 201
        assert server.stop(signal.SIGTERM) == 0
        assert "Traceback" not in server.log


@pytest.mark.parametrize("name", [pytest.param("waitress", marks=pytest.mark.tools), "granian"])
def test_requests_are_answered_while_the_set_of_cores_shrinks(start_server: StartServer, name: str) -> None:
    server = start_server("serve", "--demo", "--server", name)
    server.read_first_key()
    assert send_request(server)[0] == 200
    cores = sorted(os.sched_getaffinity(0))
    for left in cores, cores[-1:], cores[:1], cores:
        for process in (server.process.pid, *server.children()):
            for thread in os.listdir(f"/proc/{process}/task"):
                os.sched_setaffinity(int(thread), left)
        assert {send_request(server, "/api/v1/contacts")[0] for _time in range(5)} == {200}
    assert server.stop(signal.SIGTERM) == 0
    assert "Traceback" not in server.log


@pytest.mark.parametrize("error", [PermissionError, ValueError])
def test_without_the_right_to_raise_it_the_limit_of_files_limits_the_connections(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)

    assert raise_descriptor_limit() == 1024 - 64


@pytest.mark.tools
@pytest.mark.parametrize("name", SERVERS)
def test_more_connections_than_descriptors_keep_nobody_out(tmp_path: Path, name: str) -> None:
    class ServerWithFewFiles(LiveServer):
        program = ("sh", "-c", 'ulimit -n 64; exec "$0" "$@"', *LiveServer.program)

    with closing(ServerWithFewFiles(tmp_path, "serve", "--server", name)) as server:
        server.read_first_key()
        with ExitStack() as idle:
            for _number in range(120):
                idle.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            before = processor_seconds(server)
            time.sleep(1)
            assert processor_seconds(server) - before < 0.5
            assert send_request(server) == (200, b"[]")
        assert server.stop(signal.SIGTERM) == 0
        assert "Traceback" not in server.log and len(server.log.splitlines()) < 50


def processor_seconds(server: LiveServer) -> float:
    """Return the processor time of a server and its worker processes."""
    processes = [server.process.pid, *server.children()]
    fields = [Path(f"/proc/{each}/stat").read_text(encoding="ascii").split() for each in processes]
    return sum(int(each[13]) + int(each[14]) for each in fields) / os.sysconf("SC_CLK_TCK")

"""Helpers and fixtures for tests with a live server."""

import resource
import socket
from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer


@pytest.fixture
def file_limit() -> Iterator[int]:
    """Raise this process's limit on open files for 3,000 connections; return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 3000 if hard == resource.RLIM_INFINITY else min(3000, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def send_bytes(server: LiveServer, request: bytes, half_close: bool = True) -> bytes:
    """Send a request and return the response; Granian answers only clients that keep their side open."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        response = b""
        while chunk := connection.recv(65536):
            response += chunk
    return response

"""The sockets that a server listens on, and the timeouts of connections that make no progress."""

import errno
import socket
from collections.abc import Collection
from contextlib import nullcontext, suppress
from typing import Any

import click

from settings import Settings

# The connection of a client that neither reads its response nor sends its request for this long is closed.
STALLED_SECONDS = 60
# Longer than the 60 seconds for which load balancers keep idle connections.
IDLE_SECONDS = 75
# The same timeout while more than nine tenths of all connections are in use.
CROWDED, CROWDED_SECONDS = 0.9, 0.5
# How long the rest of a request is read and discarded after a response that didn't need it.
LINGER_SECONDS = 30
BACKLOG = 1024
MAX_CONNECTIONS = 2000


def open_sockets(settings: Settings, variables: Collection[str]) -> list[socket.socket]:
    """Return a listening socket for each address of the host, IPv4 first, all on the same port.

    Raises click.ClickException with the reason, which names the environment variables that chose host and port.
    """
    found: list[socket.socket] = []
    try:
        rows = socket.getaddrinfo(settings.host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in sorted({(int(family), address) for family, _type, _protocol, _name, address in rows}):
            port = found[0].getsockname()[1] if found else settings.port
            # localhost can have an IPv6 address where the system has no IPv6.
            with suppress(OSError) if found else nullcontext():
                found.append(listen(family, (address[0], port, *address[2:])))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "It is not a host name"
        message = f"Can't listen on {settings.host} port {settings.port}: {reason}."
        if getattr(error, "errno", None) == errno.EADDRINUSE and (free := next_free_port(family, address, port)):
            message += f" Port {free} is free: --port {free}."
        for name in sorted({"HOST", "PORT"} & set(variables)):
            message += f" {name} is an environment variable: --{name.lower()} overrides it."
        raise click.ClickException(message) from error
    return found


def next_free_port(family: int, address: Any, port: int) -> int | None:
    """Return the first port after the one in use that can be listened on, of the next hundred."""
    for free in range(port + 1, min(port + 101, 65536)):
        with suppress(OSError):
            listen(family, (address[0], free, *address[2:])).close()
            return free
    return None


def share(listener: socket.socket, count: int) -> list[socket.socket]:
    """Return `count` sockets with the listener's address, itself included: Linux divides the connections evenly."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return [listener, *(listen(listener.family, listener.getsockname(), shared=True) for _number in range(1, count))]


def listen(family: int, address: Any, shared: bool = False) -> socket.socket:
    """Return a socket that listens on the address. Raises OSError."""
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Linux closes an accepted connection whose client reads no byte of a response for this long.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def raise_descriptor_limit() -> int:
    """Raise the limit of open files if the system allows it; return the number of connections that it has room for."""
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, OSError):
        return MAX_CONNECTIONS // 4
    wanted = 2 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(2 * MAX_CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    # The rest is for other files.
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, max(soft - 64, soft // 2))

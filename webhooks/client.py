"""The HTTP client: one kept-open connection to a receiver, whose address is checked when the socket is opened."""

import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from http.client import CONTINUE, HTTPResponse, responses
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from math import ceil
from time import monotonic
from typing import Any, NamedTuple

from settings import VERSION, Settings

ANSWER_SECONDS = 15
# How many bytes of an answer are read, and how many characters of it are kept.
MAX_ANSWER_BYTES, SHOWN_CHARACTERS = 64 * 1024, 500
MAX_RETRY_SECONDS = 24 * 3600
NAT64, GLOBAL_UNICAST = ip_network("64:ff9b::/96"), ip_network("2000::/3")
# Special networks of IANA's registries that `is_global` allows, wholly or partly, in some versions of Python.
SPECIAL = [ip_network(each) for each in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")]
TIMEOUT = f"There was no whole answer within {ANSWER_SECONDS} seconds."


class PrivateAddress(Exception):
    """The receiver's name has no public address."""


class Answer(NamedTuple):
    """The status, or else the error; the milliseconds, the beginning of the body, and Retry-After in seconds."""

    status: int | None
    ms: int
    error: str | None
    text: str = ""
    retry_after: int = 0


class FinalResponse(HTTPResponse):
    """The response after interim ones such as 103 (RFC 9110 §15.2): http.client skips only 100, with no public hook."""

    def _read_status(self) -> Any:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, CONTINUE if 101 < status < 200 else status, reason


class Client:
    """Sends messages to a URL, directly or through a proxy, which then decides about addresses."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url, self.settings = url, settings
        self.parsed_url: Any = None
        self.connection: Any = None
        # The connection forgets its socket when a response has no length.
        self.socket: Any = None
        self.deadline: float = 0

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a message and return the answer; never raise. The status decides, even if the body breaks off.

        Its caller has another thread call abort() after ANSWER_SECONDS: an answer may come byte by byte.
        """
        started = monotonic()
        self.deadline = started + ANSWER_SECONDS
        status, data, error, retry_after = None, b"", None, 0
        try:
            response = self.request(body, headers)
            status, error = response.status, error_of(response.status)
            retry_after = parse_retry_after(response.headers.get("Retry-After", ""))
            data = response.read(MAX_ANSWER_BYTES + 1)
        except Exception as caught:
            self.close()
            through = " The request goes through WEBHOOK_PROXY." if self.settings.webhook_proxy else ""
            error = error if status else describe(caught) + through
        if monotonic() >= self.deadline:
            status, error = None, TIMEOUT
        if len(data) > MAX_ANSWER_BYTES or error:
            self.close()
        text = "".join(each for each in data[:4000].decode(errors="replace") if each.isprintable() or each == "\n")
        return Answer(status, round((monotonic() - started) * 1000), error, text[:SHOWN_CHARACTERS], retry_after)

    def request(self, body: bytes, headers: Mapping[str, str]) -> Any:
        """Send the request, over a new connection if the last one was closed; return the response, its body unread."""
        if self.connection is None or not self.connection.is_connected:
            self.close()
            self.connect()
            self.socket = self.connection.sock
        connection, url = self.connection, self.parsed_url
        connection.timeout, connection.response_class = self.remaining(), FinalResponse
        sent = {"Host": str(url.netloc), "Content-Type": "application/json", "User-Agent": f"Cardfile/{VERSION}"}
        target = url.url if self.settings.webhook_proxy and url.scheme == "http" else url.request_uri
        connection.request("POST", target, body, {**sent, **headers}, preload_content=False, decode_content=False)
        return connection.getresponse()

    def connect(self) -> None:
        """Connect to the proxy, or to the first address of the host that answers. Raises PrivateAddress."""
        # Imported here because most starts send nothing.
        from urllib3.connection import HTTPConnection, HTTPSConnection
        from urllib3.util import parse_url

        url = self.parsed_url = parse_url(self.url)
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        host, is_tls, proxy = str(url.host).strip("[]"), url.scheme == "https", self.settings.webhook_proxy
        port = url.port or (443 if is_tls else 80)
        has_private = self.settings.webhook_networks == "private"
        targets = [proxy] if proxy else [(each, port) for each in find_addresses(host, port, has_private)]
        kind: Any = HTTPSConnection if is_tls else HTTPConnection
        # The certificate must be for the host's name, not for the address.
        names = {"server_hostname": host} if is_tls else {}
        for index, target in enumerate(targets):
            self.connection = kind(*target, timeout=self.remaining() / (len(targets) - index), **names)
            if proxy and is_tls:
                self.connection.set_tunnel(host, port)
            try:
                self.connection.connect()
                break
            except Exception:
                self.close()
                if target == targets[-1]:
                    raise

    def remaining(self) -> float:
        """Return the seconds that are left. Raises TimeoutError if none are."""
        if (seconds := self.deadline - monotonic()) <= 0:
            raise TimeoutError
        return seconds

    def abort(self, late: bool = False) -> None:
        """Abort the request from another thread; with `late`, only if its time is over."""
        if not late or monotonic() >= self.deadline:
            self.deadline = 0
            # AttributeError, TypeError: there is no connection yet.
            with suppress(OSError, AttributeError, TypeError):
                socket.socket.shutdown(self.socket or self.connection.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = self.socket = None


def find_addresses(host: str, port: int, with_private: bool) -> list[str]:
    """Return the addresses of a host that may be connected to. Raises PrivateAddress if there are none."""
    found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not (allowed := [each for each in dict.fromkeys(found) if with_private or is_public(each)]):
        name = host if host == found[0] else f"{host} ({found[0]})"
        raise PrivateAddress(f"{name} is not a public address: WEBHOOK_NETWORKS=private allows it.")
    return allowed


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet; in an IPv6 address, the IPv4 address inside decides."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) % 2**32) if ip in NAT64 else None)
        if inner or ip not in GLOBAL_UNICAST:
            return inner is not None and is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not any(ip in each for each in SPECIAL)


def error_of(status: int) -> str | None:
    """Return the sentence for a status, or None for success."""
    if 200 <= status < 300:
        return None
    name = f"{status} {responses.get(status, '')}".rstrip()
    return f"The answer was {name}{'; redirects are not followed' if 300 <= status < 400 else ''}."


def describe(error: BaseException) -> str:
    """Return why there was no answer, without text that the receiver sent: it may be a row's data."""
    if isinstance(error, PrivateAddress):
        return str(error)
    cause = error.__cause__ or error.__context__ or error
    if isinstance(cause, TimeoutError):
        return TIMEOUT
    if isinstance(cause, socket.gaierror):
        return f"The address of the host can't be found: {cause.strerror}."
    if isinstance(cause, OSError):
        return f"The connection failed: {cause.strerror or cause}."[:SHOWN_CHARACTERS]
    return f"The answer was not HTTP: {type(cause).__name__}."


def parse_retry_after(text: str) -> int:
    """Return the seconds of a Retry-After header (RFC 9110 §10.2.3), a number or a time, at most a day."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return ceil(Retry(retry_after_max=MAX_RETRY_SECONDS).parse_retry_after(text))
    except (InvalidHeader, ValueError, OverflowError):
        return 0

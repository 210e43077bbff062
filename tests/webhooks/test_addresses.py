"""The client: where it connects to, how long it waits, and how much it reads."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from settings import Settings
from tests.webhooks.conftest import Receiver, answer
from webhooks.client import ANSWER_SECONDS, TIMEOUT, Answer, Client, is_public

PRIVATE, PUBLIC = Settings(webhook_networks="private"), Settings()
Resolver = Callable[..., list[Any]]


def send(url: str, settings: Settings) -> Answer:
    """Send a message over a new connection."""
    client = Client(url, settings)
    try:
        return client.post(b"{}", {})
    finally:
        client.close()


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that sets the addresses of each look-up of a name, and returns the list of names."""

    def set_answers(*answers: list[str]) -> list[str]:
        asked: list[str] = []

        def getaddrinfo(host: str, port: int, *_rest: Any, **_options: Any) -> list[Any]:
            found = answers[min(len(asked), len(answers) - 1)] if not host[0].isdigit() else [host]
            asked.extend([host] if not host[0].isdigit() else [])
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return asked

    return set_answers


@pytest.mark.parametrize(
    "address",
    [
        *(
            "0.0.0.0",  # noqa: S104
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
        ),
        *("172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
        # Also the metadata service of some clouds, and the relays of 6to4.
        *("192.0.0.8", "192.0.0.192", "192.88.99.1", "192.88.99.2"),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "100::1", "2001:db8::1"),
        # Anycast of a router near by (RFC 7723), identifiers, dummy (RFC 9780), documentation (RFC 9637), segments.
        *("2001:1::1", "2001:20::1", "2001:1ff::1", "100:0:0:1::1", "3fff::1", "3fff:fff::1", "5f00::1"),
        # IPv4 in IPv6: mapped, compatible, 6to4, NAT64 (also its local prefix), Teredo, ISATAP-like.
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
        "2002:c000:c0::1",
        *(
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::808:808",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        ),
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "172.32.0.1", "192.0.1.1", "2001:200::1", "2606:4700::1111", "3fff:1000::1"),
        *("::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"),
    ],
)
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1"])
def test_no_notation_of_a_loopback_address_is_connected_to(receiver: Receiver, host: str) -> None:
    answered = send(f"http://{host}:{receiver.server_address[1]}/", PUBLIC)

    assert answered.status is None and receiver.received == []
    assert "127.0.0.1" in str(answered.error)
    assert str(answered.error).endswith(" is not a public address: WEBHOOK_NETWORKS=private allows it.")


def test_an_unknown_host_is_an_error_in_words() -> None:
    error = send("http://nobody.invalid/", PUBLIC).error
    assert str(error).startswith("The address of the host can't be found: ")


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    receiver: Receiver, resolve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name that is public when it is checked, and a loopback address the next time.
    asked = resolve(["8.8.8.8"], ["127.0.0.1"])
    connected: list[Any] = []

    def connect(address: Any, *_rest: Any, **_options: Any) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    client = Client("http://rebinding.example:8080/", PUBLIC)
    assert "Connection refused" in str(client.post(b"{}", {}).error)
    assert (asked, connected) == (["rebinding.example"], [("8.8.8.8", 8080)])
    assert "rebinding.example (127.0.0.1) is not a public address" in str(client.post(b"{}", {}).error)
    assert len(connected) == 1


def test_the_public_ones_of_several_addresses_are_used_in_turn(
    resolve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(["10.0.0.1", "8.8.8.8", "8.8.4.4"])
    connected: list[str] = []

    def connect(address: Any, *_rest: Any, **_options: Any) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    send("http://several.example/", PUBLIC)
    assert connected == ["8.8.8.8", "8.8.4.4"]


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    resolve: Callable[..., list[str]], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.client.ANSWER_SECONDS", 4)
    resolve(["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"])
    port = receiver.server_address[1]
    # Once its queue is full, Linux answers no more connections.
    silent = socket.create_server(("127.0.0.2", port), backlog=0)
    with silent, socket.create_connection(silent.getsockname()):
        for delay in (0, 2.4):
            receiver.answer = lambda handler, delay=delay: time.sleep(delay) or answer(204)(handler)
            assert send(f"http://several.example:{port}/", PRIVATE).error is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_not_followed(receiver: Receiver, status: int) -> None:
    receiver.answer = answer(status, Location="http://169.254.169.254/latest/meta-data/")
    answered = send(receiver.url, PRIVATE)

    assert answered.status == status
    assert str(answered.error).endswith("; redirects are not followed.")
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_2xx_is_success(receiver: Receiver, status: int) -> None:
    receiver.answer = answer(status)
    assert send(receiver.url, PRIVATE).error is None


def test_a_success_whose_body_is_cut_off_is_a_success(receiver: Receiver) -> None:
    receiver.answer = answer(200, **{"Content-Length": "8", "Connection": "close"})
    assert send(receiver.url, PRIVATE).error is None


@pytest.mark.parametrize("status", [101, 304, 400, 404, 429, 500, 503, 599, 999])
def test_any_other_status_is_a_failure(receiver: Receiver, status: int) -> None:
    receiver.answer = answer(status)
    assert str(status) in str(send(receiver.url, PRIVATE).error)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"Content-Length: 9\r\n\r\ncut", id="length"),
        pytest.param(b"Content-Length: 9\r\n\r\n", id="nothing"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n9\r\ncut", id="chunk"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n3\r\ncut\r\n", id="chunks"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\nno length\r\n", id="no chunks"),
        pytest.param(b"Connection: close\r\n\r\ncut", id="close"),
    ],
)
def test_the_status_decides_even_if_the_body_breaks_off(receiver: Receiver, rest: bytes) -> None:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 %b x\r\nRetry-After: 7\r\n%b" % (status, rest))
        handler.close_connection = True

    receiver.answer = write
    client = Client(receiver.url, PRIVATE)
    for status, error in (b"200", None), (b"410", "The answer was 410 Gone."), (b"200", None):
        answered = client.post(b"{}", {})
        assert (answered.status, answered.error, answered.retry_after) == (int(status), error, 7)
        time.sleep(0.02)
    assert len({each.port for each in receiver.received}) == 3
    client.close()


@pytest.mark.parametrize("interim", [b"102 Processing", b"103 Early Hints\r\nLink: </a.css>"])
def test_interim_responses_are_skipped(receiver: Receiver, interim: bytes) -> None:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 %b\r\n\r\n" % interim * 2)
        answer(200, b"received")(handler)

    receiver.answer = write
    client = Client(receiver.url, PRIVATE)
    for _time in range(2):
        answered = client.post(b"{}", {})
        assert (answered.status, answered.error, answered.text) == (200, None, "received")
    assert len({each.port for each in receiver.received}) == 1
    client.close()


def test_a_connection_that_the_receiver_closed_is_opened_anew(receiver: Receiver) -> None:
    client = Client(receiver.url, PRIVATE)
    assert client.post(b"1", {}).error is None
    receiver.answer = answer(204, Connection="close")
    for _time in range(2):
        assert client.post(b"{}", {}).error is None
        time.sleep(0.02)
    assert len({each.port for each in receiver.received}) == 2
    client.close()


def test_64_kilobytes_of_an_answer_are_read(receiver: Receiver) -> None:
    sent = 0

    def write(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000000")
        handler.end_headers()
        handler.wfile.flush()
        try:
            while sent < 1_000_000_000:
                sent += handler.connection.send(b"x" * 65536)
        except OSError:
            handler.close_connection = True

    receiver.answer = write
    answered = send(receiver.url, PRIVATE)
    assert (answered.status, answered.error, answered.text) == (200, None, "x" * 500)
    assert sent < 20_000_000


def test_the_rest_of_a_longer_answer_is_not_taken_for_the_next(receiver: Receiver) -> None:
    receiver.answer = answer(200, b"x" * (64 * 1024 + 1), **{"Content-Length": "70000"})
    client = Client(receiver.url, PRIVATE)
    assert [client.post(b"{}", {}).error for _time in range(2)] == [None, None]
    assert len({each.port for each in receiver.received}) == 2
    client.close()


def drip(handler: BaseHTTPRequestHandler, head: bytes, piece: bytes) -> None:
    try:
        handler.connection.sendall(head)
        while True:
            handler.connection.sendall(piece)
            time.sleep(0.05)
    except OSError:
        handler.close_connection = True


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"x", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", id="chunks"),
    ],
)
def test_an_answer_that_does_not_end_is_aborted(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, head: bytes, piece: bytes
) -> None:
    monkeypatch.setattr("webhooks.client.ANSWER_SECONDS", 0.4)
    receiver.answer = lambda handler: drip(handler, head, piece)
    client = Client(receiver.url, PRIVATE)
    timer = threading.Timer(0.4, client.abort)
    timer.start()
    started = time.monotonic()
    answered = client.post(b"{}", {})

    assert (answered.status, answered.error) == (None, TIMEOUT)
    assert time.monotonic() - started < 2
    assert ANSWER_SECONDS == 15


@pytest.fixture
def tls_receiver(receiver: Receiver, tmp_path: Path) -> Iterator[Receiver]:
    """Return a receiver with a certificate of its own for localhost, in certificate.pem."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    yield receiver


def test_the_certificate_must_be_trusted_and_that_of_the_name(
    tls_receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = tls_receiver.server_address[1]
    untrusted = send(f"https://localhost:{port}/", PRIVATE)
    assert "CERTIFICATE_VERIFY_FAILED" in str(untrusted.error)
    monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/certificate.pem")
    other_name = send(f"https://127.0.0.1:{port}/", PRIVATE)
    assert "IP address mismatch" in str(other_name.error)
    assert tls_receiver.received == []
    client = Client(f"https://localhost:{port}/", PRIVATE)
    assert client.post(b"{}", {}).error is None
    client.close()


@pytest.fixture
def proxy() -> Iterator[tuple[int, list[bytes]]]:
    """Return the port of a proxy that connects to this machine, and the first lines that it received."""
    listening, lines = socket.create_server(("127.0.0.1", 0)), list[bytes]()
    sockets = [listening]

    def serve() -> None:
        while True:
            try:
                client, _address = listening.accept()
            except OSError:
                return
            head = client.recv(65536, socket.MSG_PEEK)
            lines.append(head.split(b"\r\n")[0])
            host, port = (lines[-1].split()[1].split(b"//")[-1].split(b"/")[0]).rsplit(b":", 1)
            target = socket.create_connection(("127.0.0.1", int(port)))
            sockets.extend((client, target))
            if head.startswith(b"CONNECT"):
                client.recv(len(head))
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            for one, other in (client, target), (target, client):
                threading.Thread(target=pump, args=(one, other), daemon=True).start()
            assert host == b"localhost"

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1], lines
    # It wakes accept(), too.
    listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    for each in sockets:
        each.close()


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_a_proxy_is_used_only_if_the_setting_names_it(
    receiver: Receiver, proxy: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://localhost:{receiver.server_address[1]}/hook?a=1"
    for name in "http_proxy", "HTTP_PROXY", "ALL_PROXY":
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy[0]}")
    assert send(url, PRIVATE).error is None
    assert proxy[1] == []
    client = Client(url, Settings(webhook_proxy=("127.0.0.1", proxy[0])))
    assert client.post(b"{}", {}).error is None
    client.close()
    assert proxy[1] == [f"POST {url} HTTP/1.1".encode()]


def test_the_error_of_a_request_through_a_proxy_names_the_setting(receiver: Receiver) -> None:
    error = send(receiver.url, Settings(webhook_proxy=("127.0.0.1", 1))).error
    assert error == "The connection failed: Connection refused. The request goes through WEBHOOK_PROXY."


def test_through_a_proxy_the_certificate_is_verified_too(
    tls_receiver: Receiver, proxy: tuple[int, list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, settings = (
        f"https://localhost:{tls_receiver.server_address[1]}/",
        Settings(webhook_proxy=("127.0.0.1", proxy[0])),
    )
    assert "CERTIFICATE_VERIFY_FAILED" in str(send(url, settings).error)
    monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/certificate.pem")
    client = Client(url, settings)
    assert client.post(b"{}", {}).error is None
    client.close()
    assert proxy[1][0].startswith(b"CONNECT localhost:")

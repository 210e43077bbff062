"""The end of each request is unambiguous, and a client that sends too much sees the error, on both servers."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.conftest import LiveServer, send_request
from tests.server.conftest import send_bytes

JSON = b'{"name":"Ann"}'
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(JSON), JSON)
SECOND = b"DELETE /api/v1/contacts/victim HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n"
SIZES = b"Content-Length: %d\r\n"
TRANSFER = b"Transfer-Encoding: %s\r\n"


@pytest.fixture(scope="module", params=["waitress", "granian"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with closing(LiveServer(tmp_path_factory.mktemp("framing"), "serve", "--server", request.param)) as server:
        server.read_first_key()
        yield server


def post(server: LiveServer, headers: bytes, version: bytes = b"1.1", target: bytes = b"/api/v1/contacts") -> bytes:
    """Return a POST request without its body."""
    key = f"Authorization: Bearer {server.key}\r\nContent-Type: application/json\r\nHost: a\r\n".encode()
    return b"POST %s HTTP/%s\r\n%s%s\r\n" % (target, version, key, headers)


@pytest.mark.parametrize(
    ("headers", "body", "version"),
    [
        pytest.param(SIZES % 5 + TRANSFER % b"chunked", CHUNKED, b"1.1", id="both"),
        pytest.param(TRANSFER % b"chunked" + SIZES % len(JSON), CHUNKED, b"1.1", id="both-in-other-order"),
        pytest.param(SIZES % 5 + b"transfer-ENCODING:chunked\r\n", CHUNKED, b"1.1", id="both-in-other-case"),
        pytest.param(TRANSFER % b"" + SIZES % len(JSON), JSON, b"1.1", id="empty-and-length"),
        pytest.param(TRANSFER % b"", b"", b"1.1", id="empty"),
        pytest.param(TRANSFER % b"," + SIZES % len(JSON), JSON, b"1.1", id="comma"),
        pytest.param(TRANSFER % b"chunked" + b"Connection: keep-alive\r\n", CHUNKED, b"1.0", id="http-1.0"),
        pytest.param(TRANSFER % b"chunked" + SIZES % 3 + b"Connection: keep-alive\r\n", CHUNKED, b"1.0", id="1.0-both"),
    ],
)
def test_the_connection_is_closed_after_a_request_with_an_ambiguous_end(
    server: LiveServer, headers: bytes, body: bytes, version: bytes
) -> None:
    response = send_bytes(server, post(server, headers, version) + body + SECOND % server.key.encode(), False)

    assert response.count(b"HTTP/1.") == 1
    assert response.split()[1] in {b"201", b"400"}


@pytest.mark.parametrize("method", [b"get", b"Head", b"post"])
def test_methods_are_case_sensitive(server: LiveServer, method: bytes) -> None:
    headers = b"Authorization: Bearer %s\r\nHost: a\r\nConnection: close\r\n" % server.key.encode()
    response = send_bytes(server, b"%s /api/v1/companies HTTP/1.1\r\n%s\r\n" % (method, headers), False)

    assert response.split()[1] == b"400"
    head, _, body = response.partition(b"\r\n\r\n")
    assert json.loads(body)["status"] == 400 and f"content-length: {len(body)}\r\n" in f"{head.lower().decode()}\r\n"


def test_letters_in_a_url_need_no_percent_encoding(server: LiveServer) -> None:
    """curl sends them as they were typed."""
    company = b'{"name":"Caf\xc3\xa9"}'
    headers = SIZES % len(company) + b"Connection: close\r\n"
    send_bytes(server, post(server, headers, target=b"/api/v1/companies") + company, False)

    for query, status in (b"q=Caf\xc3\xa9", b"200"), (b"name=Caf\xc3\xa9&fields=name", b"200"), (b"q=Caf\xe9", b"400"):
        start = b"GET /api/v1/companies?%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" % query
        response = send_bytes(server, start + f"Authorization: Bearer {server.key}\r\n\r\n".encode(), False)
        assert (response.split()[1], b"Caf\xc3\xa9" in response) == (status, status == b"200")
    response = send_bytes(server, b"G\xc3\x89T /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", False)
    assert response.split()[1] == b"400"


@pytest.mark.parametrize(
    ("start", "length"),
    [("POST /api/v1/contacts", 9), ("GET /api/v1/contacts", 0), ("GET /docs", 0), ("GET /healthz", 0)],
)
def test_large_headers_are_refused_before_the_key_and_the_body(server: LiveServer, start: str, length: int) -> None:
    """The URL doesn't count, because that of a next page may be long."""
    for query, size, is_refused in ("", 15_000, False), ("", 16_400, True), (f"?name={'x' * 45_000}", 9, False):
        # Four fields, because a limit of each field would not be one of all. WSGI names Content-Type unlike the others.
        names = b"X-1", b"X-2", b"X-3", b"Content-Type"
        fields = b"".join(b"%s: %s\r\n" % (name, b"x" * (size // 4 - 8)) for name in names) + SIZES % length
        head = f"{start}{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer no\r\n".encode()
        response = send_bytes(server, head + fields + b"\r\n", False)
        assert (int(response.split()[1]) == 431) is is_refused, (size, response[:300])
        assert not is_refused or b"application/problem+json" in response


def test_the_connection_stays_open_after_a_request_with_a_clear_end(server: LiveServer) -> None:
    for headers, body in (TRANSFER % b"chunked", CHUNKED), (SIZES % len(JSON), JSON):
        response = send_bytes(server, post(server, headers) + body + SECOND % server.key.encode(), False)
        assert [line.split()[1] for line in response.splitlines() if b"HTTP/1." in line] == [b"201", b"404"]


@pytest.mark.parametrize("megabytes", [8, 9, 30])
def test_the_sender_of_a_body_of_any_size_sees_the_413(server: LiveServer, megabytes: int) -> None:
    assert send_request(server, "/api/v1/contacts", {"notes": "y" * megabytes * 1024 * 1024})[0] == 413


@pytest.mark.parametrize("kilobytes", [100, 1000, 9000])
def test_the_sender_of_a_body_of_any_size_without_a_good_key_sees_the_401(server: LiveServer, kilobytes: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("POST", "/api/v1/contacts", b"y" * kilobytes * 1024)
        # waitress refuses bodies of more than 8 MiB before the app sees them.
        assert connection.getresponse().status in ({401} if kilobytes < 8192 else {401, 413})


@pytest.mark.parametrize("length", [1000, 100_000, 1_000_000])
def test_a_request_without_a_key_is_refused_before_its_body_arrives(server: LiveServer, length: int) -> None:
    head = f"POST /api/v1/contacts HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(head.encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("start", [b"5;a=", b"0\r\nX: "], ids=["extension", "trailer"])
def test_an_endless_chunk_extension_or_trailer_is_refused_at_once(server: LiveServer, start: bytes) -> None:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(post(server, TRANSFER % b"chunked") + start)
        try:
            for _number in range(128):
                client.sendall(b"x" * 64 * 1024)
            assert client.recv(100).split()[1] == b"400"
        except (BrokenPipeError, ConnectionResetError):
            assert "granian" in server.process.args, "Only Granian closes at once"  # type: ignore[operator]
    assert time.monotonic() - started < 3


def test_the_authority_of_an_absolute_uri_overrides_host_on_waitress(shared_server: LiveServer) -> None:
    head = b"GET http://crm.example/docs HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert b"http://crm.example/api/v1" in send_bytes(shared_server, head)
    assert send_bytes(shared_server, head.replace(b"crm.example", b"me@crm.example")).split()[1] == b"400"
    assert send_bytes(shared_server, head.replace(b"Host: a\r\n", b"")).split()[1] == b"400"


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (b"POST /api/v1/contacts", JSON),
        (b"PUT /api/v1/contacts/kept", JSON),
        (b"PATCH /api/v1/contacts/kept", JSON),
        (b"DELETE /api/v1/contacts/kept", b""),
        (b"DELETE /api/v1/contacts/kept", b"abc"),
        (b"POST /api/v1/contacts/kept/forget", b'{"dry'),
        (b"POST /mcp", b'{"jsonrpc":"2.0","id":1,"method":"ping"}'),
    ],
)
def test_a_request_whose_body_ends_early_changes_nothing(server: LiveServer, line: bytes, body: bytes) -> None:
    send_request(server, "/api/v1/contacts?matchOn=id", {"id": "kept", "name": "Kept"})
    before = send_request(server, "/api/v1/changes")
    head = post(server, SIZES % 500).partition(b"\r\n")[2]
    response = send_bytes(server, line + b" HTTP/1.1\r\n" + head + body, True)

    # waitress closes the connection.
    assert response == b"" or (response.split()[1] == b"400" and b"The body ended before" in response)
    assert send_request(server, "/api/v1/changes") == before


def test_a_key_that_is_deleted_while_its_client_sends_the_body_writes_nothing(server: LiveServer) -> None:
    other = json.loads(send_request(server, "/api/v1/keys", {"name": "slow", "scope": "admin"})[1])
    own = server.key.encode()
    head = post(server, SIZES % len(JSON), target=b"/api/v1/contacts").replace(own, other["key"].encode())
    before = send_request(server, "/api/v1/changes")[1]
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head + JSON[:1])
        time.sleep(0.3)
        deletion = (
            b"DELETE /api/v1/keys/%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n"
        )
        assert b" 204 " in send_bytes(server, deletion % (other["id"].encode(), own), False)
        time.sleep(0.4)
        connection.sendall(JSON[1:])
        assert connection.recv(65536).split()[1] == b"401"
    assert send_request(server, "/api/v1/changes")[1] == before


def test_a_chunked_body_of_more_than_1_mib_is_413(server: LiveServer) -> None:
    body = JSON + b" " * 2**20 + b"NOT JSON"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    response = send_bytes(server, post(server, TRANSFER % b"chunked" + b"Connection: close\r\n") + chunked, False)
    assert response.split()[1] == b"413"

"""PROXIES: the address of the client and the address that it asked come from the headers of trusted proxies only."""

import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from operate import init_proxies
from pages.sessions import HOME
from settings import load_settings
from tests.conftest import CreateRow, LiveServer
from tests.core.test_authentication import NewKey
from tests.server.conftest import send_bytes

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
FORWARDED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "crm.example",
    "X-Forwarded-Prefix": "/crm",
}
PUBLIC = "https://crm.example/crm"


def trust(app: Flask, proxies: int) -> None:
    init_proxies(app, load_settings({"proxies": str(proxies)}, {}))


@pytest.fixture
def proxied(app: Flask, new_key_with_scope: NewKey) -> FlaskClient:
    """Return an admin's client behind one proxy, at https://crm.example/crm."""
    trust(app, 1)
    client = app.test_client(use_cookies=False)
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {new_key_with_scope('admin')}"
    client.environ_base |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in FORWARDED.items()}
    return client


@pytest.mark.parametrize(
    "path", ["/api/v1/companies?limit=1", "/api/v1/changes?limit=1", "/api/v1/changes?since=0&limit=1"]
)
def test_the_next_link_has_the_public_address(proxied: FlaskClient, create_row: CreateRow, path: str) -> None:
    create_row("companies")
    create_row("companies")
    link = proxied.get(path).headers["Link"]

    assert link.startswith(f"<{PUBLIC}{path.partition('?')[0]}?")
    # The proxy removes the prefix.
    followed = proxied.get(link.removeprefix(f"<{PUBLIC}").partition(">")[0])
    assert (followed.status_code, len(followed.json)) == (200, 1)


def test_locations_have_the_prefix(proxied: FlaskClient) -> None:
    new = proxied.post("/api/v1/contacts", json={"name": "Ann"})
    assert new.headers["Location"] == f"/crm/api/v1/contacts/{new.json['id']}"
    assert proxied.put("/api/v1/companies/acme", json={"name": "A"}).headers["Location"] == "/crm/api/v1/companies/acme"
    assert proxied.get("/").headers["Location"] == "/crm/docs"
    assert proxied.get(HOME).headers["Location"] == f"/crm{HOME}/sign-in"


def test_descriptions_and_samples_have_the_public_address(proxied: FlaskClient) -> None:
    pages = {path: proxied.get(path) for path in ("/docs", "/llms.txt", "/openapi.json")}

    for path, page in pages.items():
        assert f"{PUBLIC}/api/v1/companies" in page.text, path
        assert not re.search("127.0.0.1|localhost|http://crm", page.text), path
    assert pages["/openapi.json"].json["servers"] == [{"url": PUBLIC}]
    assert f"sent only to {FORWARDED['X-Forwarded-Host']}." in proxied.get("/docs/api/companies").text


def test_the_etag_of_a_description_depends_on_the_public_address(proxied: FlaskClient) -> None:
    for path in "/docs", "/llms.txt", "/openapi.json":
        kept = {"If-None-Match": proxied.get(path).headers["ETag"]}
        assert proxied.get(path, headers=kept).status_code == 304
        for name, other in ("Proto", "http"), ("Host", "crm2.example"), ("Prefix", ""):
            assert proxied.get(path, headers=kept | {f"X-Forwarded-{name}": other}).status_code == 200, (path, name)


def test_every_link_of_a_page_begins_with_the_prefix(proxied: FlaskClient) -> None:
    for path in "/docs", "/docs/errors", "/docs/api/companies", f"{HOME}/sign-in", f"{HOME}/nothing":
        links = re.findall(r' (?:href|src|action)="(/[^"]*)"', proxied.get(path).text)
        assert len(links) >= 3, path
        assert all(link.startswith("/crm/") for link in links), links
    assert {url[:5] for url, *_texts in proxied.get("/docs/search.json").json} == {"/crm/"}
    assert 'data-root="/crm"' in proxied.get("/docs/api/companies").text


def test_cookies_redirects_and_the_line_to_paste_follow_the_proxy(app: Flask, proxied: FlaskClient) -> None:
    key = proxied.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    signed_in = proxied.post(f"{HOME}/sign-in", data={"key": key}, headers=SAME_ORIGIN)
    assert signed_in.headers["Location"] == f"/crm{HOME}"
    assert {"Path=/crm/settings", "Secure"} < set(signed_in.headers["Set-Cookie"].split("; "))

    cookie = {"Cookie": signed_in.headers["Set-Cookie"].partition(";")[0]}
    form = proxied.get(f"{HOME}/keys/new", headers=cookie).text
    token = re.findall('name="token" value="([0-9a-f.-]{101})"', form)[0]
    data = {"token": token, "name": "n", "scope": "read", "days": ""}
    created = proxied.post(f"{HOME}/keys/new", data=data, headers=cookie)
    assert f"{PUBLIC}/api/v1/companies</code>" in created.text

    signed_out = proxied.post(f"{HOME}/sign-out", data={"token": token}, headers=cookie)
    assert signed_out.headers["Location"] == f"/crm{HOME}/sign-in"
    assert {"Path=/crm/settings", "Max-Age=0"} < set(signed_out.headers["Set-Cookie"].split("; "))


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://crm.example", 303), ("https://localhost", 403), ("https://crm.example:8443", 403)],
)
def test_the_origin_of_a_form_is_compared_with_the_public_host(proxied: FlaskClient, origin: str, status: int) -> None:
    key = proxied.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    assert proxied.post(f"{HOME}/sign-in", data={"key": key}, headers={"Origin": origin}).status_code == status


def test_sign_in_attempts_count_by_the_address_of_the_client(proxied: FlaskClient) -> None:
    def sign_in(address: str, key: str = "cfk_guess") -> int:
        headers = SAME_ORIGIN | {"X-Forwarded-For": address}
        return proxied.post(f"{HOME}/sign-in", data={"key": key}, headers=headers).status_code

    # The proxy appends the address that it sees to what a client sends.
    assert [sign_in(f"198.51.100.{number}, 203.0.113.1") for number in range(11)] == [403] * 10 + [429]
    assert sign_in("203.0.113.2", proxied.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")) == 303


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("Proto", value) for value in ("ftp", "javascript", "HTTPS", "https:", "https://evil.example/?", "wss")),
        *(("Host", value) for value in ("a b", "a/b", "user@a", "a:port", "a..b", "evil.example/?", "<b>")),
        *(("Prefix", value) for value in ("//evil.example", "/\\evil.example", "crm", "/crm//", "/../crm", "/crm/.")),
        *(("Prefix", value) for value in ("https://evil.example", "/a b", "/crm?x", "/crm#x", "/<b>", "/é", "//")),
    ],
)
def test_an_invalid_address_of_a_proxy_is_400(proxied: FlaskClient, name: str, value: str) -> None:
    for path in "/", "/docs", "/api/v1/companies", "/settings/developer/sign-in", "/nothing":
        refused = proxied.get(path, headers={f"X-Forwarded-{name}": value})
        assert (refused.status_code, refused.json is None) == (400, False)
        assert f"X-Forwarded-{name}" in refused.text
        assert "evil" not in refused.text + str(refused.headers)


@pytest.mark.parametrize(
    ("prefix", "link"), [("/crm/", "/crm/docs"), ("/", "/docs"), ("/a/b-c_d.e~f", "/a/b-c_d.e~f/docs")]
)
def test_a_prefix_has_any_number_of_segments(proxied: FlaskClient, prefix: str, link: str) -> None:
    headers = {"X-Forwarded-Prefix": prefix}

    assert proxied.get("/", headers=headers).headers["Location"] == link
    servers = proxied.get("/openapi.json", headers=headers).json["servers"]
    assert servers == [{"url": f"https://crm.example{prefix.rstrip('/')}"}]


@pytest.mark.parametrize(("proxies", "client"), [(1, "10.0.0.2"), (2, "203.0.113.7"), (3, "127.0.0.1")])
def test_each_proxy_counts_one_value_from_the_right(
    app: Flask, anonymous: FlaskClient, capfd: pytest.CaptureFixture[str], proxies: int, client: str
) -> None:
    trust(app, proxies)
    anonymous.get("/docs", headers={"X-Forwarded-For": "203.0.113.7, 10.0.0.2"})

    assert capfd.readouterr().err.split()[1] == client


def test_a_forwarded_address_cannot_forge_fields_of_the_log(
    proxied: FlaskClient, capfd: pytest.CaptureFixture[str]
) -> None:
    proxied.get("/docs", headers={"X-Forwarded-For": "\x1b[2K GET /é"})
    proxied.get("/docs", headers={"X-Forwarded-For": "2001:db8::7"})

    first, second = (line.split() for line in capfd.readouterr().err.splitlines())
    assert first[1:4] == ["%1B%5B2K%20GET%20%2F%C3%A9", "GET", "/docs"]
    assert second[1:4] == ["2001:db8::7", "GET", "/docs"]


@pytest.mark.parametrize("server", ["waitress", "granian"])
def test_forwarded_headers_change_nothing_without_proxies(start_server: Callable[..., LiveServer], server: str) -> None:
    live = start_server("serve", "--server", server)
    live.read_first_key()
    strangers = {**FORWARDED, "Forwarded": "for=203.0.113.7;proto=https;host=crm.example", "X-Forwarded-Port": "1"}

    for path in "/", "/docs", "/openapi.json", "/llms.txt", f"{HOME}/sign-in", HOME:
        assert ask(live, path, strangers) == ask(live, path, {}), path
    assert "203.0.113.7" not in live.log


@pytest.mark.parametrize("server", ["waitress", "granian"])
def test_both_servers_pass_the_headers_of_proxies_on(start_server: Callable[..., LiveServer], server: str) -> None:
    live = start_server("serve", "--server", server, PROXIES="1")
    live.read_first_key()

    assert f'"servers": [{{"url": "{PUBLIC}"}}]' in ask(live, "/openapi.json", FORWARDED)
    # Nothing else is taken from a proxy.
    others = {"Forwarded": "proto=https;host=crm.example", "X-Forwarded-Port": "1", "X-Forwarded-Ssl": "on"}
    assert ask(live, "/docs", others) == ask(live, "/docs", {})


def ask(server: LiveServer, path: str, headers: dict[str, str]) -> str:
    """Return the response to a GET request without the headers that differ each time."""
    lines = [f"GET {path} HTTP/1.1", "Host: a", "Connection: close", *map(": ".join, headers.items())]
    response = send_bytes(server, "\r\n".join([*lines, "\r\n"]).encode(), half_close=False).decode()
    assert response.startswith("HTTP/1.1 "), response
    return re.sub("(?im)^(date|x-request-id): .*$", "", response)

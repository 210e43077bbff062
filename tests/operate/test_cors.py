"""CORS_ORIGINS: the pages of the named origins, and no others, may use the API in browsers."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from openapi.responses import HEADERS
from operate.cors import init_cors
from operate.rate_limit import init_rate_limit
from settings import InvalidSetting, load_settings

APP = "https://app.example"
CORS = "Access-Control-Allow-Origin"
PREFLIGHT = {
    "Origin": APP,
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@pytest.fixture
def shared(app: Flask) -> None:
    """Let pages of two origins use the app's API."""
    settings = load_settings({"cors_origins": f"{APP}, http://LOCALHOST:5173", "rate_limit": "3/day"}, {})
    init_rate_limit(app, settings)
    init_cors(app, settings)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("none", []),
        ("*", ["*"]),
        ("https://App.example", [APP]),
        ("http://10.0.0.1:8080,  tauri://localhost", ["http://10.0.0.1:8080", "tauri://localhost"]),
        ("https://app.example:80", ["https://app.example:80"]),
    ],
)
def test_origins_are_read_as_browsers_send_them(text: str, origins: list[str]) -> None:
    assert load_settings({"cors_origins": text}, {}).cors_origins == {*origins}


@pytest.mark.parametrize(
    "text",
    [
        "app.example",
        "https://app.example/",
        "https://app.example:443",
        "http://app.example:80",
        "https://app.example,",
        "https://*.example",
        "https://app.example https://b.example",
        "https://me@app.example",
        "null",
        "none,https://app.example",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="must be none") as refused:
        load_settings({"cors_origins": text}, {})
    assert repr(text) in str(refused.value)


def test_without_the_setting_no_page_of_another_origin_is_allowed(reader: FlaskClient) -> None:
    for response in (
        reader.get("/api/v1/companies", headers=PREFLIGHT),
        reader.options("/api/v1/keys", headers=PREFLIGHT),
    ):
        assert not [name for name in dict(response.headers) if name.startswith("Access-Control")]
        assert "Origin" not in response.headers.get("Vary", "")


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/companies/a", "/api/v1/nothing", "/openapi.json"])
def test_a_preflight_is_answered_without_a_key(anonymous: FlaskClient, path: str) -> None:
    response = anonymous.options(path, headers=PREFLIGHT)
    found = {name: value for name, value in response.headers.items() if name.startswith("Access-Control")}

    assert (response.status_code, response.data, response.headers["Vary"]) == (204, b"", "Origin")
    assert found.pop("Access-Control-Expose-Headers")
    assert found == {
        "Access-Control-Allow-Origin": APP,
        "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
        "Access-Control-Allow-Headers": "authorization,content-type",
        "Access-Control-Max-Age": "7200",
    }


@pytest.mark.usefixtures("shared")
def test_options_without_a_preflight_names_the_methods(anonymous: FlaskClient) -> None:
    assert sorted(anonymous.options("/api/v1/companies").allow) == ["GET", "HEAD", "OPTIONS", "POST"]


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("origin", [APP, "http://localhost:5173"])
def test_a_page_of_a_named_origin_may_read_every_response(
    app: Flask, reader: FlaskClient, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    def fail(**_values: Any) -> None:
        raise RuntimeError

    headers = {"Origin": origin}
    responses = [
        reader.get("/api/v1/companies", headers=headers),
        app.test_client().get("/api/v1/companies", headers=headers),
        reader.post("/api/v1/companies", json={}, headers=headers),
    ]
    monkeypatch.setitem(app.view_functions, "api.get_company", fail)
    responses += [reader.get("/api/v1/companies/a", headers=headers) for _time in range(2)]
    responses += [app.test_client().get("/openapi.json", headers=headers)]

    assert [each.status_code for each in responses] == [200, 401, 403, 500, 429, 200]
    for response in responses:
        assert (response.headers[CORS], "Origin" in response.headers["Vary"]) == (origin, True)
        assert "Access-Control-Allow-Credentials" not in response.headers
        exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
        assert {*HEADERS} - {"Cache-Control"} <= {*exposed}


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    "origin", ["", "null", "https://evil.example", "http://app.example", f"{APP}:8443", f"{APP}.evil"]
)
def test_a_page_of_another_origin_may_read_nothing(reader: FlaskClient, origin: str) -> None:
    headers = {"Origin": origin} if origin else {}
    for response in (
        reader.get("/api/v1/companies", headers=headers),
        reader.options("/api/v1/companies", headers={**PREFLIGHT, "Origin": origin}),
    ):
        assert not [name for name in dict(response.headers) if name.startswith("Access-Control")]
        # A cache must not give this response to a page that may read it.
        assert response.headers.getlist("Vary") == ["Accept, Origin" if response.request.method == "GET" else "Origin"]


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    "path", ["/", "/docs", "/settings/developer/sign-in", "/settings/developer", "/static/style.css"]
)
def test_pages_are_for_their_own_origin(anonymous: FlaskClient, path: str) -> None:
    for response in anonymous.get(path, headers={"Origin": APP}), anonymous.options(path, headers=PREFLIGHT):
        assert CORS not in response.headers
        response.close()


def test_an_asterisk_allows_every_origin(app: Flask, reader: FlaskClient) -> None:
    init_cors(app, load_settings({"cors_origins": "*"}, {}))

    assert reader.get("/api/v1/companies", headers={"Origin": "null"}).headers[CORS] == "*"
    assert reader.options("/api/v1/companies", headers=PREFLIGHT).headers[CORS] == "*"

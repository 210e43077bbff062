"""RATE_LIMIT: each key may send a number of requests in a window, and every response says how many are left."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from auth import new_key
from operate.rate_limit import init_rate_limit
from settings import load_settings

COMPANIES = "/api/v1/companies"


@pytest.fixture
def limited(app: Flask) -> None:
    """Give the app a limit of five requests per minute."""
    init_rate_limit(app, load_settings({"rate_limit": "5/minute"}, {}))


@pytest.mark.parametrize(
    ("text", "limit"),
    [("off", None), ("1/second", (1, 1)), ("100/minute", (100, 60)), ("5/hour", (5, 3600)), ("9/day", (9, 86400))],
)
def test_a_limit_is_a_number_of_requests_in_a_unit_of_time(text: str, limit: tuple[int, int] | None) -> None:
    assert load_settings({}, {"RATE_LIMIT": text}).rate_limit == limit


def test_without_the_setting_nothing_is_limited(reader: FlaskClient) -> None:
    for _time in range(200):
        response = reader.get(COMPANIES)
        assert (response.status_code, "RateLimit" in response.headers) == (200, False)


@pytest.mark.usefixtures("limited")
def test_every_request_with_a_valid_key_counts_and_says_what_is_left(reader: FlaskClient) -> None:
    tag = reader.get(COMPANIES).headers["ETag"]
    responses = [
        reader.get(COMPANIES, headers={"If-None-Match": tag}),
        reader.get(f"{COMPANIES}/nobody"),
        reader.post(COMPANIES, json={"name": "Acme"}),
        reader.get("/api/v1/nothing"),
        reader.get(COMPANIES),
        reader.get(COMPANIES),
    ]

    assert [each.status_code for each in responses] == [304, 404, 403, 404, 429, 429]
    assert {each.headers["RateLimit-Policy"] for each in responses} == {'"default";q=5;w=60'}
    left = [re.fullmatch('"default";r=([0-9]);t=(5[0-9]|60)', each.headers["RateLimit"]) for each in responses]
    assert [int(found[1]) for found in left if found] == [3, 2, 1, 0, 0, 0]


@pytest.mark.usefixtures("limited")
def test_a_refused_request_changes_nothing_and_says_when_to_try_again(writer: FlaskClient, admin: FlaskClient) -> None:
    statuses = [writer.post(COMPANIES, json={"name": "Acme"}).status_code for _time in range(6)]
    refused = writer.post(COMPANIES, json={"name": "Acme"})

    assert statuses == [201] * 5 + [429]
    assert (refused.content_type, refused.json["title"]) == ("application/problem+json", "Too Many Requests")
    wait = refused.headers["Retry-After"]
    assert refused.json["detail"] == f"Too many requests with this API key: try again in {wait} seconds."
    assert refused.headers["RateLimit"] == f'"default";r=0;t={wait}'
    # Another key has a limit of its own.
    assert len(admin.get(COMPANIES).json) == 5


@pytest.mark.usefixtures("limited")
def test_requests_without_a_valid_key_do_not_count(app: Flask, reader: FlaskClient) -> None:
    anonymous = app.test_client()
    for _time in range(10):
        for path, headers in (
            (COMPANIES, {}),
            (COMPANIES, {"Authorization": f"Bearer {new_key()}"}),
            ("/openapi.json", {}),
            ("/settings/developer/sign-in", {}),
        ):
            response = anonymous.get(path, headers=headers)
            assert response.status_code in {200, 401}
            assert "RateLimit" not in response.headers
        assert reader.options(COMPANIES).status_code == 204
        assert "RateLimit" not in reader.get("/llms.txt").headers

    assert reader.get(COMPANIES).headers["RateLimit"].startswith('"default";r=4;t=')


def test_a_new_window_begins_after_the_old_one(
    limited: None, reader: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = 1000.0
    monkeypatch.setattr("api.rate_limits.monotonic", lambda: time)
    first = [reader.get(COMPANIES).status_code for _time in range(6)]
    time += 60

    assert first == [reader.get(COMPANIES).status_code for _time in range(6)] == [200] * 5 + [429]

"""The access log has one line for every request and contains no secrets."""

import logging
import re

import pytest
from flask.testing import FlaskClient

from auth import new_key


def test_the_access_log_has_a_line_for_every_response(reader: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    reader.get("/api/v1/companies", headers={"X-Request-Id": "job-7"})
    reader.get("/api/v1/a%0Ab?secret=1", headers={"X-Request-Id": "job-8"})

    at = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"{at} GET /api/v1/companies 200 [0-9.]+ [0-9a-f-]{{36}} job-7", first)
    assert re.fullmatch(rf"{at} GET /api/v1/a%0Ab 404 [0-9.]+ [0-9a-f-]{{36}} job-8", second)


def test_control_characters_in_a_method_are_escaped_in_the_log(
    reader: FlaskClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reader.open("/api/v1/companies", method="\x1b[2KGET").status_code == 405

    [line] = capsys.readouterr().err.splitlines()
    assert " %1B%5B2KGET /api/v1/companies 405 " in line


def test_errors_and_the_log_do_not_contain_keys(
    reader: FlaskClient, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    key = new_key()
    for path in f"/api/v1/companies?{key}=1", f"/api/v1/contacts?companyId=!{key}", f"/api/v1/companies/{key}":
        response = reader.get(path)
        assert response.status_code in {400, 404}
        assert key not in response.text
    logged = caplog.text + capsys.readouterr().err
    assert "cfk_[redacted]" in logged
    assert key not in logged

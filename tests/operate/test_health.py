"""`/healthz` and `/readyz`: probes for supervisors and load balancers, without a key."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database import db
from database.identity import DatabaseFile
from database.schema import revisions
from tests.conftest import LiveServer, Query, send_request


@pytest.mark.databases("sqlite", "postgresql")
def test_the_probes_need_no_key_and_are_not_logged(anonymous: FlaskClient, capfd: pytest.CaptureFixture[str]) -> None:
    for path in "/healthz", "/readyz":
        response = anonymous.get(path)
        assert (response.status_code, response.json) == (200, {"status": "ok"})
        assert response.headers["Cache-Control"] == "no-store"
        assert (anonymous.head(path).status_code, anonymous.post(path).status_code) == (200, 405)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split()[2:5] for line in lines] == [["POST", path, "405"] for path in ("/healthz", "/readyz")]


def test_healthz_executes_no_query(app: Flask, anonymous: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise db.engine.dialect.loaded_dbapi.OperationalError("gone")

    monkeypatch.setattr("database.connection.Connections.open", fail)
    assert anonymous.get("/healthz").status_code == 200
    assert anonymous.get("/readyz").status_code == 500


@pytest.mark.databases("sqlite", "postgresql")
def test_readyz_is_503_for_another_schema(
    anonymous: FlaskClient, query: Query, capfd: pytest.CaptureFixture[str]
) -> None:
    query("UPDATE alembic_version SET version_num = '0004'")
    response = anonymous.get("/readyz")
    query(f"UPDATE alembic_version SET version_num = '{revisions()[-1]}'")

    assert (response.status_code, response.headers["Retry-After"], capfd.readouterr().err) == (503, "10", "")
    assert response.json["detail"] == f"The schema of the database is 0004, not {revisions()[-1]}: restart the server."
    assert anonymous.get("/readyz").status_code == 200


@pytest.mark.databases("sqlite")
def test_readyz_is_503_while_the_file_is_away(app: Flask, anonymous: FlaskClient, database: str) -> None:
    path = Path(database.removeprefix("sqlite:///"))
    with app.app_context():
        assert anonymous.get("/readyz").status_code == 200
    for _time in range(2):
        path.rename(path.with_suffix(".away"))
        response = anonymous.get("/readyz")
        assert (response.status_code, response.json["detail"].split(":")[0]) == (
            503,
            "cardfile.db was moved, deleted or replaced",
        )
        assert not path.exists()
        path.with_suffix(".away").rename(path)
        assert anonymous.get("/readyz").status_code == 200


@pytest.mark.databases("sqlite")
def test_readyz_is_200_while_other_threads_write(
    anonymous: FlaskClient, writer: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_meanwhile(file: DatabaseFile, connection: object = None) -> None:
        monkeypatch.undo()
        assert writer.post("/api/v1/contacts", json={"name": "Ann"}).status_code == 201
        file.require_in_place(connection)

    monkeypatch.setattr(DatabaseFile, "require_in_place", write_meanwhile)
    assert anonymous.get("/readyz").status_code == 200


@pytest.mark.parametrize("name", ["waitress", pytest.param("granian", marks=pytest.mark.tools)])
def test_a_server_answers_probes_without_a_line_in_its_log(start_server: Callable[..., LiveServer], name: str) -> None:
    server = start_server("serve", "--server", name)
    server.read_first_key()
    for path in "/healthz", "/readyz", "/llms.txt":
        assert send_request(server, path)[0] == 200
    server.stop(15)
    assert "/llms.txt" in server.log
    assert not {"/healthz", "/readyz"} & set(server.log.split())

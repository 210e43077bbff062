"""What the database writes is what the schemas' dump would write, whatever is stored."""

import json
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models
from database.connection import execute, write_transaction
from formats.ids import new_id
from formats.values import MAX_AMOUNT, MAX_INTEGER
from schemas import RESOURCES, ResourceSchema

pytestmark = pytest.mark.databases("sqlite", "postgresql")

# Every character that can be stored: quotes, controls, emoji, those that look like other JSON.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=3, max_size=12)
TEXTS = TEXT | st.sampled_from(['"\\/\b\f\n\r\t\x1f\x7f', "null", "[1]", '{"a":1}', "\u2028\ufeff😀é", "1e5", "true"])
VALUES: dict[type, st.SearchStrategy[Any]] = {
    sa.Boolean: st.booleans(),
    sa.Integer: st.integers(0, MAX_INTEGER),
    sa.Numeric: st.decimals(0, MAX_AMOUNT, places=2) | st.just(MAX_AMOUNT),
    sa.JSON: st.lists(TEXTS, max_size=5, unique=True),
    models.Time: st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones()).map(
        lambda time: time.replace(microsecond=0)
    ),
}
RULED = {
    "website": TEXTS.map("https://{}".format),
    "logo_url": TEXTS.map("http://{}".format),
    "email": TEXTS.map("a{}@b".format),
    "visitor_ip": st.ip_addresses().map(str),
    "status": st.sampled_from(models.STATUSES),
}


def values_of(schema: ResourceSchema) -> st.SearchStrategy[dict[str, Any]]:
    """Return rows as models store them, all of their columns filled in but the references."""
    columns = [column for column in schema.model.__table__.c if column.name not in {"id", "company_id", "number"}]
    found = {}
    for column in columns:
        whole = RULED.get(column.name, VALUES.get(type(column.type), TEXTS))
        found[column.name] = st.none() | whole if column.nullable else whole
    return st.fixed_dictionaries(found)


def exact(text: str) -> Any:
    """Return what a JSON text says, members in their order and numbers as they are written."""
    return json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_compiled_json_is_what_dump_gives(app: Flask, reader: FlaskClient, resource: str) -> None:
    schema = RESOURCES[resource]

    # The rows of an example stay for the next ones, which read their own alone.
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
    @given(values=values_of(schema))
    def compare(values: dict[str, Any]) -> None:
        row_id = new_id()
        with app.app_context(), write_transaction():
            execute(
                models.insert_statement,
                schema.model,
                id=row_id,
                **({"company_id": None} if "company_id" in schema.fields else {}),
                **values,
            )
        dumped = json.dumps(schema.dump({"id": row_id, "company_id": None, **values}))
        assert exact(reader.get(f"/api/v1/{resource}/{row_id}").text) == exact(dumped)
        listed = reader.get(f"/api/v1/{resource}?id={row_id}")
        assert exact(listed.text) == [exact(dumped)]

    compare()

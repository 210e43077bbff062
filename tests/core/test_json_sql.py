"""The JSON that SQL writes equals the JSON that the schemas write."""

import json
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from database.columns import Time
from database.connection import execute, write_transaction
from database.statement import insert_statement
from formats.ids import new_id
from formats.values import MAX_AMOUNT, MAX_INTEGER
from models import STATUSES
from schemas import RESOURCES, ResourceSchema

pytestmark = pytest.mark.databases("sqlite", "postgresql")

# Any text that can be stored, including quotes, control characters, emoji and text that looks like other JSON.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=3, max_size=12)
TEXTS = TEXT | st.sampled_from(['"\\/\b\f\n\r\t\x1f\x7f', "null", "[1]", '{"a":1}', "\u2028\ufeff😀é", "1e5", "true"])
STRATEGIES_BY_TYPE: dict[type, st.SearchStrategy[Any]] = {
    sa.Boolean: st.booleans(),
    sa.Integer: st.integers(0, MAX_INTEGER),
    sa.Numeric: st.decimals(0, MAX_AMOUNT, places=2) | st.just(MAX_AMOUNT),
    sa.JSON: st.lists(TEXTS, max_size=5, unique=True),
    Time: st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones()).map(
        lambda time: time.replace(microsecond=0)
    ),
}
STRATEGIES_BY_COLUMN = {
    "website": TEXTS.map("https://{}".format),
    "logo_url": TEXTS.map("http://{}".format),
    "email": TEXTS.map("a{}@b".format),
    "visitor_ip": st.ip_addresses().map(str),
    "status": st.sampled_from(STATUSES),
}


def row_strategy(schema: ResourceSchema) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for rows as models store them, without id, number and company_id."""
    columns = [column for column in schema.model.__table__.c if column.name not in {"id", "company_id", "number"}]
    strategies = {}
    for column in columns:
        strategy = STRATEGIES_BY_COLUMN.get(column.name, STRATEGIES_BY_TYPE.get(type(column.type), TEXTS))
        strategies[column.name] = st.none() | strategy if column.nullable else strategy
    return st.fixed_dictionaries(strategies)


def parse_exactly(text: str) -> Any:
    """Parse JSON, keeping the order of fields and the digits of numbers."""
    return json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)


@pytest.mark.parametrize("resource", RESOURCES)
def test_json_from_sql_equals_json_from_the_schema(app: Flask, reader: FlaskClient, resource: str) -> None:
    schema = RESOURCES[resource]

    # Rows stay between examples; each example reads only its own row.
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
    @given(values=row_strategy(schema))
    def compare(values: dict[str, Any]) -> None:
        row_id = new_id()
        with app.app_context(), write_transaction():
            execute(
                insert_statement,
                schema.model,
                id=row_id,
                **({"company_id": None} if "company_id" in schema.fields else {}),
                **values,
            )
        dumped = json.dumps(schema.dump({"id": row_id, "company_id": None, **values}))
        assert parse_exactly(reader.get(f"/api/v1/{resource}/{row_id}").text) == parse_exactly(dumped)
        listed = reader.get(f"/api/v1/{resource}?id={row_id}")
        assert parse_exactly(listed.text) == [parse_exactly(dumped)]

    compare()

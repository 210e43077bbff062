"""The queries of lists and single rows use indexes."""

import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from database import db
from tests.conftest import CreateRow, ExecutedStatement

pytestmark = pytest.mark.databases("sqlite", "postgresql")


@pytest.mark.parametrize(
    ("path", "plan"),
    [
        ("companies?limit=5", ["SCAN companies USING INDEX ix_companies_created_at_id"]),
        ("companies?sort=updatedAt&limit=5", ["SCAN companies USING INDEX ix_companies_updated_at_id"]),
        ("companies?updatedAt[gt]=2024-01-01T00:00:00Z&sort=updatedAt", ["USING INDEX ix_companies_updated_at_id"]),
        ("companies?name=Acme", ["SEARCH companies USING INDEX ix_companies_name_created_at_id"]),
        ("companies?website=https://acme.com", ["SEARCH companies USING INDEX ix_companies_website_created_at_id"]),
        ("companies?stageId=won&limit=5", ["SEARCH companies USING INDEX ix_companies_stage_id_created_at_id"]),
        ("contacts?companyId=a&limit=5", ["SEARCH contacts USING INDEX ix_contacts_company_id_created_at_id"]),
        ("conversations?companyId=a", ["SEARCH conversations USING INDEX ix_conversations_company_id_created_at_id"]),
        ("contacts?sort=-createdAt&limit=5", ["SCAN contacts USING INDEX ix_contacts_created_at_id"]),
        ("contacts?email=a@acme.com", ["SEARCH contacts USING INDEX ix_contacts_email_created_at_id"]),
        ("conversations?status=open", ["SEARCH conversations USING INDEX ix_conversations_status_created_at_id"]),
        ("contacts?q=ann", ["SEARCH contacts USING INTEGER PRIMARY KEY", "SCAN contacts_search VIRTUAL TABLE INDEX"]),
        ("companies/x?include=contacts", ["sqlite_autoindex_companies", "contacts USING INDEX ix_contacts_company_id"]),
        ("companies?sort=-updatedAt,name&limit=5", ["SEARCH companies USING INDEX ix_companies_updated_at_id"]),
        ("changes?since=0", ["SEARCH changes USING INTEGER PRIMARY KEY"]),
    ],
)  # fmt: skip
def test_every_documented_query_uses_an_index(explain: Callable[[str], str], path: str, plan: list[str]) -> None:
    found = explain(f"/api/v1/{path}")

    if "website" in path:
        # A website has several keys, whose rows have no common order; PostgreSQL uses the index for larger tables.
        assert plan[0] in found or "Scan" in found
        return
    if "Scan" in found:
        # PostgreSQL's plans have other words and the same indexes, except that q uses none.
        plan = re.findall(r"ix_\w+", " ".join(plan))
    for step in plan:
        assert step in found
    # Among rows with equal first terms, SQLite may sort by the last terms without an index.
    assert not re.search("TEMP B-TREE FOR ORDER BY|TEMP B-TREE$|Sort$", found) or "q=" in path or "include" in path


@pytest.mark.parametrize(
    ("sort", "condition"),
    [
        ("createdAt", "(created_at,id)>(?,?)"),
        ("-createdAt", "created_at<?"),
        ("-updatedAt,name", "updated_at<?"),
        ("updatedAt,-name", "updated_at>?"),
    ],
)
def test_the_query_of_a_next_page_uses_an_index(
    explain: Callable[[str], str], create_row: CreateRow, reader: FlaskClient, sort: str, condition: str
) -> None:
    for _number in range(3):
        create_row("contacts")
    link = reader.get(f"/api/v1/contacts?limit=1&sort={sort}").headers["Link"]

    found = explain(link[len("<http://localhost") :].split(">")[0])
    column = "created_at" if "createdAt" in sort else "updated_at"
    index = f"ix_contacts_{column}_id"
    assert f"SEARCH contacts USING INDEX {index} ({condition})" in found or (
        "Scan" in found
        and f"using {index} on contacts" in found
        and re.search(rf"Index Cond: \(.*{column}[ ,].*[<>]", found)
    )


@pytest.fixture
def explain(app: Flask, reader: FlaskClient, statements: list[ExecutedStatement]) -> Callable[[str], str]:
    """Return a function that returns the query plans of a GET request, without the lookup of the key."""

    def plan_of(path: str) -> str:
        statements.clear()
        assert reader.get(path).status_code in {200, 404}
        with app.app_context():
            own = app.extensions["connections"].open()
            command = "EXPLAIN QUERY PLAN"
            if db.engine.dialect.name == "postgresql":
                # PostgreSQL would otherwise scan a table of a few rows.
                for node in "seqscan", "bitmapscan", "sort":
                    own.driver.execute(f"SET enable_{node} = off")
                command = "EXPLAIN"
            found = []
            for each in statements[1:]:
                found += [row[-1] for row in own.driver.execute(f"{command} {each.sql}", each.values)]
            own.pooled.invalidate()
            return "\n".join(found)

    return plan_of

"""Create the resources, the keys and the change log."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from migrations.change_log import FUNCTION, create_triggers, is_postgresql, keep_log, refuse

revision = "0001"
down_revision = None

Parts = Iterator[sa.schema.SchemaItem]


def column(
    name: str, type_: Any, rule: str = "", sqlite: str = "", postgresql: str = "", required: bool = False
) -> Parts:
    """Yield the column and, for each database, the CHECK that holds its rules; {} stands for the column."""
    yield sa.Column(name, type_, nullable=not required)
    for dialect, more in ("sqlite", sqlite), ("postgresql", postgresql):
        if sql := " AND ".join(filter(None, (rule, more))).replace("{}", name):
            yield sa.CheckConstraint(sql, name=name).ddl_if(dialect=dialect)


def string(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def text(
    name: str, longest: int, shortest: int = 0, rule: str = "", sqlite: str = "", postgresql: str = "", **options: bool
) -> Parts:
    rule = f"length({{}}) BETWEEN {shortest} AND {longest}{rule}"
    sqlite = f"typeof({{}}) IN ('text', 'null') AND instr({{}}, char(0)) = 0{sqlite}"
    return column(name, string(longest), rule, sqlite, postgresql, **options)


def url(name: str) -> Parts:
    return text(name, 2048, 1, " AND (lower({}) LIKE 'http://_%' OR lower({}) LIKE 'https://_%')")


def choice(name: str, *words: str) -> Parts:
    return column(name, string(16), f"{{}} IN ({', '.join(map(repr, words))})", required=True)


def boolean(name: str) -> Parts:
    return column(name, sa.Boolean(), sqlite="{} IN (0, 1)", required=True)


def time(name: str, required: bool = False) -> Parts:
    rules = (
        "strftime('%Y-%m-%dT%H:%M:%SZ', {}) IS {}",
        "{} BETWEEN '0001-01-01T00:00:00Z' AND '9999-12-31T23:59:59Z'",
    )
    return column(name, moment(), "", *rules, required=required)


def moment() -> Any:
    return TIMESTAMP(timezone=True, precision=0).with_variant(sa.Text(), "sqlite")


def row(*columns: Parts) -> Iterator[sa.schema.SchemaItem]:
    """Yield what every resource and key has, around the columns of its own."""
    alphabet = " AND {} NOT GLOB '*[^A-Za-z0-9._~-]*'", "{} ~ '^[A-Za-z0-9._~-]+$'"
    yield serial("number")
    yield from text("id", 64, 1, sqlite=alphabet[0], postgresql=alphabet[1], required=True)
    yield sa.UniqueConstraint("id")
    for each in columns:
        yield from each
    yield from time("created_at", required=True)


def serial(name: str, **options: Any) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, **options)


def company_id() -> Parts:
    yield sa.Column("company_id", string(64))
    yield sa.ForeignKeyConstraint(["company_id"], ["companies.id"], ondelete="SET NULL")


def resource(name: str, indexed: tuple[str, ...], *columns: Parts) -> None:
    """Create a resource's table with the indexes of its documented access paths."""
    op.create_table(name, *row(*columns), *time("updated_at", required=True))
    op.create_index(f"ix_{name}_created_at_id", name, ["created_at", "id"])
    op.create_index(f"ix_{name}_updated_at_id", name, ["updated_at", "id"])
    for column_name in indexed:
        op.create_index(f"ix_{name}_{column_name}_created_at_id", name, [column_name, "created_at", "id"])


def upgrade() -> None:
    op.create_table(
        "changes",
        serial("seq", autoincrement=False),
        sa.Column("resource", string(16), nullable=False),
        sa.Column("row_id", string(64), nullable=False),
        *choice("action", "created", "updated", "deleted"),
        sa.Column("at", moment(), nullable=False),
        sa.Column("data", sa.JSON()),
    )
    op.create_index("ix_changes_resource_seq", "changes", ["resource", "seq"])
    op.create_index("ix_changes_resource_row_id_seq", "changes", ["resource", "row_id", "seq"])
    keep_log()

    op.create_table(
        "api_keys",
        *row(
            text("name", 255, 1, required=True),
            choice("scope", "read", "write", "admin"),
            text("prefix", 8, 8, required=True),
            text("sha256", 64, 64, required=True),
            time("expires_at"),
            time("last_used_at"),
        ),
        sa.UniqueConstraint("sha256"),
    )

    resource(
        "companies",
        ("name", "website", "stage_id"),
        text("name", 255, 1, required=True),
        url("website"),
        text("industry", 255),
        column(
            "deal_value",
            sa.Numeric(14, 2).with_variant(sa.Numeric(), "postgresql"),
            "{} BETWEEN 0 AND 999999999999.99",
            "typeof({}) IN ('integer', 'real', 'null') AND round({}, 2) = {}",
            "round({}, 2) = {}",
        ),
        text("stage_id", 255),
        column("position", sa.Integer(), "{} BETWEEN 0 AND 2147483647", "typeof({}) = 'integer'", required=True),
        url("logo_url"),
        text("notes", 10_000),
        time("last_contact"),
        boolean("is_customer"),
        text("created_by", 255),
    )
    resource(
        "contacts",
        ("company_id", "email"),
        company_id(),
        text("name", 255, 1, required=True),
        text("email", 255, 3, " AND {} LIKE '_%@_%'"),
        text("phone", 255),
        text("title", 255),
        text("role", 255),
        text("notes", 10_000),
        boolean("is_primary"),
        text("user_id", 255),
    )
    resource(
        "conversations",
        ("company_id", "status"),
        company_id(),
        text("visitor_name", 255),
        text("visitor_email", 255),
        text("visitor_ip", 45, 2, sqlite=" AND {} NOT GLOB '*[^0-9A-Fa-f.:]*'", postgresql="{} ~ '^[0-9A-Fa-f.:]+$'"),
        text("user_agent", 2048),
        text("referrer_url", 2048),
        text("page_url", 2048),
        choice("status", "open", "pending", "snoozed", "resolved", "closed"),
        text("assigned_to_user_id", 255),
        boolean("is_read"),
        boolean("trust_uploads"),
        column(
            "tags",
            sa.JSON().with_variant(JSONB(), "postgresql"),
            sqlite="json_valid({}) AND json_type({}) = 'array' AND json_array_length({}) <= 50",
            postgresql="jsonb_typeof({}) = 'array' AND jsonb_array_length({}) <= 50",
            required=True,
        ),
        time("last_message_at"),
    )
    check_tags()
    if is_postgresql():
        release_rows()
    create_triggers("companies", COMPANY)
    create_triggers("contacts", CONTACT)
    create_triggers("conversations", CONVERSATION)


def release_rows() -> None:
    """Have PostgreSQL log what becomes of a company's rows before the company's own end, as SQLite does."""
    body = " ".join(
        f"UPDATE {table} SET company_id = NULL WHERE company_id = OLD.id;" for table in ("conversations", "contacts")
    )
    op.execute(f"CREATE FUNCTION companies_release_rows() {FUNCTION} BEGIN {body} RETURN OLD; END $$")
    op.execute(
        "CREATE TRIGGER companies_release_rows BEFORE DELETE ON companies"
        " FOR EACH ROW EXECUTE FUNCTION companies_release_rows()"
    )


def check_tags() -> None:
    """Hold the rules of each tag, which a CHECK can't: it may not look into an array."""
    sentence = "tags are texts of 1 to 64 characters, each once"
    if is_postgresql():
        each = "SELECT FROM jsonb_array_elements(NEW.tags)"
        wrong = "jsonb_typeof(value) <> 'string' OR length(value #>> '{}') NOT BETWEEN 1 AND 64"
        repeated = "SELECT count(*) > count(DISTINCT value) FROM jsonb_array_elements(NEW.tags)"
        is_array = "jsonb_typeof(NEW.tags) = 'array'"
    else:
        each = "SELECT 1 FROM json_each(NEW.tags)"
        wrong = "type <> 'text' OR length(value) NOT BETWEEN 1 AND 64 OR instr(value, char(0))"
        repeated = "SELECT count(*) > count(DISTINCT value) FROM json_each(NEW.tags)"
        is_array = "json_valid(NEW.tags)"
    for verb in "INSERT", "UPDATE":
        refuse(
            f"conversations_check_tags_on_{verb.lower()}",
            f"BEFORE {verb} ON conversations",
            f"{is_array} AND EXISTS ({each} WHERE {wrong}) OR {is_array} AND ({repeated})",
            sentence,
        )


TIMES = {"created_at": "time", "updated_at": "time"}
COMPANY = {
    **dict.fromkeys(("id", "name", "website", "industry"), "text"),
    "deal_value": "amount",
    "stage_id": "text",
    "position": "number",
    "logo_url": "text",
    "notes": "text",
    "last_contact": "time",
    "is_customer": "boolean",
    "created_by": "text",
    **TIMES,
}
CONTACT = {
    **dict.fromkeys(("id", "company_id", "name", "email", "phone", "title", "role", "notes"), "text"),
    "is_primary": "boolean",
    "user_id": "text",
    **TIMES,
}
CONVERSATION = {
    **dict.fromkeys(("id", "company_id", "visitor_name", "visitor_email", "visitor_ip"), "text"),
    **dict.fromkeys(("user_agent", "referrer_url", "page_url", "status", "assigned_to_user_id"), "text"),
    "is_read": "boolean",
    "trust_uploads": "boolean",
    "tags": "json",
    "last_message_at": "time",
    **TIMES,
}

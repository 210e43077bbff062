"""The resources' columns as revision 0004 created them; a revision that recreates a trigger needs them, too."""

from migrations.tables import Column, amount, boolean, choice, company_id, integer, tags, text, time, url

ADDRESS = " AND {0} NOT GLOB '*[^0-9A-Fa-f.:]*'", "{0} ~ '^[0-9A-Fa-f.:]+$'"

RESOURCES: dict[str, tuple[Column, ...]] = {
    "companies": (
        text("name", 255, 1, required=True, indexed=True, searchable=True),
        url("website", indexed=True, searchable=True),
        text("industry", 255, searchable=True),
        amount("deal_value"),
        text("stage_id", 255, indexed=True),
        integer("position"),
        url("logo_url"),
        text("notes", 10_000, searchable=True),
        time("last_contact"),
        boolean("is_customer"),
        text("created_by", 255),
    ),
    "contacts": (
        company_id(),
        text("name", 255, 1, required=True, searchable=True),
        text("email", 255, 3, " AND {0} LIKE '_%@_%'", indexed=True, searchable=True),
        text("phone", 255, searchable=True),
        text("title", 255, searchable=True),
        text("role", 255, searchable=True),
        text("notes", 10_000, searchable=True),
        boolean("is_primary"),
        text("user_id", 255),
    ),
    "conversations": (
        company_id(),
        text("visitor_name", 255, searchable=True),
        text("visitor_email", 255, searchable=True),
        text("visitor_ip", 45, 2, "", *ADDRESS),
        text("user_agent", 2048),
        text("referrer_url", 2048, searchable=True),
        text("page_url", 2048, searchable=True),
        choice("status", "open", "pending", "snoozed", "resolved", "closed", indexed=True),
        text("assigned_to_user_id", 255),
        boolean("is_read"),
        boolean("trust_uploads"),
        tags("tags"),
        time("last_message_at"),
    ),
}

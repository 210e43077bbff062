"""Hold the log and the references against programs that keep neither, a database's shell above all."""

from alembic import op

from migrations.change_log import is_postgresql, refuse

revision = "0004"
down_revision = "0003"

NUMBERED = "the change log numbers its changes itself"
RESOURCES = ("companies", "contacts", "conversations")


def upgrade() -> None:
    gap = "NEW.seq > 1 AND NOT EXISTS (SELECT 1 FROM changes WHERE seq = NEW.seq - 1)"
    refuse("changes_keep_order", "AFTER INSERT ON changes", gap, NUMBERED)
    if not is_postgresql():
        taken = "EXISTS (SELECT 1 FROM changes WHERE seq = NEW.seq)"
        refuse("changes_keep_number", "BEFORE INSERT ON changes", taken, NUMBERED)
        release_rows()
        for resource in RESOURCES:
            refuse_replacing(resource)


def release_rows() -> None:
    """Empty the references to a company that is deleted: SQLite does so itself only where it is told to on opening."""
    body = " ".join(
        f"UPDATE {table} SET company_id = NULL WHERE company_id = OLD.id;" for table in ("conversations", "contacts")
    )
    op.execute(f"CREATE TRIGGER companies_release_rows BEFORE DELETE ON companies BEGIN {body} END")


def refuse_replacing(resource: str) -> None:
    """Refuse REPLACE, which deletes the row that is there without a trigger's seeing it."""
    sentence = "the row exists: update it"
    number = f"EXISTS (SELECT 1 FROM {resource} WHERE number = NEW.number AND id <> NEW.id)"
    refuse(f"{resource}_keep_number", f"BEFORE INSERT ON {resource}", number, sentence)
    # Only the log still knows of a row of the same id; ON CONFLICT DO UPDATE never comes here.
    last = f"SELECT action FROM changes WHERE resource = '{resource}' AND row_id = NEW.id ORDER BY seq DESC LIMIT 1"
    check = f"SELECT RAISE(ABORT, '{sentence}') WHERE ({last}) <> 'deleted';"
    name = f"{resource}_log_created"
    found = op.get_bind().exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).scalar()
    op.execute(f"DROP TRIGGER {name}")
    op.execute(str(found).replace(" BEGIN ", f" BEGIN {check} ", 1))

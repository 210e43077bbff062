"""The triggers, as SQL: they log every change, guard the log, and keep the search index current."""

from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa
from alembic import op

from database.postgresql import LOCK
from database.search import accents_condition, index_triggers
from formats import public_name
from formats.values import Format

SQLITE_NOW, POSTGRESQL_NOW = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')", "date_trunc('second', clock_timestamp())"
LAST_TIME = "(SELECT at FROM changes ORDER BY seq DESC LIMIT 1)"
# The time of a change, by database: never before that of the last one, also when the system clock is set back.
TIME_OF_CHANGE = (
    f"max({SQLITE_NOW}, ifnull({LAST_TIME}, ''))",
    # Read once for all rows of the statement.
    f"(SELECT greatest({POSTGRESQL_NOW}, {LAST_TIME}))",
)
# The time in revisions before 0006.
CLOCK = SQLITE_NOW, POSTGRESQL_NOW
# The condition on the last action of a row that exists.
PRESENT = "NOT IN ('deleted', 'forgotten')"
FUNCTION = "RETURNS trigger LANGUAGE plpgsql AS $$"


def is_postgresql() -> bool:
    """Tell whether the revision runs on PostgreSQL."""
    return op.get_context().dialect.name == "postgresql"


def guard_log() -> None:
    """Refuse every change of the log, except a new change with the next number."""
    sentence, numbered = "the change log is only ever added to", "the change log numbers its changes itself"
    for verb in "UPDATE", "DELETE":
        refuse(f"changes_keep_{verb.lower()}", f"BEFORE {verb} ON changes", "", sentence)
    gap = "NEW.seq > 1 AND NOT EXISTS (SELECT 1 FROM changes WHERE seq = NEW.seq - 1)"
    refuse("changes_keep_order", "AFTER INSERT ON changes", gap, numbered)
    if is_postgresql():
        refuse_truncate("changes", sentence)
        # Numbers follow the order of commits because every writer holds this lock until its end.
        lock = LOCK.removeprefix("SELECT ")
        op.execute(f"CREATE FUNCTION lock_changes() {FUNCTION} BEGIN PERFORM {lock}; RETURN NULL; END $$")
    else:
        taken = "EXISTS (SELECT 1 FROM changes WHERE seq = NEW.seq)"
        refuse("changes_keep_number", "BEFORE INSERT ON changes", taken, numbered)


def refuse(name: str, event: str, condition: str, sentence: str) -> None:
    """Create a trigger that refuses each row of an event that meets the condition, or each row, with a sentence."""
    if not is_postgresql():
        when = f" WHEN {condition}" if condition else ""
        op.execute(f"CREATE TRIGGER {name} {event}{when} BEGIN SELECT RAISE(ABORT, '{sentence}'); END")
        return
    refusal = f"RAISE EXCEPTION '{sentence}' USING ERRCODE = 'integrity_constraint_violation';"
    body = f"IF {condition or 'true'} THEN {refusal} END IF; IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW;"
    op.execute(f"CREATE FUNCTION {name}() {FUNCTION} BEGIN {body} END $$")
    op.execute(f"CREATE TRIGGER {name} {event} FOR EACH ROW EXECUTE FUNCTION {name}()")


def refuse_truncate(table: str, sentence: str) -> None:
    """Make PostgreSQL refuse TRUNCATE, which fires no trigger for rows."""
    refusal = f"RAISE EXCEPTION '{sentence}' USING ERRCODE = 'integrity_constraint_violation';"
    op.execute(f"CREATE FUNCTION {table}_keep_truncate() {FUNCTION} BEGIN {refusal} END $$")
    op.execute(
        f"CREATE TRIGGER {table}_keep_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION {table}_keep_truncate()"
    )


def log_changes(
    resource: str, columns: Mapping[str, Format], present: str = PRESENT, time: tuple[str, str] = TIME_OF_CHANGE
) -> None:
    """Log every change of a resource's rows in the transaction that makes it, also of other programs.

    The columns are in the public order, each with the format of its values. Replaces the triggers of an earlier
    revision.
    """
    on_sqlite, on_postgresql = time
    if is_postgresql():
        for sql in postgresql_log_triggers(resource, columns, on_postgresql):
            op.execute(sql)
        return
    for name, sql in sqlite_log_triggers(resource, columns, present, on_sqlite):
        op.execute(f"DROP TRIGGER IF EXISTS {name}")
        op.execute(f"CREATE TRIGGER {name} {sql}")


def guard_rows(resource: str) -> None:
    """Refuse changes of rows that the log would miss, or show wrongly."""
    if is_postgresql():
        refuse_truncate(resource, "TRUNCATE is not logged: DELETE the rows instead")
    else:
        number = f"EXISTS (SELECT 1 FROM {resource} WHERE number = NEW.number AND id <> NEW.id)"
        refuse(f"{resource}_keep_number", f"BEFORE INSERT ON {resource}", number, "the row exists: update it")
    differs = "IS DISTINCT FROM" if is_postgresql() else "IS NOT"
    sentence = "an id never changes: insert a new row and delete this one"
    refuse(f"{resource}_keep_id", f"BEFORE UPDATE ON {resource}", f"NEW.id {differs} OLD.id", sentence)


def sqlite_log_triggers(
    resource: str, columns: Mapping[str, Format], present: str, time: str
) -> Iterator[tuple[str, str]]:
    """Yield the name and SQL of the triggers for each row that is inserted, updated or deleted."""
    pairs = ", ".join(
        f"'{public_name(column)}', {form.sqlite.format(f'NEW.{column}')}" for column, form in columns.items()
    )
    # REPLACE deletes a row without firing a trigger, so that only the log still has it. ON CONFLICT DO UPDATE doesn't
    # fire this trigger.
    last = f"SELECT action FROM changes WHERE resource = '{resource}' AND row_id = NEW.id ORDER BY seq DESC LIMIT 1"
    not_replaced = f"SELECT RAISE(ABORT, 'the row exists: update it') WHERE ({last}) {present}; "
    insert = "INSERT INTO changes (resource, row_id, action, at, data) VALUES"
    for action, verb, check in ("created", "INSERT", not_replaced), ("updated", "UPDATE", ""):
        values = f"('{resource}', NEW.id, '{action}', {time}, json_object({pairs}))"
        yield f"{resource}_log_{action}", f"AFTER {verb} ON {resource} BEGIN {check}{insert} {values}; END"
    values = f"('{resource}', OLD.id, 'deleted', {time}, NULL)"
    yield f"{resource}_log_deleted", f"AFTER DELETE ON {resource} BEGIN {insert} {values}; END"


def postgresql_log_triggers(resource: str, columns: Mapping[str, Format], time: str) -> Iterator[str]:
    """Yield the SQL of a function and of the triggers for each statement: all of its rows are logged at once."""
    shown = ", ".join(
        f'{form.postgresql.format(f"r.{column}")} AS "{public_name(column)}"' for column, form in columns.items()
    )
    data = f"(SELECT row_to_json(o) FROM (SELECT {shown}) AS o)"
    # Read after the lock was taken, so that the last number is seen.
    last = "SELECT coalesce(max(seq), 0) FROM changes"
    insert = f"INSERT INTO changes SELECT ({last}) + row_number() OVER (), '{resource}', r.id, TG_ARGV[0],"
    for action, verb, rows in ("created", "INSERT", "NEW"), ("updated", "UPDATE", "NEW"), ("deleted", "DELETE", "OLD"):
        name = f"{resource}_log_{action}"
        body = (
            f"{insert} {time}, {'NULL' if verb == 'DELETE' else data} FROM written AS r; RETURN NULL;"
            # A transaction with one snapshot for all of its statements can't see the last number.
            " EXCEPTION WHEN unique_violation THEN RAISE EXCEPTION 'others have written since this transaction began:"
            " begin it again' USING ERRCODE = 'serialization_failure';"
        )
        yield f"CREATE OR REPLACE FUNCTION {name}() {FUNCTION} BEGIN {body} END $$"
        yield (
            f"CREATE OR REPLACE TRIGGER {name} AFTER {verb} ON {resource} REFERENCING {rows} TABLE AS written"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {name}('{action}')"
        )
    yield (
        f"CREATE OR REPLACE TRIGGER {resource}_lock_changes BEFORE INSERT OR UPDATE OR DELETE ON {resource}"
        " FOR EACH STATEMENT EXECUTE FUNCTION lock_changes()"
    )


def release_company_rows(*resources: str) -> None:
    """Set the resources' references to a company to null before its deletion, so that the log has those changes first.

    SQLite itself does so only for connections that enable foreign keys. Replaces the trigger of an earlier revision.
    """
    body = " ".join(f"UPDATE {table} SET company_id = NULL WHERE company_id = OLD.id;" for table in resources)
    trigger = "TRIGGER companies_release_rows BEFORE DELETE ON companies"
    if is_postgresql():
        op.execute(f"CREATE OR REPLACE FUNCTION companies_release_rows() {FUNCTION} BEGIN {body} RETURN OLD; END $$")
        op.execute(f"CREATE OR REPLACE {trigger} FOR EACH ROW EXECUTE FUNCTION companies_release_rows()")
    else:
        op.execute("DROP TRIGGER IF EXISTS companies_release_rows")
        op.execute(f"CREATE {trigger} BEGIN {body} END")


def check_tags(resource: str) -> None:
    """Enforce the rules of each tag: a CHECK constraint can't look into an array."""
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
            f"{resource}_check_tags_on_{verb.lower()}",
            f"BEFORE {verb} ON {resource}",
            f"{is_array} AND EXISTS ({each} WHERE {wrong}) OR {is_array} AND ({repeated})",
            sentence,
        )


def create_search_index(resource: str, columns: Sequence[str]) -> None:
    """Index the text of the columns on SQLite; PostgreSQL searches the rows themselves."""
    if is_postgresql() or not columns:
        return
    index = f"{resource}_search"
    options = f"content = '{resource}', content_rowid = 'number', tokenize = 'trigram'"
    op.execute(f"CREATE VIRTUAL TABLE {index} USING fts5 ({', '.join(columns)}, {options})")
    op.execute(f"INSERT INTO {index} ({index}) VALUES ('rebuild')")
    for sql in index_triggers(resource, columns).values():
        op.execute(sql)


def index_accents(resource: str, columns: Sequence[str]) -> None:
    """Index the rows with accents, which SQLite's search index doesn't find without them."""
    if not is_postgresql() and columns:
        op.execute(f"CREATE INDEX ix_{resource}_accents ON {resource} (number) WHERE {accents_condition(columns)}")


def allow_erasure(resources: Mapping[str, Mapping[str, Format]]) -> None:
    """Let the data of a row's changes be blanked once its last change is `forgotten`, and its id be used again."""
    rule = "action IN ('created', 'updated', 'deleted', 'forgotten')"
    if is_postgresql():
        op.execute("ALTER TABLE changes DROP CONSTRAINT ck_changes_action")
        op.execute(f"ALTER TABLE changes ADD CONSTRAINT ck_changes_action CHECK ({rule})")
    else:
        replace_check("changes", "action IN ('created', 'updated', 'deleted')", rule)
        for resource, columns in resources.items():
            log_changes(resource, columns, time=CLOCK)
    allow_blanking("action = 'forgotten'")


def allow_blanking(*conditions: str) -> None:
    """Let the data of a change be blanked where one of the conditions holds for any change of the same row."""
    if is_postgresql():
        op.execute("DROP TRIGGER changes_keep_update ON changes")
        op.execute("DROP FUNCTION changes_keep_update()")
    else:
        op.execute("DROP TRIGGER changes_keep_update")
    same = " AND ".join(f"NEW.{name} = OLD.{name}" for name in ("seq", "resource", "row_id", "action", "at"))
    row = "SELECT 1 FROM changes WHERE resource = OLD.resource AND row_id = OLD.row_id AND"
    found = " OR ".join(f"EXISTS ({row} {condition})" for condition in conditions)
    kept = f"NOT (NEW.data IS NULL AND {same} AND ({found}))"
    refuse("changes_keep_update", "BEFORE UPDATE ON changes", kept, "the change log is only ever added to")


def replace_check(table: str, old: str, new: str) -> None:
    """Replace a CHECK constraint on SQLite in place: a copy of a long log would take minutes.

    It is the procedure of SQLite's documentation (ALTER TABLE, section 7).
    """
    op.execute("PRAGMA writable_schema = ON")
    statement = sa.text(
        "UPDATE sqlite_master SET sql = replace(sql, :old, :new) WHERE type = 'table' AND name = :table"
    )
    op.execute(statement.bindparams(old=old, new=new, table=table))
    op.execute("PRAGMA writable_schema = RESET")

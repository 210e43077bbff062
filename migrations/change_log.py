"""The triggers that write the change log, as SQL; a revision that changes a resource's columns makes them anew."""

from collections.abc import Iterator, Mapping

from alembic import op

# How a column's value is written as JSON; a column that isn't named here is written as it is.
SQLITE_JSON = {
    "boolean": "json(iif({0}, 'true', 'false'))",
    "json": "json({0})",
    # Fifteen digits are what a double holds for certain, and all that an amount can have.
    "amount": "json(iif({0} IS NULL, 'null', printf('%.15g', {0})))",
}
POSTGRESQL_JSON = {
    "time": """to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')""",
    # Text of an array of texts, without the spaces that jsonb is written with.
    "json": "array_to_json(ARRAY(SELECT jsonb_array_elements_text({0})))",
    "amount": "trim_scale({0})",
}
SQLITE_NOW = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')"
LOCK = "pg_advisory_xact_lock(x'6361726466696c65'::bigint)"


def is_postgresql() -> bool:
    """Tell which of the two databases the revision runs on."""
    return op.get_context().dialect.name == "postgresql"


def keep_log() -> None:
    """Let nobody change what is logged, nor any resource without its being logged."""
    sentence = "the change log is only ever added to"
    for verb in "UPDATE", "DELETE":
        refuse(f"changes_keep_{verb.lower()}", f"BEFORE {verb} ON changes", "", sentence)
    if is_postgresql():
        refuse_truncate("changes", sentence)
        # Numbers follow the order of commits because whoever writes holds this lock until the end.
        op.execute(f"CREATE FUNCTION lock_changes() {FUNCTION} BEGIN PERFORM {LOCK}; RETURN NULL; END $$")


FUNCTION = "RETURNS trigger LANGUAGE plpgsql AS $$"


def refuse(name: str, event: str, condition: str, sentence: str) -> None:
    """Have a trigger refuse, with a sentence, each row of an event that meets the condition, or each row."""
    if not is_postgresql():
        when = f" WHEN {condition}" if condition else ""
        op.execute(f"CREATE TRIGGER {name} {event}{when} BEGIN SELECT RAISE(ABORT, '{sentence}'); END")
        return
    refusal = f"RAISE EXCEPTION '{sentence}' USING ERRCODE = 'integrity_constraint_violation';"
    body = f"IF {condition or 'true'} THEN {refusal} END IF; IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW;"
    op.execute(f"CREATE FUNCTION {name}() {FUNCTION} BEGIN {body} END $$")
    op.execute(f"CREATE TRIGGER {name} {event} FOR EACH ROW EXECUTE FUNCTION {name}()")


def refuse_truncate(table: str, sentence: str) -> None:
    """Have PostgreSQL refuse TRUNCATE, which no trigger sees the rows of."""
    refusal = f"RAISE EXCEPTION '{sentence}' USING ERRCODE = 'integrity_constraint_violation';"
    op.execute(f"CREATE FUNCTION {table}_keep_truncate() {FUNCTION} BEGIN {refusal} END $$")
    op.execute(
        f"CREATE TRIGGER {table}_keep_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION {table}_keep_truncate()"
    )


def create_triggers(resource: str, members: Mapping[str, str]) -> None:
    """Log every change of the resource's table, whoever makes it, in the transaction that makes it.

    `members` names the columns in the public order, each with its kind: text, number, amount, boolean, time or json.
    """
    triggers = postgresql_triggers if is_postgresql() else sqlite_triggers
    for sql in triggers(resource, members):
        op.execute(sql)
    if is_postgresql():
        refuse_truncate(resource, "TRUNCATE is not logged: DELETE the rows instead")
    differs = "IS DISTINCT FROM" if is_postgresql() else "IS NOT"
    sentence = "an id never changes: insert a new row and delete this one"
    refuse(f"{resource}_keep_id", f"BEFORE UPDATE ON {resource}", f"NEW.id {differs} OLD.id", sentence)


def sqlite_triggers(resource: str, members: Mapping[str, str]) -> Iterator[str]:
    """Yield the triggers of each row that is written."""
    pairs = ", ".join(
        f"'{public_name(column)}', {SQLITE_JSON.get(kind, '{0}').format('NEW.' + column)}"
        for column, kind in members.items()
    )
    insert = "INSERT INTO changes (resource, row_id, action, at, data) VALUES"
    for action, verb in ("created", "INSERT"), ("updated", "UPDATE"):
        values = f"('{resource}', NEW.id, '{action}', {SQLITE_NOW}, json_object({pairs}))"
        yield f"CREATE TRIGGER {resource}_log_{action} AFTER {verb} ON {resource} BEGIN {insert} {values}; END"
    values = f"('{resource}', OLD.id, 'deleted', {SQLITE_NOW}, NULL)"
    yield f"CREATE TRIGGER {resource}_log_deleted AFTER DELETE ON {resource} BEGIN {insert} {values}; END"


def postgresql_triggers(resource: str, members: Mapping[str, str]) -> Iterator[str]:
    """Yield a function and the triggers of each statement that writes rows: any number of them is logged at once."""
    shown = ", ".join(
        f'{POSTGRESQL_JSON.get(kind, "{0}").format("r." + column)} AS "{public_name(column)}"'
        for column, kind in members.items()
    )
    data = f"(SELECT row_to_json(o) FROM (SELECT {shown}) AS o)"
    # With the lock, and after it was had, so that the number is seen that was given last.
    last = "SELECT coalesce(max(seq), 0) FROM changes"
    insert = f"INSERT INTO changes SELECT ({last}) + row_number() OVER (), '{resource}', r.id, TG_ARGV[0],"
    at = "date_trunc('second', clock_timestamp())"
    for action, verb, rows in ("created", "INSERT", "NEW"), ("updated", "UPDATE", "NEW"), ("deleted", "DELETE", "OLD"):
        name = f"{resource}_log_{action}"
        body = (
            f"{insert} {at}, {'NULL' if verb == 'DELETE' else data} FROM written AS r; RETURN NULL;"
            # Who reads one snapshot for all of a transaction can't see the last number.
            " EXCEPTION WHEN unique_violation THEN RAISE EXCEPTION 'others have written since this transaction began:"
            " begin it again' USING ERRCODE = 'serialization_failure';"
        )
        yield f"CREATE FUNCTION {name}() {FUNCTION} BEGIN {body} END $$"
        yield (
            f"CREATE TRIGGER {name} AFTER {verb} ON {resource} REFERENCING {rows} TABLE AS written"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {name}('{action}')"
        )
    yield (
        f"CREATE TRIGGER {resource}_lock_changes BEFORE INSERT OR UPDATE OR DELETE ON {resource}"
        " FOR EACH STATEMENT EXECUTE FUNCTION lock_changes()"
    )


def public_name(column: str) -> str:
    """Return the name that the API gives the column: company_id is companyId."""
    first, *rest = column.split("_")
    return first + "".join(word.capitalize() for word in rest)

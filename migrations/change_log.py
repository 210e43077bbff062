"""The triggers that write the change log, as SQL; a revision that changes a resource's columns makes them anew."""

from collections.abc import Iterator, Mapping

from alembic import op

# How a column's value is written as JSON by SQLite; a column that isn't named here is written as it is.
SQLITE_JSON = {
    "boolean": "json(iif({0}, 'true', 'false'))",
    "json": "json({0})",
    # Fifteen digits are what a double holds for certain, and all that an amount can have.
    "amount": "json(iif({0} IS NULL, 'null', printf('%.15g', {0})))",
}
SQLITE_NOW = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')"


def create_triggers(resource: str, members: Mapping[str, str]) -> None:
    """Log every change of the resource's table, whoever makes it, in the transaction that makes it.

    `members` names the columns in the public order, each with its kind: text, number, amount, boolean, time or json.
    """
    for name, sql in sqlite_triggers(resource, members):
        op.execute(f"CREATE TRIGGER {resource}_{name} {sql}")


def sqlite_triggers(resource: str, members: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each trigger's name and what it does."""
    pairs = ", ".join(
        f"'{public_name(column)}', {SQLITE_JSON.get(kind, '{0}').format('NEW.' + column)}"
        for column, kind in members.items()
    )
    insert = "INSERT INTO changes (resource, row_id, action, at, data) VALUES"
    for action, verb in ("created", "INSERT"), ("updated", "UPDATE"):
        values = f"('{resource}', NEW.id, '{action}', {SQLITE_NOW}, json_object({pairs}))"
        yield f"log_{action}", f"AFTER {verb} ON {resource} BEGIN {insert} {values}; END"
    values = f"('{resource}', OLD.id, 'deleted', {SQLITE_NOW}, NULL)"
    yield "log_deleted", f"AFTER DELETE ON {resource} BEGIN {insert} {values}; END"
    refusal = "SELECT RAISE(ABORT, 'an id never changes: insert a new row and delete this one')"
    yield "keep_id", f"BEFORE UPDATE ON {resource} WHEN NEW.id IS NOT OLD.id BEGIN {refusal}; END"


def public_name(column: str) -> str:
    """Return the name that the API gives the column: company_id is companyId."""
    first, *rest = column.split("_")
    return first + "".join(word.capitalize() for word in rest)

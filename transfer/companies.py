"""The companies that the rows of a file belong to: found by id, website or name, or created."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from marshmallow import ValidationError

from api.resources import ENDPOINTS
from api.write_views import find_matches
from database.connection import execute
from database.statement import insert_statement
from transfer.cells import Cells, Columns

COMPANIES = ENDPOINTS["companies"]
# The companies found last, because rows of the same company often follow each other.
MAX_REMEMBERED = 10_000


class Companies:
    """Finds companies inside a writing transaction, and counts those that it creates."""

    def __init__(self) -> None:
        self.created = 0
        self.find = lru_cache(MAX_REMEMBERED)(self.find_uncached)

    def finder(self, columns: Columns, create: bool) -> Callable[[Cells], str | None]:
        """Return a function that returns the id of a row's company, found by the first of these columns that matches.

        With `create`, it creates a company that has a name and isn't found. It raises ValidationError.
        """
        return lambda cells: self.find(create, *((name, get(cells)) for name, get in columns))

    def find_uncached(self, create: bool, *columns: tuple[str, Any]) -> str | None:
        values = [(field, value) for field, value in columns if value]
        for field, value in values:
            found = find_matches(COMPANIES, field, value)
            if len(found) > 1:
                problem = f"More than one company has the {field} {value}: {found[0]} and {found[1]}."
                hint = "Make them differ, or leave the company out of the map."
                raise ValidationError({"companyId": [f"{problem} {hint}"]})
            if found:
                return found[0]
        if values and not (create and "name" in dict(values)):
            problem = f"There is no company with the {values[0][0]} {values[0][1]}: import the companies first."
            raise ValidationError({"companyId": [problem]})
        return self.create(dict(values)) if values else None

    def create(self, record: dict[str, str]) -> str:
        """Insert a company; return its id."""
        try:
            values = COMPANIES.schema.load(record)
        except ValidationError as error:
            raise ValidationError({"company": error.messages}) from None
        execute(insert_statement, COMPANIES.model, **values)
        self.created += 1
        return str(values["id"])

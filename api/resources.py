"""The table of resources: one row each, from which routes, parameters and answers follow."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import JSON

from models import Resource
from schemas import RESOURCES, ResourceSchema


@dataclass(frozen=True)
class Endpoint:
    """A resource as HTTP serves it: its path and singular, what can be embedded, and what POST can match rows on."""

    name: str
    singular: str
    includes: tuple[str, ...]
    match_on: tuple[str, ...] = ()

    @property
    def schema(self) -> ResourceSchema:
        """Return the declaration of the resource's public JSON."""
        return RESOURCES[self.name]

    @property
    def model(self) -> type[Resource]:
        """Return the declaration of the resource's storage."""
        return self.schema.model

    @property
    def table(self) -> Any:
        """Return the table of the model."""
        return self.model.__table__

    @cached_property
    def attributes(self) -> dict[str, str]:
        """Return the model's attribute for each public name, in order."""
        return {str(field.data_key): name for name, field in self.schema.fields.items()}

    @cached_property
    def scalars(self) -> tuple[str, ...]:
        """Return the public names of the fields that have one value, by which lists can be sorted."""
        columns = {public: self.table.c[name] for public, name in self.attributes.items()}
        return tuple(name for name, column in columns.items() if not isinstance(column.type, JSON))


ENDPOINTS = {
    each.name: each
    for each in (
        Endpoint("companies", "company", ("contacts", "conversations"), ("website", "name")),
        Endpoint("contacts", "contact", ("company",), ("email",)),
        Endpoint("conversations", "conversation", ("company",)),
    )
}

"""The table of resources: one row each, from which routes, parameters and responses are derived."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import JSON

from database.columns import format_of
from formats import values
from models import Resource
from schemas import RESOURCES, ResourceSchema


@dataclass(frozen=True)
class Endpoint:
    """A resource in the API: its path, its singular, the values of `include` and of `matchOn`."""

    name: str
    singular: str
    includes: tuple[str, ...]
    match_on: tuple[str, ...] = ("id",)

    @property
    def schema(self) -> ResourceSchema:
        """Return the schema of the resource's public JSON."""
        return RESOURCES[self.name]

    @property
    def model(self) -> type[Resource]:
        """Return the model of the resource's rows."""
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
        """Return the public names of the fields with a single value, by which lists can be sorted."""
        return tuple(name for name in self.attributes if not isinstance(self.columns[name].type, JSON))

    def is_comparable(self, name: str) -> bool:
        """Tell whether a field has an order that filters can use: numbers and times."""
        return format_of(self.columns[name]) in {values.AMOUNT, values.INTEGER, values.TIME}

    @cached_property
    def columns(self) -> dict[str, Any]:
        """Return the column of each public name, in order."""
        return {name: self.table.c[attribute] for name, attribute in self.attributes.items()}

    def field(self, name: str) -> Any:
        """Return the schema's field of a public name."""
        return self.schema.fields[self.attributes[name]]


ENDPOINTS = {
    each.name: each
    for each in (
        Endpoint("companies", "company", ("contacts", "conversations"), ("id", "website", "name")),
        Endpoint("contacts", "contact", ("company",), ("id", "email")),
        Endpoint("conversations", "conversation", ("company",)),
    )
}


def embedded_resource(include: str) -> str:
    """Return the resource that an include embeds."""
    return "companies" if include == "company" else include

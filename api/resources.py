"""The table of resources: one row each, from which routes, parameters and answers follow."""

from dataclasses import dataclass

from models import Company, Contact, Conversation, Resource
from schemas import CompanySchema, ContactSchema, ConversationSchema, ResourceSchema


@dataclass(frozen=True)
class Endpoint:
    """A resource as HTTP serves it: its path and singular, its storage, its public JSON, and what lists filter on."""

    name: str
    singular: str
    model: type[Resource]
    schema: ResourceSchema
    filters: tuple[str, ...] = ()


ENDPOINTS = (
    Endpoint("companies", "company", Company, CompanySchema()),
    Endpoint("contacts", "contact", Contact, ContactSchema(), ("companyId",)),
    Endpoint("conversations", "conversation", Conversation, ConversationSchema(), ("companyId",)),
)

"""The public JSON of every resource, declared once: names, order, rules, descriptions and examples."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_address
from typing import Any, ClassVar

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load, validate
from sqlalchemy import Column

import models
from database.columns import format_of
from formats import public_name
from formats.errors import CONTROL, INVISIBLE, MAX_ERRORS, hidden_character, suggest
from formats.json_text import ParsedObject
from formats.values import parse_text

# The number of unknown fields that get a suggestion, because suggestions are slow.
MAX_SUGGESTIONS = 20
# Hidden characters are searched for in texts up to this length: longer ones are notes, which may have line feeds.
MAX_SEARCHED = 2048

# Characters that must be percent-encoded in a URL.
ESCAPED = rf"""{CONTROL}{INVISIBLE}"<>\\^`{{|}}"""
# User, host, port and the rest of a URL (RFC 3986 §3), with letters of any language.
URL = validate.Regexp(
    rf"[Hh][Tt][Tt][Pp][Ss]?://([^{ESCAPED}/?#@]+@)?(\[[0-9A-Fa-f:.]+\]|[^{ESCAPED}/?#@:\[\]]+)(:[0-9]{{1,5}})?"
    # Persian words and emoji need these invisible characters, which join others.
    rf"([/?#]([^{ESCAPED}]|[\u200c\u200d\ufe0f])*)?\Z",
    error="Must be an http or https URL.",
)
# An e-mail address: a dot-atom or a quoted text, then a domain or an IPv4 address (RFC 5321 §4.1.2), with any letters
# and marks (RFC 6531 §3.3).
ATOM = rf"[^{CONTROL}{INVISIBLE}\"(),.:;<>@\[\\\]]+"
QUOTED = rf'"(\\?( |[^"\\{CONTROL}{INVISIBLE}])|\\["\\])*"'
LABEL = rf"(?!-)(?![^.]{{64}})[^{CONTROL}{INVISIBLE}!-,./:-@\[-`{{-~]+(?<!-)"
OCTET = "(25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])"
EMAIL = re.compile(
    rf"({ATOM}(\.{ATOM})*|{QUOTED})@(({LABEL}(\.{LABEL})+(?<=[^.]{{2}})|localhost)\.?|\[({OCTET}\.){{3}}{OCTET}\])"
)
# Characters that need no escape in a URL (RFC 3986 §2.3). Clients remove the segments . and .. from a path (§5.2.4).
ID = validate.Regexp(
    r"(\.{0,2}[A-Za-z0-9_~-]|\.{3})[A-Za-z0-9._~-]*\Z",
    error="Must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', '~' and '-', and not '.' or '..'.",
)
# A terminal obeys control characters, and those that override the direction of text.
NAME = validate.Regexp(
    rf"[{INVISIBLE}]*[^{CONTROL}{INVISIBLE}][^{CONTROL}]*\Z",
    error="Must not be blank, nor have line feeds or other control characters.",
)


def one_of(choices: Iterable[str]) -> validate.OneOf:
    """Return the rule that a text is one of the choices."""
    return validate.OneOf(tuple(choices), error="Must be one of {choices}.")


def has_2048_bytes_at_most(text: str) -> None:
    """Raise ValidationError for a text that is too long for PostgreSQL's indexes: an entry has at most 2704 bytes."""
    if len(text.encode()) > 2048:
        raise ValidationError("Must have at most 2048 bytes in UTF-8.")


def is_email_address(text: str) -> None:
    """Raise ValidationError unless the text is an e-mail address; the error shows how to quote misplaced dots."""
    if not EMAIL.fullmatch(text):
        local, _at, domain = text.rpartition("@")
        quoted = f'"{local}"@{domain}'
        has_misplaced_dots = local and ".." in f".{local}." and EMAIL.fullmatch(quoted)
        hint = f" Write {quoted} for one with such dots." if has_misplaced_dots else ""
        raise ValidationError(f"Must be an e-mail address, as in jane@acme.com.{hint}")


def is_ip_address(text: str) -> None:
    """Raise ValidationError unless the text is an IPv4 or IPv6 address, without a zone (RFC 4007 §11)."""
    try:
        ip_address(text.replace("%", " "))
    except ValueError:
        raise ValidationError("Must be an IPv4 or IPv6 address.") from None


class Value(fields.Field[Any]):
    """A field with the format, length, null and default of its column, and rules of its own."""

    def __init__(self, *rules: Callable[[Any], Any], about: str, example: Any, **options: Any) -> None:
        super().__init__(validate=rules, metadata={"description": about, "examples": [example]}, **options)

    def bind(self, column: Column[Any]) -> None:
        """Set the parser, name, null and default that the column declares."""
        self.format = format_of(column)
        self.max_length: int | None = getattr(column.type, "length", None)
        self.parse = partial(parse_text, max_length=self.max_length) if self.max_length else self.format.parse
        self.data_key = public_name(column.name)
        self.allow_none = bool(column.nullable)
        # set_updated_at() provides updatedAt.
        self.required = not column.nullable and column.default is None and column.name != "updated_at"
        if column.default is not None:
            default: Any = column.default.arg  # type: ignore[attr-defined]
            self.load_default = partial(default, None) if callable(default) else default
        elif column.nullable:
            self.load_default = None
        self.error_messages |= {"required": "Is required.", "null": "Must not be null."}

    def _deserialize(self, value: Any, *_arguments: Any, **_options: Any) -> Any:
        return self.parse(value)

    def _serialize(self, value: Any, *_arguments: Any, **_options: Any) -> Any:
        return None if value is None else self.format.show(value)


RowId = partial(Value, ID, about="Set by the server, unless the client chose it (PUT, or `matchOn=id`).")
CompanyId = partial(
    Value,
    ID,
    about="The id of an existing company; null after that company is deleted.",
    example="123e4567-e89b-12d3-a456-426614174000",
)
CreatedAt = partial(Value, about="The time of creation.")
UpdatedAt = partial(Value, about="The time of the last update.")


class PublicSchema(Schema):
    """The base of all schemas: camelCase names, unknown and duplicate fields refused."""

    class Meta:
        unknown = RAISE

    model: ClassVar[type[models.Row]]
    error_messages = {"type": "Must be an object.", "unknown": "Is not a known field."}  # noqa: RUF012

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Complete a field from its column: length, null and default are declared there alone."""
        field_obj.bind(self.model.__table__.c[field_name])  # type: ignore[attr-defined]

    def example(self) -> dict[str, Any]:
        """Return the example of each field, by public name."""
        return {str(field.data_key): field.metadata["examples"][0] for field in self.fields.values()}

    @pre_load
    def refuse_duplicates(self, data: Any, **_kwargs: Any) -> Any:
        """Raise ValidationError for an object that has a name twice: it is unclear which of the values is meant."""
        if isinstance(data, ParsedObject) and data.duplicates:
            raise ValidationError({name: ["Must not appear twice."] for name in data.duplicates[:MAX_ERRORS]})
        if isinstance(data, dict) and len(data) > 2 * MAX_ERRORS:
            # Most names are unknown. No more errors are listed, and checking all names would make other writers wait.
            known = {field.data_key for field in self.load_fields.values()}
            return dict(sorted(data.items(), key=lambda item: item[0] not in known)[: 2 * MAX_ERRORS])
        return data

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **_kwargs: Any) -> None:
        """Add to the errors: the invisible character of a refused text, and a known field for each unknown one."""
        known = tuple(name for field in self.load_fields.values() if (name := field.data_key))
        if isinstance(error.messages, dict) and isinstance(data, dict):
            for name in error.messages.keys() & known:
                if isinstance(text := data.get(name), str) and len(text) <= MAX_SEARCHED:
                    error.messages[name] = [f"{message}{hidden_character(text)}" for message in error.messages[name]]
            unknown = [name for name in data if error.messages.get(name) == [self.error_messages["unknown"]]]
            # marshmallow adds them in a random order.
            error.messages |= {name: error.messages.pop(name) for name in unknown}
            read_only = {field.data_key for field in self.fields.values() if field.dump_only}
            for name in unknown[:MAX_SUGGESTIONS]:
                if name in read_only:
                    error.messages[name] = ["Is read-only: leave it out."]
                else:
                    error.messages[name][0] += " " + suggest(str(name), known)


class ResourceSchema(PublicSchema):
    """The base of the schemas of companies, contacts and conversations."""

    model: ClassVar[type[models.Resource]]

    @post_load
    def set_updated_at(self, values: dict[str, Any], *, partial: bool | None = None, **_kwargs: Any) -> dict[str, Any]:
        """Give a new row its creation time as the time of its last update."""
        if not partial:
            values.setdefault("updated_at", values["created_at"])
        return values


class CompanySchema(ResourceSchema):
    """A company and its current deal."""

    model = models.Company

    id = RowId(example="123e4567-e89b-12d3-a456-426614174000")
    name = Value(NAME, about="The company's name.", example="Acme Corporation")
    website = Value(URL, has_2048_bytes_at_most, about="The website: an http or https URL.", example="https://acme.com")
    industry = Value(about="The industry, in your own words.", example="Technology")
    deal_value = Value(about="The value of the deal, exact, with at most two decimals.", example=50000)
    stage_id = Value(about="The stage of the deal in your pipeline: an id of your own.", example="stage-123")
    position = Value(about="The position among the companies of the stage, from 0.", example=0)
    logo_url = Value(URL, about="The logo: an http or https URL.", example="https://example.com/logo.png")
    notes = Value(about="Free text.", example="Important client")
    last_contact = Value(about="The time of the last contact.", example="2024-01-15T10:30:00Z")
    is_customer = Value(about="Whether the company is a customer.", example=False)
    created_by = Value(about="The user who added the company: an id of your own.", example="user-456")
    created_at = CreatedAt(example="2024-01-01T08:00:00Z")
    updated_at = UpdatedAt(example="2024-01-15T10:30:00Z")


class ContactSchema(ResourceSchema):
    """A person, optionally at a company."""

    model = models.Contact

    id = RowId(example="contact-123")
    company_id = CompanyId()
    name = Value(NAME, about="The person's name.", example="John Doe")
    email = Value(is_email_address, about="An e-mail address.", example="john@acme.com")
    phone = Value(about="A phone number, in any form.", example="+1-555-0123")
    title = Value(about="The job title.", example="CEO")
    role = Value(about="The person's role in the deal.", example="Decision Maker")
    notes = Value(about="Free text.", example="Primary contact")
    is_primary = Value(about="Whether this is the company's primary contact.", example=True)
    user_id = Value(about="The user responsible for the contact: an id of your own.", example="user-456")
    created_at = CreatedAt(example="2024-01-01T08:00:00Z")
    updated_at = UpdatedAt(example="2024-01-15T10:30:00Z")


class ConversationSchema(ResourceSchema):
    """A chat with a visitor of the website."""

    model = models.Conversation

    id = RowId(example="conv-123")
    company_id = CompanyId()
    visitor_name = Value(about="The visitor's name.", example="Jane Smith")
    visitor_email = Value(about="The visitor's e-mail address, not validated.", example="jane@example.com")
    visitor_ip = Value(is_ip_address, about="The visitor's IPv4 or IPv6 address.", example="192.168.1.1")
    user_agent = Value(about="The browser's User-Agent.", example="Mozilla/5.0...")
    referrer_url = Value(about="The URL of the referring page.", example="https://google.com")
    page_url = Value(about="The URL of the page where the chat started.", example="https://acme.com/pricing")
    status = Value(one_of(models.STATUSES), about="The status of the conversation.", example="open")
    assigned_to_user_id = Value(about="The assigned user: an id of your own.", example="user-456")
    is_read = Value(about="Whether the conversation was read.", example=False)
    trust_uploads = Value(about="Whether the visitor's uploads are trusted.", example=False)
    tags = Value(about="Tags without duplicates, in the order sent.", example=["support", "urgent"])
    last_message_at = Value(about="The time of the last message.", example="2024-01-15T14:30:00Z")
    created_at = CreatedAt(example="2024-01-15T14:00:00Z")
    updated_at = UpdatedAt(example="2024-01-15T14:30:00Z")


class KeySchema(PublicSchema):
    """An API key's record; it never holds the key itself."""

    model = models.ApiKey

    id = Value(
        ID,
        dump_only=True,
        about="The id of the record, not the key itself.",
        example="018ce0e9-3c98-7709-945c-d88ddcb9075e",
    )
    name = Value(NAME, about="The purpose of the key.", example="Nightly export")
    scope = Value(
        one_of(models.SCOPES),
        about="The scope: write includes read; admin includes write and manages keys.",
        example="read",
    )
    prefix = Value(dump_only=True, about="The first 8 characters of the key.", example="cfk_GveQ")
    created_at = Value(dump_only=True, about="The time of creation.", example="2024-01-15T10:30:00Z")
    expires_at = Value(about="The time of expiry, in the future; null for never.", example="2034-01-15T10:30:00Z")
    last_used_at = Value(
        dump_only=True,
        about="The time of the last use, to the minute; null before the first.",
        example="2024-01-15T10:31:00Z",
    )


# In the order of references: companies can be loaded before the rows that refer to them.
RESOURCES: dict[str, ResourceSchema] = {
    schema.model.__tablename__: schema for schema in (CompanySchema(), ContactSchema(), ConversationSchema())
}

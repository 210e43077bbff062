"""The public JSON of every resource, declared once: names, order, types and rules, in and out."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Any, ClassVar

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load, validate
from sqlalchemy import Column, String

import models

RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-5][0-9])", re.A
)


# Finding what was meant takes longer than all else; who has more unknown fields than this meant something else.
MOST_SUGGESTIONS = 20


class JSONRefused(Exception):
    """The text is not JSON; the message says where it stops being so."""


class Members(dict[str, Any]):
    """A JSON object as it was read, with the names that stood in it more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = [name for name, times in Counter(name for name, _value in pairs).items() if times > 1]


# Made once: json.loads() would make one for every text.
DECODER = json.JSONDecoder(object_pairs_hook=Members, parse_float=Decimal)


def read_json(text: bytes) -> Any:
    """Return the value of a JSON text in UTF-8, its objects as Members and its decimal numbers exact.

    Raises JSONRefused for anything that RFC 8259 doesn't allow but NaN and infinities: a schema's fields name those.
    """
    try:
        return DECODER.decode(text.decode())
    except UnicodeDecodeError as error:
        raise JSONRefused(f"The text is not UTF-8 at byte {error.start}.") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise JSONRefused("There is no JSON: the text is empty.") from None
        reason = error.msg[0].lower() + error.msg[1:].removesuffix(" at")
        raise JSONRefused(f"This is not JSON: {reason} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise JSONRefused("The text is nested too deeply.") from None
    except (ValueError, ArithmeticError):
        raise JSONRefused("A number in the text is too long.") from None


@lru_cache(maxsize=1_000)
def suggest(word: str, known: tuple[str, ...]) -> str:
    """Return a sentence that says what was probably meant, or else what is known."""
    # Imported here because only mistakes need it.
    from difflib import get_close_matches

    names = {name.lower(): name for name in known}
    if close := get_close_matches(word.lower(), names, 1):
        return f"Did you mean {names[close[0]]}?"
    return f"Known: {', '.join(names.values())}." if names else "None is known here."


def pointers(messages: Any, pointer: str = "") -> Iterator[dict[str, str]]:
    """Yield marshmallow's messages one by one, each with a JSON Pointer to what is at fault (RFC 6901)."""
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            step = "" if name == "_schema" else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from pointers(inner, pointer + step)
    else:
        for message in messages:
            yield {"pointer": pointer, "detail": message}


class Value(fields.Field[Any]):
    """A field whose JSON value one function reads, raising ValidationError, and another shows."""

    def __init__(
        self,
        read: Callable[[Any], Any],
        show: Callable[[Any], Any] | None = None,
        about: str = "",
        example: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(metadata={"description": about, "examples": [example]}, **options)
        self.read, self.show = read, show

    def _deserialize(self, value: Any, *_arguments: Any, **_options: Any) -> Any:
        return self.read(value)

    def _serialize(self, value: Any, *_arguments: Any, **_options: Any) -> Any:
        return self.show(value) if self.show and value is not None else value


class Text(fields.Field[str]):
    """Text that any database can hold: as long as its column allows, without NUL or half a surrogate pair."""

    longest = 255

    def __init__(self, *rules: Callable[[str], Any], about: str = "", example: str = "", **options: Any) -> None:
        super().__init__(validate=rules, metadata={"description": about, "examples": [example]}, **options)

    def _deserialize(self, value: Any, *_arguments: Any, **_options: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("Must be text.")
        if len(value) > self.longest:
            raise ValidationError(f"Must have at most {self.longest} characters, not {len(value)}.")
        if "\0" in value:
            raise ValidationError("Must not contain the character NUL.")
        if not value.isascii() and re.search("[\ud800-\udfff]", value):
            raise ValidationError("Must not contain half of a surrogate pair.")
        return value


NOT_EMPTY = validate.Length(min=1, error="Must not be empty.")
# User, host, port and the rest (RFC 3986 §3), with letters of any language, without what would need an escape.
OTHERS = r"""\x00-\x20"<>\\^`{|}\x7f-\xa0"""
URL = validate.Regexp(
    rf"[Hh][Tt][Tt][Pp][Ss]?://([^{OTHERS}/?#@]+@)?(\[[0-9A-Fa-f:.]+\]|[^{OTHERS}/?#@:\[\]]+)(:[0-9]{{1,5}})?"
    rf"([/?#][^{OTHERS}]*)?\Z",
    error="Must be an http or https URL.",
)
EMAIL = validate.Email(error="Must be an e-mail address, as in jane@acme.com.")
# Characters that need no escape in a URL (RFC 3986 §2.3).
ID = validate.Regexp(
    r"[A-Za-z0-9._~-]{1,64}\Z", error="Must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', '~' and '-'."
)
# Neither control characters nor what turns the direction of text, which a terminal would obey.
PRINTABLE = validate.Regexp(
    r"[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*\Z",
    error="Must be printable, without line feeds and control characters.",
)


def one_of(words: Iterable[str]) -> validate.OneOf:
    """Return the rule that a text is one of a few words."""
    return validate.OneOf(tuple(words), error="Must be one of {choices}.")


def is_address(text: str) -> None:
    """Raise ValidationError for what isn't an IPv4 or IPv6 address; one with a zone is not, beyond its own machine."""
    try:
        ip_address(text.replace("%", " "))
    except ValueError:
        raise ValidationError("Must be an IPv4 or IPv6 address.") from None


def read_flag(value: Any) -> bool:
    """Return a boolean, and nothing that only looks like one."""
    if not isinstance(value, bool):
        raise ValidationError("Must be true or false.")
    return value


def read_position(value: Any) -> int:
    """Return a place in an order, counted from 0; 3.0 is a whole number too."""
    if type(value) not in {int, Decimal} or not 0 <= value <= models.LARGEST_POSITION or value != int(value):
        raise ValidationError(f"Must be a whole number from 0 to {models.LARGEST_POSITION}.")
    return int(value)


def read_amount(value: Any) -> Decimal:
    """Return an amount of money, exact."""
    if type(value) not in {int, float, Decimal}:
        raise ValidationError("Must be a number.")
    # NaN fails this too.
    if not 0 <= value <= models.LARGEST_AMOUNT:
        raise ValidationError(f"Must be a number from 0 to {models.LARGEST_AMOUNT}.")
    amount = Decimal(str(value))
    # Rounded in any case: PostgreSQL takes no zero with a long exponent.
    exact = round(amount, 2)
    if amount != exact:
        raise ValidationError("Must have at most two decimals.")
    return exact


def show_amount(amount: Decimal | float) -> int | float:
    """Return the amount as JSON shows it: without decimals that are zero."""
    return int(amount) if amount == int(amount) else float(amount)


def read_time(value: Any) -> datetime:
    """Return the time of an RFC 3339 text, in UTC; its offset may be any, but must be there."""
    if not isinstance(value, str) or not (parts := RFC_3339.fullmatch(value)):
        raise ValidationError("Must be a time with an offset, as in 2024-01-15T10:30:00Z (RFC 3339).")
    day, minute, second, offset = parts.groups()
    # A leap second is the second after :59 (RFC 3339 §5.7).
    leap = timedelta(seconds=1 if second == "60" else 0)
    try:
        time = datetime.fromisoformat(f"{day}T{minute}:{'59' if leap else second}{offset.upper()}")
        return (time + leap).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValidationError("Must be a time that exists, in the years 0001 to 9999.") from None


def read_tags(value: Any) -> list[str]:
    """Return a list of texts, each once, in the order given."""
    if not isinstance(value, list):
        raise ValidationError("Must be an array of texts.")
    if len(value) > models.MOST_TAGS:
        raise ValidationError(f"Must have at most {models.MOST_TAGS} members, not {len(value)}.")
    faults: dict[int, Any] = {}
    seen = set()
    for place, tag in enumerate(value):
        try:
            if TAG.deserialize(tag) in seen:
                faults[place] = ["Must not repeat."]
            seen.add(tag)
        except ValidationError as error:
            faults[place] = error.messages
    if faults:
        raise ValidationError(faults)
    return value


TAG = Text(NOT_EMPTY, error_messages={"null": "Must not be null."})
TAG.longest = 64
Flag = partial(Value, read_flag)
Position = partial(Value, read_position)
Amount = partial(Value, read_amount, show_amount)
Time = partial(Value, read_time, models.show_time)
Tags = partial(Value, read_tags)


class PublicSchema(Schema):
    """What all schemas share: camelCase names, and lengths, nulls and defaults as the model's columns have them."""

    class Meta:
        unknown = RAISE

    model: ClassVar[type[models.Row]]
    error_messages = {"type": "Must be an object.", "unknown": "Is not a known field."}  # noqa: RUF012

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Complete a field from its column, so that nothing is said twice."""
        column: Column[Any] = self.model.__table__.c[field_name]  # type: ignore[assignment]
        field_obj.data_key = public_name(field_name)
        field_obj.allow_none = bool(column.nullable)
        field_obj.required = not column.nullable and column.default is None
        if column.default is not None:
            default: Any = column.default.arg  # type: ignore[attr-defined]
            field_obj.load_default = partial(default, None) if callable(default) else default
        elif column.nullable:
            field_obj.load_default = None
        field_obj.error_messages |= {"required": "Is required.", "null": "Must not be null."}
        if isinstance(field_obj, Text) and isinstance(column.type, String) and column.type.length:
            field_obj.longest = column.type.length

    @pre_load
    def refuse_repeated(self, data: Any, **_kwargs: Any) -> Any:
        """Refuse an object in which a name stands twice: which of the values was meant?"""
        if isinstance(data, Members) and data.repeated:
            raise ValidationError({name: ["Must not appear twice."] for name in data.repeated})
        return data

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **_kwargs: Any) -> None:
        """Say what was probably meant by an unknown field."""
        known = tuple(name for field in self.load_fields.values() if (name := field.data_key))
        if isinstance(error.messages, dict):
            unknown = [name for name, told in error.messages.items() if told == [self.error_messages["unknown"]]]
            for name in unknown[:MOST_SUGGESTIONS]:
                error.messages[name][0] += " " + suggest(str(name), known)


def public_name(attribute: str) -> str:
    """Return the public name of a model's attribute: company_id is companyId."""
    first, *rest = attribute.split("_")
    return first + "".join(word.capitalize() for word in rest)


class ResourceSchema(PublicSchema):
    """What the schemas of companies, contacts and conversations share."""

    model: ClassVar[type[models.Resource]]

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Complete a field from its column, but for the one that complete() fills in."""
        super().on_bind_field(field_name, field_obj)
        field_obj.required &= field_name != "updated_at"

    @post_load
    def complete(self, values: dict[str, Any], *, partial: bool | None = None, **_kwargs: Any) -> dict[str, Any]:
        """Let a new row be as old as its last update."""
        if not partial:
            values.setdefault("updated_at", values["created_at"])
        return values


class CompanySchema(ResourceSchema):
    """A company, with the deal that is under way with it."""

    model = models.Company

    id = Text(ID, about="Made by the server, unless PUT chose it.", example="123e4567-e89b-12d3-a456-426614174000")
    name = Text(NOT_EMPTY, about="What the company is called.", example="Acme Corporation")
    website = Text(URL, about="Its website, an http or https URL.", example="https://acme.com")
    industry = Text(about="Its line of business, in your own words.", example="Technology")
    deal_value = Amount(about="What the deal is worth, exact, with at most two decimals.", example=50000)
    stage_id = Text(about="The stage of the deal in your pipeline, an id of your own.", example="stage-123")
    position = Position(about="Its place among the companies of the stage, counted from 0.", example=0)
    logo_url = Text(URL, about="Where its logo is, an http or https URL.", example="https://example.com/logo.png")
    notes = Text(about="Whatever is worth knowing.", example="Important client")
    last_contact = Time(about="When you last spoke.", example="2024-01-15T10:30:00Z")
    is_customer = Flag(about="Whether it has bought.", example=False)
    created_by = Text(about="The user who added it, an id of your own.", example="user-456")
    created_at = Time(about="When it was created.", example="2024-01-01T08:00:00Z")
    updated_at = Time(about="When it last changed.", example="2024-01-15T10:30:00Z")


class ContactSchema(ResourceSchema):
    """A person, at a company or at none."""

    model = models.Contact

    id = Text(ID, about="Made by the server, unless PUT chose it.", example="contact-123")
    company_id = Text(
        ID,
        about="The company of the contact, one that exists; null again when it is deleted.",
        example="123e4567-e89b-12d3-a456-426614174000",
    )
    name = Text(NOT_EMPTY, about="The person's name.", example="John Doe")
    email = Text(EMAIL, about="An e-mail address.", example="john@acme.com")
    phone = Text(about="A telephone number, as you write it.", example="+1-555-0123")
    title = Text(about="What is on the business card.", example="CEO")
    role = Text(about="The part the person plays in the deal.", example="Decision Maker")
    notes = Text(about="Whatever is worth knowing.", example="Primary contact")
    is_primary = Flag(about="Whether this is the one to call first.", example=True)
    user_id = Text(about="The user who looks after the contact, an id of your own.", example="user-456")
    created_at = Time(about="When it was created.", example="2024-01-01T08:00:00Z")
    updated_at = Time(about="When it last changed.", example="2024-01-15T10:30:00Z")


class ConversationSchema(ResourceSchema):
    """A chat that a visitor of the website began."""

    model = models.Conversation

    id = Text(ID, about="Made by the server, unless PUT chose it.", example="conv-123")
    company_id = Text(
        ID,
        about="The company of the visitor, one that exists; null again when it is deleted.",
        example="123e4567-e89b-12d3-a456-426614174000",
    )
    visitor_name = Text(about="The name that the visitor gave.", example="Jane Smith")
    visitor_email = Text(about="The e-mail address that the visitor gave, unchecked.", example="jane@example.com")
    visitor_ip = Text(is_address, about="The visitor's IPv4 or IPv6 address.", example="192.168.1.1")
    user_agent = Text(about="What the browser calls itself.", example="Mozilla/5.0...")
    referrer_url = Text(about="The page that the visitor came from.", example="https://google.com")
    page_url = Text(about="The page that the chat began on.", example="https://acme.com/pricing")
    status = Text(one_of(models.STATUSES), about="How far it has come.", example="open")
    assigned_to_user_id = Text(about="The user who answers, an id of your own.", example="user-456")
    is_read = Flag(about="Whether somebody has read it.", example=False)
    trust_uploads = Flag(about="Whether files that the visitor sends are trusted.", example=False)
    tags = Tags(about="Labels, each once, in the order given.", example=["support", "urgent"])
    last_message_at = Time(about="When the last message came.", example="2024-01-15T14:30:00Z")
    created_at = Time(about="When it was created.", example="2024-01-15T14:00:00Z")
    updated_at = Time(about="When it last changed.", example="2024-01-15T14:30:00Z")


class KeySchema(PublicSchema):
    """An API key's record, which tells everything about the key but the key."""

    model = models.ApiKey

    id = Text(
        ID,
        dump_only=True,
        about="The id of the record, which is not the key.",
        example="018ce0e9-3c98-7709-945c-d88ddcb9075e",
    )
    name = Text(NOT_EMPTY, PRINTABLE, about="What the key is for.", example="Nightly export")
    scope = Text(
        one_of(models.SCOPES),
        about="What it may do: write includes read, admin includes write and manages keys.",
        example="read",
    )
    prefix = Text(dump_only=True, about="The first characters of the key, to tell it by.", example="cfk_GveQ")
    created_at = Time(dump_only=True, about="When it was created.", example="2024-01-15T10:30:00Z")
    expires_at = Time(
        about="When it stops being valid, a time to come; null for never.", example="2034-01-15T10:30:00Z"
    )
    last_used_at = Time(
        dump_only=True, about="The minute of its last use; null until then.", example="2024-01-15T10:31:00Z"
    )


# In the order in which they can be loaded: a company before what refers to it.
RESOURCES: dict[str, ResourceSchema] = {
    schema.model.__tablename__: schema for schema in (CompanySchema(), ContactSchema(), ConversationSchema())
}

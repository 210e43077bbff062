"""The public JSON of webhooks, and the names of events."""

from typing import Any

from marshmallow import ValidationError

from api.resources import ENDPOINTS
from formats.errors import suggest
from formats.values import parse_version
from models import ACTIONS, Webhook
from schemas import ID, URL, PublicSchema, Value

# The read-only fields that deliveries change at any time.
DELIVERY_STATE = ("reason", "delivered", "failures", "nextAttemptAt")
EVENTS = ("*", *(f"{each.singular}.{action}" for each in ENDPOINTS.values() for action in ("*", *ACTIONS)))


def validate_events(events: list[str]) -> None:
    """Raise ValidationError unless each text is the name of an event, and there is one at least."""
    if not events:
        raise ValidationError('Must name at least one event; "*" is all of them.')
    if unknown := [event for event in events if event not in EVENTS]:
        raise ValidationError([f"{event!r} is not an event. {suggest(event, EVENTS)}" for event in unknown])


validate_events.json_schema = {"items": {"type": "string", "enum": list(EVENTS)}, "minItems": 1}  # type: ignore[attr-defined]


def validate_url(text: str) -> None:
    """Raise ValidationError for credentials, a fragment, characters beyond ASCII, and invalid hosts and ports."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import Url, parse_url

    if not text.isascii():
        raise ValidationError("Must be ASCII: write the host as xn--…, and percent-encode the rest.")
    try:
        parsed = parse_url(text)
    except LocationParseError:
        parsed = Url()
    if parsed.auth is not None:
        raise ValidationError("Must not have a user name or password: messages are signed instead.")
    if parsed.fragment is not None:
        raise ValidationError("Must not have a fragment (#…).")
    labels = (parsed.host or "").removesuffix(".").split(".")
    if parsed.port == 0 or not all(0 < len(label) < 64 for label in labels):
        raise ValidationError("Must have a valid host and port.")


class WebhookSchema(PublicSchema):
    """A webhook: a URL that changes are sent to. It never shows its secret."""

    model = Webhook

    id = Value(ID, dump_only=True, about="Made by the server.", example="018ce0e9-3c98-7709-945c-d88ddcb9075f")
    url = Value(URL, validate_url, about="The http or https URL to send to.", example="https://hooks.example/cardfile")
    events = Value(
        validate_events,
        about="The events to send, as in `contact.created`; `company.*` is all of companies, `*` is all.",
        example=["contact.created", "company.*"],
    )
    description = Value(about="The purpose of the webhook.", example="Newsletter")
    active = Value(about="Whether messages are sent.", example=True)
    reason = Value(dump_only=True, about="Why the server disabled it; null if an admin did.", example=None)
    delivered = Value(dump_only=True, about="The changes up to this number are sent, or of other events.", example=408)
    failures = Value(dump_only=True, about="The failed attempts to send the next message.", example=0)
    next_attempt_at = Value(dump_only=True, about="The time of the next attempt, after a failed one.", example=None)
    created_at = Value(dump_only=True, about="The time of creation.", example="2024-01-15T10:30:00Z")
    updated_at = Value(dump_only=True, about="The time of the last change by an admin.", example="2024-01-15T10:30:00Z")

    def on_bind_field(self, field_name: str, field_obj: Any) -> None:
        """Complete a field from its column; `since` has that of `delivered`, and both are large numbers."""
        super().on_bind_field("delivered" if field_name == "since" else field_name, field_obj)
        if field_name in {"since", "delivered"}:
            field_obj.data_key, field_obj.parse = field_name, parse_version


class WebhookPatchSchema(WebhookSchema):
    """The fields of a webhook that can be changed."""

    since = Value(about="Send the changes after this number, again where they were sent before.", example=0)

    def load_patch(self, body: Any, stored: dict[str, Any]) -> Any:
        """Return the values of a patch. Raises ValidationError.

        Read-only fields may be sent back unchanged. In a body with the id, which was read before, those that deliveries
        change are ignored.
        """
        ignored = DELIVERY_STATE if isinstance(body, dict) and "id" in body else ()
        for field in self.fields.values():
            name = str(field.data_key)
            is_sent = field.dump_only and isinstance(body, dict) and name in body
            if is_sent and (name in ignored or is_same(field, body[name], stored[name])):
                del body[name]
        return self.load(body, partial=True)


def is_same(field: Any, value: Any, stored: Any) -> bool:
    """Tell whether a value is the stored one, perhaps in another form: a time may have another offset."""
    try:
        return bool(field.format.show(field.parse(value)) == stored)
    except ValidationError:
        return value is None and stored is None


schema, patch_schema = WebhookSchema(), WebhookPatchSchema()

"""The public JSON as JSON Schema: rows as they are returned, created, replaced and updated."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from marshmallow import missing, validate

import schemas
from api.resources import ENDPOINTS, embedded_resource
from api.revert import MAX_ROWS, RevertSchema
from api.write_views import READ_ONLY
from formats import values
from formats.errors import VISIBLE
from models import ACTIONS
from schemas import KeySchema, PublicSchema

JSONSchema = dict[str, Any]
# Python's escapes of characters above U+FFFF, which ECMAScript's patterns don't have.
ABOVE_FFFF = r"\\U\w{8}-?"
TEXT: JSONSchema = {"type": "string"}
NULL: JSONSchema = {"type": "null"}
TIME: JSONSchema = {"type": "string", "format": "date-time"}
TAG = TEXT | {"maxLength": values.MAX_TAG_LENGTH, "pattern": re.sub(ABOVE_FFFF, "", VISIBLE.pattern)}
# The schema of the values that each function parses; the schema of text follows from its length.
PARSER_SCHEMAS: dict[Any, JSONSchema] = {
    values.TIME.parse: TIME,
    values.BOOLEAN.parse: {"type": "boolean"},
    values.INTEGER.parse: {"type": "integer", "minimum": 0, "maximum": values.MAX_INTEGER},
    values.AMOUNT.parse: {"type": "number", "minimum": 0, "maximum": float(values.MAX_AMOUNT), "multipleOf": 0.01},
    values.TAGS.parse: {"type": "array", "items": TAG, "maxItems": values.MAX_TAGS, "uniqueItems": True},
    values.parse_version: {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
}
# The objects that no marshmallow schema declares.
CHANGE: JSONSchema = {
    "seq": {"type": "integer", "minimum": 1, "description": "The number of the change, without gaps."},
    "resource": {"type": "string", "enum": list(ENDPOINTS), "description": "The resource of the row."},
    "id": {"type": "string", "maxLength": 64, "description": "The id of the row."},
    "action": {"type": "string", "enum": list(ACTIONS), "description": "The kind of change."},
    "at": TIME | {"description": "The time of the change."},
    "keyId": {"anyOf": [TEXT, NULL], "description": "The id of the API key; null for commands and other programs."},
    "requestId": {"anyOf": [TEXT, NULL], "description": "The id of the request or command; null for other programs."},
    "before": {"description": "Only with `net=true`: the row before the changes; null if it did not exist."},
    "data": {"description": "The row after the change; null if it was deleted."},
}
ATTEMPT: JSONSchema = {
    "seq": {"type": "integer", "minimum": 1, "description": "The number of the change."},
    "at": TIME | {"description": "The time of the answer."},
    "status": {"anyOf": [{"type": "integer"}, NULL], "description": "The HTTP status; null without an answer."},
    "ms": {"type": "integer", "minimum": 0, "description": "The milliseconds that it took."},
    "error": {"anyOf": [TEXT, NULL], "description": "Why it failed; null if it succeeded."},
    "answer": TEXT | {"description": "The beginning of the answer's body."},
}
MESSAGE: JSONSchema = {
    "type": TEXT | {"description": "The event, as in `contact.updated`."},
    "timestamp": TIME | {"description": "The time of the change."},
}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105
PROBLEM: JSONSchema = {
    "type": TEXT | {"description": "Always about:blank; the status code identifies the kind of error."},
    "title": TEXT | {"description": "The status code in words."},
    "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status code."},
    "detail": TEXT | {"description": "How to fix the request."},
    "requestId": TEXT | {"description": "The id of the request in the log, as in X-Request-Id."},
}
FIELD_ERROR: JSONSchema = {
    "pointer": TEXT | {"description": "JSON Pointer to the field (RFC 6901); empty for the whole body."},
    "detail": TEXT | {"description": "The error in this field."},
}
# Its checksum is valid, but no database has its hash.
KEY = "cfk_GveQkqyZNSXmaUMzFRSlBOJql3LFWH4Is0qd"
KEY_ID = str(KeySchema().example()["id"])
REQUEST_ID = "01a20ab0-9312-7b2b-8a41-e4d8666c29a4"


def ref(name: str, kind: str = "schemas") -> JSONSchema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def title_of(tag: str) -> str:
    """Return the name of the schema of a resource's rows, as in `Company`."""
    return ENDPOINTS[tag].model.__name__ if tag in ENDPOINTS else tag.removesuffix("s").capitalize()


def pattern_of(rule: validate.Regexp) -> str:
    """Return the pattern of a rule for JSON Schema, where only `^` and `$` make it match the whole text."""
    pattern = re.sub(ABOVE_FFFF, "", str(rule.regex.pattern))
    return "^" + pattern.replace(r"\Z", "$").removeprefix("^")


def rule_schema(rule: Any) -> JSONSchema:
    """Return the keywords that a validation rule adds to the schema of text."""
    match rule:
        case validate.OneOf():
            return {"enum": list(rule.choices)}
        case schemas.is_email_address:
            return {"format": "idn-email"}
        case validate.Regexp():
            return {"pattern": pattern_of(rule)}
        case schemas.is_ip_address:
            return {"anyOf": [TEXT | {"format": "ipv4"}, TEXT | {"format": "ipv6"}]}
    # Rules of rooms have the attribute json_schema. A limit of bytes has no schema: JSON Schema counts characters.
    return dict(getattr(rule, "json_schema", {}))


def value_schema(schema: PublicSchema, name: str) -> JSONSchema:
    """Return the schema of a field's values other than null, by the field's attribute."""
    field: Any = schema.fields[name]
    value = PARSER_SCHEMAS.get(field.parse) or TEXT | {"maxLength": field.parse.keywords["max_length"]}
    for rule in field.validators:
        value = value | rule_schema(rule)
    return {"anyOf": value["anyOf"]} if "anyOf" in value else value


def response_fields(schema: PublicSchema) -> dict[str, JSONSchema]:
    """Return the schema of each field of a response."""
    fields: dict[str, JSONSchema] = {}
    for name, field in schema.fields.items():
        value = value_schema(schema, name)
        value = {"anyOf": [value, NULL]} if field.allow_none else value
        fields[str(field.data_key)] = value | dict(field.metadata) | ({"readOnly": True} if field.dump_only else {})
    return fields


def request_fields(schema: PublicSchema, partial: bool = False) -> dict[str, JSONSchema]:
    """Return the schema of each field of a request body; with `partial`, without defaults."""
    fields = {name: each for name, each in response_fields(schema).items() if not each.get("readOnly")}
    for name, each in zip(schema.load_fields, fields.values(), strict=True):
        default: Any = schema.fields[name].load_default
        if isinstance(schema, schemas.ResourceSchema) and name in READ_ONLY:
            each.update(sent_back(each))
        elif default not in {missing, None} and not partial:
            # In words: a generated client would send a default, and so overwrite the row that matchOn finds.
            each["description"] += f" Default: {json.dumps(default() if callable(default) else default)}."
    return fields


def sent_back(field: JSONSchema) -> JSONSchema:
    """Return the schema of a read-only field in a request body."""
    return field | {"readOnly": True, "description": f"{field['description']} Read-only; may be sent back unchanged."}


def example_change() -> JSONSchema:
    """Return the example of a change."""
    row = ENDPOINTS["companies"].schema.example()
    change = {"seq": 1, "resource": "companies", "id": row["id"], "action": "created"}
    return change | {"at": row["createdAt"], "keyId": KEY_ID, "requestId": REQUEST_ID, "data": row}


def object_schema(properties: JSONSchema, required: Iterable[str], description: str, **options: Any) -> JSONSchema:
    """Return the schema of an object."""
    names = {"required": list(required)} if required else {}
    return {"type": "object", "description": description, "properties": properties, **names, **options}


def component_schemas(declared: Mapping[str, PublicSchema]) -> dict[str, JSONSchema]:
    """Return all schemas of the document; `declared` are those of its tags."""
    row = {"anyOf": [*(ref(title_of(name)) for name in ENDPOINTS), NULL]}
    change = CHANGE | {name: row | CHANGE[name] for name in ("before", "data")}
    always = [name for name in change if name != "before"]
    revert = f"{RevertSchema.__doc__} Send `requestId`, `keyId` and `since`, or `to`. At most {MAX_ROWS:,} rows."
    errors = {"type": "array", "items": ref("Fault"), "description": "The errors in the request body, by field."}
    created = response_fields(KeySchema()) | {"key": TEXT | {"description": "Shown only once.", "examples": [KEY]}}
    keys = row_schemas(KeySchema(), "Key")
    found = {name: keys[name] for name in ("Key", "NewKey")} | {
        "CreatedKey": object_schema(created, created, "A new key and its record."),
        "Change": object_schema(change, always, "A created, updated or deleted row."),
        "Revert": object_schema(request_fields(RevertSchema()), (), revert, additionalProperties=False),
        "Problem": object_schema(PROBLEM | {"errors": errors}, PROBLEM, "An error (RFC 9457)."),
        "Fault": object_schema(FIELD_ERROR, FIELD_ERROR, "An error in one field of the request body."),
    }
    if "webhooks" in declared:
        found |= webhook_schemas(declared["webhooks"])
    for endpoint in ENDPOINTS.values():
        found |= row_schemas(endpoint.schema, title_of(endpoint.name), endpoint.includes)
    return found


def webhook_schemas(schema: PublicSchema) -> dict[str, JSONSchema]:
    """Return the schemas of webhooks, of the attempts to send to them, and of their messages."""
    rows, fields = row_schemas(schema, "Webhook"), response_fields(schema)
    created = fields | {"secret": TEXT | {"description": "Shown only once.", "examples": [SECRET]}}
    since = PARSER_SCHEMAS[values.parse_version] | {"description": "Send the changes after this number, again."}
    read_only = {name: sent_back(each) for name, each in fields.items() if each.get("readOnly")}
    rows["WebhookPatch"]["properties"] |= {**read_only, "since": since}
    result = {name: ATTEMPT[name] for name in ATTEMPT if name not in {"seq", "at"}}
    return {name: rows[name] for name in ("Webhook", "NewWebhook", "WebhookPatch")} | {
        "CreatedWebhook": object_schema(created, created, "A webhook and its new secret."),
        "Attempt": object_schema(ATTEMPT, ATTEMPT, "An attempt to send a change."),
        "TestResult": object_schema(result, result, "The answer to a test message."),
        "Message": object_schema(MESSAGE | {"data": ref("Change")}, [*MESSAGE, "data"], "The message on a change."),
    }


def row_schemas(schema: PublicSchema, title: str, includes: Iterable[str] = ()) -> dict[str, JSONSchema]:
    """Return the schemas of a row, a new row, some fields of a row, and a patch."""
    fields, new, patch = response_fields(schema), request_fields(schema), request_fields(schema, partial=True)
    required = [str(field.data_key) for field in schema.load_fields.values() if field.required]
    shown = dict(fields)
    for name in includes:
        row = ref(title_of(embedded_resource(name)))
        rows = {"type": "array", "items": row} if name in ENDPOINTS else {"anyOf": [row, NULL]}
        shown[name] = rows | {"description": f"Only with `include={name}`."}
    text = "The request body of an update (RFC 7396). Omitted fields keep their values."
    return {
        title: object_schema(shown, fields, str(schema.__doc__)),
        f"New{title}": object_schema(new, required, f"The request body of a new {title}.", additionalProperties=False),
        f"Partial{title}": object_schema(shown, (), f"The fields of a {title} that `fields` names."),
        f"{title}Patch": object_schema(patch, (), text, additionalProperties=False),
    }

"""The public JSON as JSON Schema: each resource as it is shown, as it is sent whole, and as it is sent in part."""

import json
from collections.abc import Container, Iterable
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import missing
from marshmallow.fields import Field

import schemas
from api.resources import ENDPOINTS, Endpoint
from api.resources import embedded_resource as table_of
from api.write_views import READ_ONLY
from formats import values
from formats.values import MAX_AMOUNT, MAX_INTEGER, MAX_TAG_LENGTH, MAX_TAGS
from models import ACTIONS
from schemas import KeySchema, PublicSchema

JSONSchema = dict[str, Any]

# What JSON Schema says of a kind of field, by the function that reads it, and of a text, by its rule.
KINDS: dict[Any, JSONSchema] = {
    values.BOOLEAN: {"type": "boolean"},
    values.INTEGER: {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER},
    values.AMOUNT: {"type": "number", "minimum": 0, "maximum": float(MAX_AMOUNT), "multipleOf": 0.01},
    values.TIME: {"type": "string", "format": "date-time"},
    values.TAGS: {
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_TAG_LENGTH},
        "maxItems": MAX_TAGS,
        "uniqueItems": True,
    },
    schemas.ID: {"maxLength": 64},
    schemas.EMAIL: {"format": "email"},
    schemas.is_ip_address: {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]},
}
# What is answered without a marshmallow schema.
CHANGE: JSONSchema = {
    "seq": {"type": "integer", "minimum": 1, "description": "The number of the change, without gaps."},
    "resource": {"type": "string", "enum": list(ENDPOINTS), "description": "The resource that the row is of."},
    "id": {"type": "string", "maxLength": 64, "description": "The id of the row."},
    "action": {"type": "string", "enum": list(ACTIONS), "description": "What happened to it."},
    "at": {"type": "string", "format": "date-time", "description": "When it happened."},
}
PROBLEM: JSONSchema = {
    "type": {"type": "string", "description": "Always about:blank: the status says what kind of problem it is."},
    "title": {"type": "string", "description": "The status in words."},
    "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
    "detail": {"type": "string", "description": "A sentence that says what to do about it."},
    "requestId": {"type": "string", "description": "What the log has this request under, as in X-Request-Id."},
}
FAULT: JSONSchema = {
    "pointer": {
        "type": "string",
        "description": "Where in the body, as a JSON Pointer (RFC 6901); empty for all of it.",
    },
    "detail": {"type": "string", "description": "What is wrong with it."},
}


def whole_text(pattern: str) -> str:
    """Return a rule's pattern as JSON Schema takes it, which looks for a pattern anywhere in the text."""
    return "^" + pattern.replace(r"\Z", "$").removeprefix("^")


ID_PATTERN = whole_text(str(schemas.ID.regex.pattern))


def ref(name: str) -> JSONSchema:
    """Return a reference to the schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def title_of(endpoint: Endpoint) -> str:
    """Return the name of the schema of an endpoint's rows."""
    return endpoint.model.__name__


def shape(properties: JSONSchema, required: Iterable[str], about: str, **more: Any) -> JSONSchema:
    """Return the schema of an object."""
    demanded = {"required": list(required)} if required else {}
    return {"type": "object", "description": about, "properties": properties, **demanded, **more}


def or_null(said: JSONSchema) -> JSONSchema:
    """Return the schema of the same value or null."""
    if "anyOf" in said:
        return said | {"anyOf": [*said["anyOf"], {"type": "null"}]}
    return said | {"type": [said["type"], "null"]}


def example_of(schema: PublicSchema, only: Container[str] | None = None) -> JSONSchema:
    """Return the row that the examples of the schema's fields make, or some of its members."""
    fields = {str(field.data_key): field for field in schema.fields.values()}
    return {name: fields[name].metadata["examples"][0] for name in fields if only is None or name in only}


class Shapes:
    """The schemas of the document, derived from the fields of the resources."""

    def __init__(self, spec: APISpec, plugin: MarshmallowPlugin) -> None:
        self.spec = spec
        self.converter: Any = plugin.converter

    def add_all(self) -> None:
        """Add all schemas to the document."""
        for endpoint in ENDPOINTS.values():
            self.add_resource(endpoint)
        self.add_keys()
        data = {"anyOf": [*(ref(title_of(each)) for each in ENDPOINTS.values()), {"type": "null"}]}
        change = CHANGE | {"data": data | {"description": "The row as the change left it; null when it is deleted."}}
        self.add("Change", shape(change, change, "A row's creation, update or deletion."))
        errors = {"type": "array", "items": ref("Fault"), "description": "What is at fault, where the body is."}
        self.add("Problem", shape(PROBLEM | {"errors": errors}, PROBLEM, "An error, in the form of RFC 9457."))
        self.add("Fault", shape(FAULT, FAULT, "What is wrong with one member of the body."))

    def add(self, name: str, component: JSONSchema) -> None:
        """Add a schema under its name."""
        self.spec.components.schema(name, component)

    def value(self, field: Field[Any]) -> JSONSchema:
        """Return the schema of what a field holds when it isn't null."""
        text: Any = field
        said: JSONSchema = {"type": "string", "maxLength": text.max_length} if text.format is values.TEXT else {}
        for rule in (text.format, *field.validators):
            said |= KINDS.get(rule, {})
        if "anyOf" in said:
            said = {"anyOf": said["anyOf"]}
        converted: JSONSchema = said | self.converter.field2property(field) | said
        # Generated clients would send a default, and so overwrite what matchOn finds: sent() says it in words.
        converted.pop("default", None)
        if "pattern" in converted:
            converted["pattern"] = whole_text(converted["pattern"])
        return converted

    def shown(self, schema: PublicSchema) -> JSONSchema:
        """Return the members of a row that is answered."""
        values = {str(field.data_key): (field, self.value(field)) for field in schema.fields.values()}
        return {name: or_null(said) if field.allow_none else said for name, (field, said) in values.items()}

    def sent(self, schema: PublicSchema, partial: bool) -> JSONSchema:
        """Return the members of a row that is sent; what is read-only may be sent back."""
        members = {}
        for name, field in schema.load_fields.items():
            said = members[str(field.data_key)] = self.shown(schema)[str(field.data_key)]
            default = field.load_default() if callable(field.load_default) else field.load_default
            if isinstance(schema, schemas.ResourceSchema) and name in READ_ONLY:
                said["readOnly"] = True
                said["description"] += " Leave it out, or send it back unchanged."
            elif default is not missing and default is not None and not partial:
                said["description"] += f" Default: {json.dumps(default)}."
        return members

    def add_resource(self, endpoint: Endpoint) -> None:
        """Add an endpoint's rows: whole, in part, new, and as they are changed."""
        schema, title = endpoint.schema, title_of(endpoint)
        about, members = str(schema.__doc__), self.shown(schema)
        embedded = {name: self.embedded(name) for name in endpoint.includes}
        self.add(title, shape(members | embedded, members, about))
        self.add(f"Partial{title}", shape(members | embedded, (), f"{about} Only what `fields` names is there."))
        new = [str(field.data_key) for field in schema.load_fields.values() if field.required]
        strict = {"additionalProperties": False}
        self.add(f"New{title}", shape(self.sent(schema, False), new, f"{about} To be created or replaced.", **strict))
        about = f"{about} What is sent changes, the rest stays (RFC 7396)."
        self.add(f"{title}Patch", shape(self.sent(schema, True), (), about, **strict))

    def embedded(self, include: str) -> JSONSchema:
        """Return the schema of the rows that an include embeds."""
        row = ref(title_of(ENDPOINTS[table_of(include)]))
        about = {"description": f"Only there with `include={include}`."}
        return about | ({"type": "array", "items": row} if include in ENDPOINTS else or_null({"anyOf": [row]}))

    def add_keys(self) -> None:
        """Add the keys' records: as they are shown, sent, and shown the one time with the key."""
        schema = KeySchema()
        about, members, sent = str(schema.__doc__), self.shown(schema), self.sent(schema, False)
        self.add("Key", shape(members, members, about))
        self.add("NewKey", shape(sent, ["name"], "A key to be created.", additionalProperties=False))
        key = {"type": "string", "description": "The key itself, shown this once.", "examples": [KEY]}
        self.add("CreatedKey", shape(members | {"key": key}, [*members, "key"], "A new key with its record."))


# Nobody's: no database has its hash.
KEY = "cfk_GveQkqyZNSXmaUMzFRSlBOJql3LFWH4Is0qd"

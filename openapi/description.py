"""Access to the OpenAPI document: its operations, its references, and the type of a schema in words."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from flask import Flask

from openapi.document import ADDRESS, build_document
from openapi.json_schema import JSONSchema


class Description:
    """The description of an app's API, built at first use, when all routes are registered."""

    address = ADDRESS

    def __init__(self, app: Flask) -> None:
        self.app = app

    @cached_property
    def document(self) -> JSONSchema:
        """The OpenAPI document."""
        return build_document(self.app)

    @property
    def operations(self) -> Iterator[tuple[str, str, JSONSchema]]:
        """Path, method and object of each operation, with references to parameters and responses resolved."""
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                parameters = [self.resolve(each) for each in operation["parameters"]]
                responses = {status: self.resolve(each) for status, each in operation["responses"].items()}
                yield path, method.upper(), operation | {"parameters": parameters, "responses": responses}

    def resolve(self, part: JSONSchema) -> JSONSchema:
        """Return the part of the document that a reference points to; any other part as it is."""
        target: Any = self.document if "$ref" in part else part
        for step in part.get("$ref", "").split("/")[1:]:
            target = target[step]
        return dict(target)

    def type_in_words(self, schema: JSONSchema) -> str:
        """Return the type of a schema in words, as in `string (up to 255 characters) or null`."""
        if "$ref" in schema:
            return str(schema["$ref"].rpartition("/")[2])
        if "anyOf" in schema:
            return " or ".join(map(self.type_in_words, schema["anyOf"]))
        if values := schema.get("enum"):
            return f"one of {', '.join(values)}" if len(values) > 1 else f"the word {values[0]}"
        if schema["type"] == "array":
            most = f", at most {schema['maxItems']}" if "maxItems" in schema else ""
            return f"array of {self.type_in_words(schema['items'])}{most}"
        limits = [schema["format"]] if "format" in schema else []
        if "maxLength" in schema:
            start = f"{schema['minLength']} to" if "minLength" in schema else "up to"
            limits.append(f"{start} {schema['maxLength']} characters")
        if "minimum" in schema:
            start = str(schema["minimum"])
            limits.append(f"{start} to {schema['maximum']}" if "maximum" in schema else f"from {start}")
        return f"{schema['type']} ({', '.join(limits)})" if limits else str(schema["type"])

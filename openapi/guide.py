"""What a reader needs besides the operations, in Markdown, and with them: that is /llms.txt."""

import json
from typing import Any

INTRODUCTION = """\
Read and write the companies, contacts and conversations of Cardfile, a small CRM, as JSON over HTTP: from your own
integrations, scheduled jobs and applications.

## Get a key

Every request needs an API key. The first start of the service prints one; others are made at Settings → Developer,
or by `python service.py keys create NAME`. A key's scope is `read`, `write` (which includes read) or `admin` (which
includes write, and manages keys). A key is shown once, when it is created: keep it out of version control, and delete
one that others have seen.

## First call

Send the key as `Authorization: Bearer YOUR_API_KEY`:

```
curl -H "Authorization: Bearer YOUR_API_KEY" http://127.0.0.1:8000/api/v1/companies
```

## Errors

Every error is `application/problem+json` (RFC 9457). `detail` says what to do, `errors` points at each member of
the body that is at fault, and `requestId`, which is also in `X-Request-Id`, finds the request in the log. What isn't
known or doesn't fit is refused, and the answer says what was probably meant. An address that takes other methods
answers 405, with `Allow`. HEAD answers as GET does, without the body.

## Values

Members stand in the order shown here; `null` is written, never left out. Times are UTC in whole seconds
(`2024-01-15T10:30:00Z`); sent, they may have any offset, but must have one (RFC 3339). Text is Unicode without the
character NUL.

## Pages and filters

Without a parameter a list has all rows, oldest first. `limit=50` makes it a page: `Link: <…>; rel="next"` names the
next one, and is missing on the last. Any field filters: `status=open&status=pending` for any of these,
`dealValue[gte]=50000` for a range, `companyId=null` for none.

## Writes

POST creates one row or, from an array, up to 1,000, all or none. PUT creates or replaces the row of an id of your
choice, PATCH changes what is sent. Send `Idempotency-Key` with a POST that you may have to repeat, `If-Match` with
the `ETag` that you have read so that nobody's change is overwritten, and `dryRun=true` to try.

## Keep a copy in step

Every answer carries `Dataset-Version`, the number of the last change that it reflects. Read the lists once, keep
the version of the first answer, and from then on ask `/api/v1/changes?since=` that number; deletions are in it too.

## How often to ask

There is no strict limit. Stay below 100 requests a minute where you can: ask for what changed instead of everything,
send `If-None-Match` with the `ETag` that you have, and write up to 1,000 rows at once. After a 503, wait for as many
seconds as `Retry-After` says.
"""


JSONSchema = dict[str, Any]


def write_guide(document: JSONSchema) -> str:
    """Return the OpenAPI document as one page of Markdown."""
    heading = f"# {document['info']['title']}\n\n{document['info']['description']}"
    failures = "\n".join(f"- {line}" for line in meanings(document))
    tags = (write_tag(document, tag["name"], tag["description"]) for tag in document["tags"])
    return "\n".join([heading, "\n## Every failure\n", failures, "", *tags])


def meanings(document: JSONSchema) -> list[str]:
    """Return what each failing status means."""
    found = {}
    for _path, _method, operation in operations_in(document):
        for status, response in operation["responses"].items():
            if "$ref" in response:
                found[status] = resolve(document, response)["description"]
    return [f"{status}: {found[status]}" for status in sorted(found)]


def operations_in(document: JSONSchema) -> list[tuple[str, str, JSONSchema]]:
    """Return the operations of the document with their paths and methods."""
    return [
        (path, method.upper(), operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


def resolve(document: JSONSchema, said: JSONSchema) -> JSONSchema:
    """Return what a reference stands for, or else what is said."""
    found: Any = document
    if "$ref" not in said:
        return said
    for step in said["$ref"].split("/")[1:]:
        found = found[step]
    return dict(found)


def write_tag(document: JSONSchema, tag: str, about: str) -> str:
    """Return the section on one resource: its fields, then its operations."""
    schemas = document["components"]["schemas"]
    new = schemas.get(f"New{NAMES[tag]}", {"properties": {}})
    shown = schemas[NAMES[tag]]["properties"] | new["properties"]
    fields = [f"- `{name}`: {words_for(said)}. {said['description']}" for name, said in shown.items()]
    needed = [f"- To create one, {', '.join(new['required'])} is needed."] if "required" in new else []
    told = [each for each in operations_in(document) if tag in each[2]["tags"]]
    parts = [f"## {tag}\n\n{about} Fields:\n", *fields, *needed, *(write_operation(document, *each) for each in told)]
    return "\n".join(parts) + "\n"


NAMES = {
    "companies": "Company",
    "contacts": "Contact",
    "conversations": "Conversation",
    "changes": "Change",
    "keys": "Key",
}


def words_for(said: JSONSchema) -> str:
    """Return a schema in words."""
    if "$ref" in said:
        return str(said["$ref"].rpartition("/")[2])
    if "anyOf" in said:
        return " or ".join(map(words_for, said["anyOf"]))
    if "enum" in said or "const" in said:
        return "one of " + ", ".join(said["enum"]) if "enum" in said else f"the word {said['const']}"
    kinds = [said["type"]] if isinstance(said["type"], str) else said["type"]
    if "array" in kinds:
        most = f", at most {said['maxItems']}" if "maxItems" in said else ""
        return f"array of {words_for(said['items'])}{most}"
    limits = [said["format"]] if "format" in said else []
    if "maxLength" in said:
        limits.append(f"{said['minLength']} to" if "minLength" in said else "up to")
        limits[-1] += f" {said['maxLength']} characters"
    if "minimum" in said:
        limits.append(f"{said['minimum']} to {said['maximum']}" if "maximum" in said else f"from {said['minimum']}")
    return " or ".join(kinds) + (f" ({', '.join(limits)})" if limits else "")


def write_operation(document: JSONSchema, path: str, method: str, operation: JSONSchema) -> str:
    """Return the section on one operation: what it takes, what it sends and answers."""
    lines = [f"\n### {method} {path}\n", f"{operation['summary']}. {operation['description']}\n"]
    taken = [resolve(document, given) for given in operation["parameters"]]
    filters = [said["name"] for said in taken if said["schema"].get("type") == "array"]
    ranges = {said["name"].partition("[")[0]: None for said in taken if "[" in said["name"]}
    for said in taken:
        if said["name"].partition("[")[0] not in [*filters, *ranges, "X-Request-Id"]:
            lines.append(f"- `{said['name']}` ({said['in']}, {words_for(said['schema'])}): {said['description']}")
    if filters:
        lines.append(
            f"- filters (query): {', '.join(filters)}; with [gte], [gt], [lte], [lt], [ne]: {', '.join(ranges)}"
        )
    if "requestBody" in operation:
        lines += example("Send", operation["requestBody"]["content"])
    answered = [
        (status, response["content"]) for status, response in operation["responses"].items() if "content" in response
    ]
    lines += [line for status, content in answered[:1] for line in example(f"Answer {status}", content)]
    return "\n".join([*lines, f"\nStatuses: {', '.join(sorted(operation['responses']))}."])


def example(told: str, content: JSONSchema) -> list[str]:
    """Return the first example of some content, under a line that says what it is."""
    given = next(iter(content.values()))
    value = given["example"] if "example" in given else next(iter(given["examples"].values()))["value"]
    return [f"\n{told}:\n\n```json\n{json.dumps(value, ensure_ascii=False)}\n```"]

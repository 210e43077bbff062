"""Examples: code samples of a request in curl, Python and JavaScript, and the response to show with them."""

import json
import re
from collections.abc import Iterator
from textwrap import indent
from typing import Any, NamedTuple

AUTHORIZATION = "Bearer YOUR_API_KEY"
# The name under which a sample saves a file.
FILE = "cardfile.sqlite"
CODE_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n?", re.M | re.S)
CODE_BLOCKS = re.compile(r"((?:^```\w+\n.*?^```\n?)+)", re.M | re.S)
LANGUAGES = {"sh": "Shell", "json": "JSON", "python": "Python", "js": "JavaScript"}
# The closing quotation mark is optional, so that a string without one takes linear time.
CONSTANT = re.compile(r'("(?:\\.|[^"\\])*+"?)|true|false|null')
CONSTANTS = {"true": "True", "false": "False", "null": "None"}


class Sample(NamedTuple):
    """A request to show: its method, its URL, its JSON body or None, and its own headers.

    The code prints the headers of the response that `shows` names, then its JSON or its status code, or saves it as a
    file. An error status ends the program, unless `is_refused`: then the error is printed, too.
    """

    method: str
    url: str
    body: Any
    headers: dict[str, str]
    returns_json: bool = True
    is_file: bool = False
    shows: tuple[str, ...] = ()
    is_refused: bool = False

    @property
    def languages(self) -> dict[str, str]:
        """The code of the request, by language."""
        return {"curl": write_curl(self), "Python": write_python(self), "JavaScript": write_javascript(self)}


class Example(NamedTuple):
    """Code by language, and the response to it: the status, the headers and the JSON to show."""

    languages: dict[str, str]
    status: str = ""
    headers: str = ""
    response: str = ""


def read_parts(text: str) -> Iterator[str | Example]:
    """Yield the parts of a guide: its Markdown, and the examples in its code blocks.

    Adjacent blocks are one example in several languages. A block of HTTP is a request with its response.
    """
    for part in filter(str.strip, CODE_BLOCKS.split(text)):
        blocks = CODE_BLOCK.findall(part)
        if not blocks:
            yield part
        elif blocks[0][0] == "http":
            yield read_example(blocks[0][1])
        else:
            yield Example({LANGUAGES[kind]: code.strip() for kind, code in blocks})


def read_example(text: str) -> Example:
    """Return the example in a block of HTTP: a request and, after an empty line, the response."""
    request, _, response = text.partition("\n\nHTTP/1.1 ")
    head, _, body = request.partition("\n\n")
    line, *headers = head.splitlines()
    method, url = line.split()
    head, _, answer = response.partition("\n\n")
    status, *shown = head.splitlines()
    sample = Sample(
        method,
        url,
        json.loads(body) if body else None,
        dict(each.split(": ", 1) for each in headers),
        returns_json=bool(answer),
        shows=tuple(each.partition(":")[0] for each in shown),
        is_refused=status >= "4",
    )
    return Example(sample.languages, status, "\n".join(shown), write_json(json.loads(answer)) if answer else "")


def write_json(value: Any) -> str:
    """Return JSON, indented."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def headers_of(sample: Sample, names_type: bool = True) -> dict[str, str]:
    """Return all headers of a request; with `names_type`, also the type of its body."""
    content_type = {"Content-Type": "application/json"} if names_type and sample.body is not None else {}
    return {"Authorization": AUTHORIZATION, **content_type, **sample.headers}


def write_curl(sample: Sample) -> str:
    """Return the request as a shell command."""
    # Without -g, brackets in a URL are a pattern.
    options = f"{' -g' if '[' in sample.url else ''}{' -i' if sample.shows else ''}"
    method = f" -X {sample.method}" if sample.method != "GET" else ""
    headers = [f"-H {json.dumps(': '.join(each))}" for each in headers_of(sample).items()]
    lines = [f'curl{options}{method} "{sample.url}"', *headers]
    if sample.body is not None:
        body = write_json(sample.body).replace("'", r"'\''").replace("\n", "\n  ")
        lines.append(f"-d '{body}'")
    lines += [f"--output {FILE}"] if sample.is_file else []
    return " \\\n  ".join(lines)


def write_python(sample: Sample) -> str:
    """Return the request as a Python program with the requests package."""
    arguments = [json.dumps(sample.url), f"headers={json.dumps(headers_of(sample, False))}"]
    if sample.body is not None:
        # The constants that JSON and Python write differently, outside of strings.
        body = json.dumps(sample.body, indent=4, ensure_ascii=False)
        arguments.append(f"json={CONSTANT.sub(lambda found: found[1] or CONSTANTS[found[0]], body)}")
    result = "response.json()" if sample.returns_json else "response.status_code"
    result = f'open("{FILE}", "wb").write(response.content)' if sample.is_file else result
    lines = indent(",\n".join(arguments), "    ")
    call = f"response = requests.{sample.method.lower()}(\n{lines},\n)"
    check = [] if sample.is_refused else ["response.raise_for_status()"]
    shown = [f'print(response.headers["{name}"])' for name in sample.shows]
    return "\n".join(["import requests", "", call, *check, *shown, f"print({result})"])


def write_javascript(sample: Sample) -> str:
    """Return the request as a JavaScript program for browsers and Node.js."""
    options = [f'method: "{sample.method}"'] if sample.method != "GET" else []
    options.append(f"headers: {json.dumps(headers_of(sample), indent=2 if sample.body else None)}")
    if sample.body is not None:
        options.append(f"body: JSON.stringify({write_json(sample.body)})")
    result = "await response.json()" if sample.returns_json else "response.status"
    lines = indent(",\n".join(options), "  ")
    call = f"const response = await fetch({json.dumps(sample.url)}, {{\n{lines},\n}});"
    check = [] if sample.is_refused else ["if (!response.ok) throw new Error((await response.json()).detail);"]
    shown = [f'console.log(response.headers.get("{name}"));' for name in sample.shows]
    return "\n".join([call, *check, *shown, f"console.log({result});"])

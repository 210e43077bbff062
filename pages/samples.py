"""Examples: code samples of a request in curl, Python and JavaScript, and the response to show with them."""

import json
import re
from collections.abc import Iterator, Mapping
from textwrap import indent
from types import MappingProxyType
from typing import Any, NamedTuple

AUTHORIZATION = "Bearer YOUR_API_KEY"
# The name under which a sample saves a file.
FILE = "cardfile.sqlite"
CODE_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n?", re.M | re.S)
CODE_BLOCKS = re.compile(r"((?:^```\w+\n.*?^```\n?)+)", re.M | re.S)
LANGUAGES = {"sh": "Shell", "json": "JSON", "python": "Python", "js": "JavaScript"}
CONSTANT = re.compile(r'("(?:\\.|[^"\\])*")|true|false|null')
CONSTANTS = {"true": "True", "false": "False", "null": "None"}
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Sample(NamedTuple):
    """A request to show: its method, its URL, its JSON body or None, and its headers.

    The program prints the headers of the response that `shows` names, then its JSON, or saves it as a file, or prints
    its status code. A refusal ends the program with an error, unless `is_refused` says that it is to be shown.
    """

    method: str
    url: str
    body: Any = None
    headers: Mapping[str, str] = NO_HEADERS
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
            yield Example(
                {
                    LANGUAGES[kind]: write_json(json.loads(code)) if kind == "json" else code.strip()
                    for kind, code in blocks
                }
            )


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
        body=json.loads(body) if body else None,
        headers=dict(each.split(": ", 1) for each in headers),
        returns_json=bool(answer),
        shows=tuple(each.partition(":")[0] for each in shown),
        is_refused=status >= "4",
    )
    return Example(sample.languages, status, "\n".join(shown), write_json(json.loads(answer)) if answer else "")


def write_json(value: Any) -> str:
    """Return JSON, indented."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def write_headers(sample: Sample, is_json: bool, width: int) -> str:
    """Return the headers of a request as an object of Python and JavaScript, on one line if there is only one."""
    content_type = {"Content-Type": "application/json"} if is_json else {}
    headers = {"Authorization": AUTHORIZATION, **content_type, **sample.headers}
    return json.dumps(headers, indent=width if len(headers) > 1 else None)


def write_curl(sample: Sample) -> str:
    """Return the request as a shell command."""
    # Without -g, brackets in a URL are a pattern.
    options = f"{' -g' if '[' in sample.url else ''}{' -i' if sample.shows else ''}"
    method = f" -X {sample.method}" if sample.method != "GET" else ""
    lines = [f'curl{options}{method} "{sample.url}"', f'-H "Authorization: {AUTHORIZATION}"']
    lines += [
        f"-H '{name}: {value}'" if '"' in value else f'-H "{name}: {value}"' for name, value in sample.headers.items()
    ]
    if sample.body is not None:
        body = write_json(sample.body).replace("'", r"'\''").replace("\n", "\n  ")
        lines += ['-H "Content-Type: application/json"', f"-d '{body}'"]
    lines += [f"--output {FILE}"] if sample.is_file else []
    return " \\\n  ".join(lines)


def write_python(sample: Sample) -> str:
    """Return the request as a Python program with the requests package."""
    arguments = [json.dumps(sample.url), f"headers={write_headers(sample, False, 4)}"]
    if sample.body is not None:
        # What JSON and Python write in another way, outside of texts.
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
    options.append(f"headers: {write_headers(sample, sample.body is not None, 2)}")
    if sample.body is not None:
        options.append(f"body: JSON.stringify({write_json(sample.body)})")
    result = "await response.json()" if sample.returns_json else "response.status"
    lines = indent(",\n".join(options), "  ")
    call = f"const response = await fetch({json.dumps(sample.url)}, {{\n{lines},\n}});"
    check = [] if sample.is_refused else ["if (!response.ok) throw new Error((await response.json()).detail);"]
    shown = [f'console.log(response.headers.get("{name}"));' for name in sample.shows]
    return "\n".join([call, *check, *shown, f"console.log({result});"])

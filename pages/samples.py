"""Code samples of a request: curl, Python and JavaScript."""

import json
from pprint import pformat
from textwrap import indent
from typing import Any, NamedTuple

AUTHORIZATION = "Bearer YOUR_API_KEY"
# The name under which a sample saves a file.
FILE = "cardfile.sqlite"


class Sample(NamedTuple):
    """A request to show: its method, its URL, its own JSON body or None, and whether its response is JSON or a file."""

    method: str
    url: str
    returns_json: bool = True
    body: Any = None
    is_file: bool = False

    @property
    def languages(self) -> dict[str, str]:
        """The code of the request, by language."""
        return {"curl": write_curl(self), "Python": write_python(self), "JavaScript": write_javascript(self)}


def write_curl(sample: Sample) -> str:
    """Return the request as a shell command."""
    lines = [f'curl -X {sample.method} "{sample.url}"', f'-H "Authorization: {AUTHORIZATION}"']
    if sample.body is not None:
        body = json.dumps(sample.body, indent=2, ensure_ascii=False).replace("'", r"'\''")
        lines += ['-H "Content-Type: application/json"', f"-d '{body}'"]
    lines += [f"--output {FILE}"] if sample.is_file else []
    return " \\\n  ".join(lines)


def write_python(sample: Sample) -> str:
    """Return the request as a Python program with the requests package."""
    arguments = [json.dumps(sample.url), f'headers={{"Authorization": "{AUTHORIZATION}"}}']
    if sample.body is not None:
        arguments.append(f"json={pformat(sample.body, width=60, sort_dicts=False)}".replace("\n", "\n     "))
    result = "response.json()" if sample.returns_json else "response.status_code"
    result = f'open("{FILE}", "wb").write(response.content)' if sample.is_file else result
    lines = indent(",\n".join(arguments), "    ")
    call = f"requests.{sample.method.lower()}(\n{lines},\n)"
    return f"import requests\n\nresponse = {call}\nresponse.raise_for_status()\nprint({result})"


def write_javascript(sample: Sample) -> str:
    """Return the request as a JavaScript program for browsers and Node.js."""
    options = [f'method: "{sample.method}"'] if sample.method != "GET" else []
    content_type = ', "Content-Type": "application/json"' if sample.body is not None else ""
    options.append(f'headers: {{ Authorization: "{AUTHORIZATION}"{content_type} }}')
    if sample.body is not None:
        options.append(f"body: JSON.stringify({json.dumps(sample.body, indent=2, ensure_ascii=False)})")
    result = "await response.json()" if sample.returns_json else "response.status"
    lines = indent(",\n".join(options), "  ")
    call = f"await fetch({json.dumps(sample.url)}, {{\n{lines},\n}});"
    check = "if (!response.ok) throw new Error((await response.json()).detail);"
    return f"const response = {call}\n{check}\nconsole.log({result});"

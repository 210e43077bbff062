"""A request as people would write it: for the shell, in Python and in JavaScript."""

import json
from pprint import pformat
from textwrap import indent
from typing import Any, NamedTuple

AUTHORIZATION = "Bearer YOUR_API_KEY"


class Sample(NamedTuple):
    """A request that a page shows: its method, its whole address, and its JSON body where it has one."""

    method: str
    url: str
    body: Any = None

    @property
    def languages(self) -> dict[str, str]:
        """Return the request in every language, by the language's name."""
        return {"curl": write_curl(self), "Python": write_python(self), "JavaScript": write_javascript(self)}


def write_curl(sample: Sample) -> str:
    """Return the command for a shell."""
    lines = [f'curl -X {sample.method} "{sample.url}"', f'-H "Authorization: {AUTHORIZATION}"']
    if sample.body is not None:
        written = json.dumps(sample.body, indent=2, ensure_ascii=False).replace("'", r"'\''")
        lines += ['-H "Content-Type: application/json"', f"-d '{written}'"]
    return " \\\n  ".join(lines)


def write_python(sample: Sample) -> str:
    """Return the program in Python, with the package that most people use."""
    arguments = [json.dumps(sample.url), f'headers={{"Authorization": "{AUTHORIZATION}"}}']
    if sample.body is not None:
        arguments.append(f"json={pformat(sample.body, width=60, sort_dicts=False)}".replace("\n", "\n     "))
    given = indent(",\n".join(arguments), "    ")
    shown = "answer.status_code" if sample.method == "DELETE" else "answer.json()"
    call = f"answer = requests.{sample.method.lower()}(\n{given},\n)"
    return f"import requests\n\n{call}\nanswer.raise_for_status()\nprint({shown})"


def write_javascript(sample: Sample) -> str:
    """Return the program in JavaScript, for browsers and Node.js."""
    options = [f'headers: {{ Authorization: "{AUTHORIZATION}" }}']
    if sample.body is not None:
        options = [
            f'headers: {{ Authorization: "{AUTHORIZATION}", "Content-Type": "application/json" }}',
            f"body: JSON.stringify({json.dumps(sample.body, indent=2, ensure_ascii=False)})",
        ]
    if sample.method != "GET":
        options.insert(0, f'method: "{sample.method}"')
    given = indent(",\n".join(options), "  ")
    shown = "answer.status" if sample.method == "DELETE" else "await answer.json()"
    call = f"const answer = await fetch({json.dumps(sample.url)}, {{\n{given},\n}});"
    return f"{call}\nif (!answer.ok) throw new Error((await answer.json()).detail);\nconsole.log({shown});"

"""What each client does: list the tools, write, err, take back. It prints a line of JSON for each answer."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


def show(*values: Any) -> None:
    """Print the values as a line of JSON."""
    print(json.dumps(values), flush=True)


async def run(version: str, tools: Any, call: Call) -> None:
    """Call tools of a connected client, of either version of the package."""
    show("version", version)
    show("tools", [tool.name for tool in tools])

    async def call_tool(name: str, **arguments: Any) -> Any:
        result = (await call(name, arguments)).model_dump(by_alias=True, mode="json")
        show(name, result["isError"], result["content"][0]["text"].splitlines()[0])
        return result["structuredContent"]

    await call_tool("describe", resource="companies")
    saved = await call_tool("save", resource="companies", rows=[{"name": "Acme"}])
    await call_tool("update", resource="companies", id=saved["rows"][0]["id"], fields={"website": "acme"})
    await call_tool("find", resource="companies", fields=["name"])
    await call_tool("revert", requestId=saved["requestId"])
    try:
        await call("nope", {})
    except Exception as error:
        show("error", str(error))

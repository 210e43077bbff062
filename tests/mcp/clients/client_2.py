"""The client of mcp 2: `client_2.py MODE URL` by the key in CARDFILE_KEY, or `client_2.py MODE COMMAND ARGUMENT...`."""

import os
import sys

import anyio
import httpx2
from mcp.client.streamable_http import streamable_http_client
from scenario import run

from mcp import Client, StdioServerParameters, stdio_client

KEY = os.environ["CARDFILE_KEY"]


async def main(mode: str, target: str, *arguments: str) -> None:
    """Run the scenario over HTTP or standard input and output."""
    if target.startswith("http"):
        http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"})
        transport = streamable_http_client(target, http_client=http)
    else:
        server = StdioServerParameters(command=target, args=list(arguments), env={"CARDFILE_KEY": KEY})
        transport = stdio_client(server)
    async with Client(transport, mode=mode) as client:
        await run(client.protocol_version, (await client.list_tools()).tools, client.call_tool)


anyio.run(main, *sys.argv[1:])

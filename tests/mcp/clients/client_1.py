"""The client of mcp 1: `client_1.py URL` by the key in CARDFILE_KEY, or `client_1.py COMMAND ARGUMENT...`."""

import os
import sys

import anyio
import httpx
from mcp.client.streamable_http import streamable_http_client
from scenario import run

from mcp import ClientSession, StdioServerParameters, stdio_client

KEY = os.environ["CARDFILE_KEY"]


async def main(target: str, *arguments: str) -> None:
    """Run the scenario over HTTP or standard input and output."""
    if target.startswith("http"):
        http = httpx.AsyncClient(headers={"Authorization": f"Bearer {KEY}"})
        transport = streamable_http_client(target, http_client=http)
    else:
        server = StdioServerParameters(command=target, args=list(arguments), env={"CARDFILE_KEY": KEY})
        transport = stdio_client(server)
    async with transport as (read, write, *_more), ClientSession(read, write) as session:
        about = await session.initialize()
        await session.send_ping()
        await run(about.protocolVersion, (await session.list_tools()).tools, session.call_tool)


anyio.run(main, *sys.argv[1:])

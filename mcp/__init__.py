"""The API for agents: the Model Context Protocol at `/mcp`, and over standard input and output."""

from flask import Flask

from mcp.protocol import answer_message


def init_mcp(app: Flask) -> None:
    """Register the endpoint."""
    app.add_url_rule("/mcp", "mcp", answer_message, methods=["POST"])

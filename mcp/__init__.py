"""The API for agents: the Model Context Protocol at `/mcp`, and over standard input and output."""

from pathlib import Path

from flask import Flask

from mcp.protocol import blueprint


def init_mcp(app: Flask) -> None:
    """Register the endpoint, and add the guide to the description."""
    app.extensions.setdefault("guides", []).append(Path(__file__).with_name("guide.md").read_text("utf-8"))
    app.register_blueprint(blueprint)

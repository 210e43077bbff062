#!/usr/bin/env python3
"""Cardfile: companies, contacts and conversations as JSON, from one process and one SQLite file."""

import os
from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from werkzeug.routing import MapAdapter

from api import create_api
from api.changes import init_changes
from api.problems import init_problems
from api.protocol import Segment, init_protocol
from auth import API, init_auth
from database import init_database
from openapi import documents
from pages import init_pages
from settings import Settings, load_settings


class Cardfile(Flask):
    """The app, without what Flask does for every request that none of Cardfile's needs."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        # No route asks for a host, and no address is made of one: Flask would take it apart for every request.
        if request is None:
            return None
        here = request.root_path, "", request.scheme, request.path, request.method
        return MapAdapter(self.url_map, "", *here)


def create_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI app, its database opened and brought up to date.

    Raises SettingRefused or DatabaseRefused when that can't be.
    """
    settings = settings or load_settings({}, os.environ)
    app = Cardfile("cardfile", static_folder=None)
    # The one limit to a body: Flask has lower ones for the parts of a form, of which a 413 says nothing.
    app.config.update(MAX_CONTENT_LENGTH=1024 * 1024, MAX_FORM_MEMORY_SIZE=None, MAX_FORM_PARTS=None)
    app.config["LOG_FORMAT"] = settings.log_format
    # A redirect to a tidier path would be an answer in HTML.
    app.url_map.merge_slashes = False
    app.url_map.converters["default"] = Segment
    init_database(app, settings)
    init_protocol(app)
    init_changes(app)
    init_auth(app)
    init_problems(app)
    app.register_blueprint(create_api(), url_prefix=API)
    init_pages(app)
    app.register_blueprint(documents)
    return app


def main() -> None:
    """Hand over to the commands."""
    from commands import cli

    cli(obj=create_app)


if __name__ == "__main__":
    main()

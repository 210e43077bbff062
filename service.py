#!/usr/bin/env python3
"""Cardfile: a CRM REST API over companies, contacts and conversations in one SQLite file."""

import os

from flask import Flask

from api import create_api
from api.changes import init_changes
from api.first_key import prepare_start
from api.key_uses import init_key_uses
from api.problems import init_problems
from api.protocol import init_protocol
from auth import API, require_key
from database import init_database
from mcp import init_mcp
from openapi import init_openapi
from operate import init_operation
from pages import init_pages
from server.log import init_log
from settings import Settings, load_settings
from transfer import init_transfer
from webhooks import init_webhooks


def create_app(settings: Settings | None = None, writes: bool = True) -> Flask:
    """Return the WSGI app, its database opened and its schema upgraded.

    Without settings, as gunicorn and Flask call it, it reads them from the environment, and logs how to create the
    first API key. With writes=False, for commands that only read, the database may be a file that can't be written.
    Raises InvalidSetting or UnusableDatabase.
    """
    from_environment, settings = settings is None, settings or load_settings({}, os.environ)
    app = Flask("cardfile", static_folder=None)
    # One limit for all bodies: the sentence of a 413 doesn't mention Flask's lower limits for the parts of a form.
    app.config.update(MAX_CONTENT_LENGTH=1024 * 1024, MAX_FORM_MEMORY_SIZE=None, MAX_FORM_PARTS=None)
    # A redirect to a path without double slashes would be an HTML response.
    app.url_map.merge_slashes = False
    init_log(app, settings.log_format)
    init_database(app, settings, writes)
    init_protocol(app)
    init_changes(app)
    app.before_request(require_key)
    init_key_uses(app)
    init_problems(app)
    app.register_blueprint(create_api(), url_prefix=API)
    init_pages(app)
    init_openapi(app)
    init_operation(app, settings)
    init_webhooks(app, settings)
    init_mcp(app)
    init_transfer(app)
    if from_environment:
        prepare_start(app, settings)
    return app


def main() -> None:
    """Run the command that the arguments name."""
    from commands import cli

    cli(obj=create_app)


if __name__ == "__main__":
    main()

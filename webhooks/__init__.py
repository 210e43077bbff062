"""Webhooks: the change log, sent to URLs as signed messages (Standard Webhooks 1.0.0)."""

from flask import Flask

from auth import API
from settings import Settings
from webhooks.outbox import delete_old_attempts
from webhooks.schema import schema
from webhooks.sender import Sender
from webhooks.views import blueprint


def init_webhooks(app: Flask, settings: Settings) -> None:
    """Add the endpoints under /api/v1/webhooks, and the sender, which the server starts."""
    sender = app.extensions["webhooks"] = Sender(app, settings)
    app.extensions["background"].append(sender)
    app.extensions["last_use"].cleanings.append(delete_old_attempts)
    app.extensions.setdefault("schemas", {})["webhooks"] = schema
    app.after_request(sender.note_response)
    app.register_blueprint(blueprint, url_prefix=API)

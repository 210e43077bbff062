"""Webhooks: the change log, sent to URLs as signed messages (Standard Webhooks 1.0.0)."""

from collections.abc import Iterator
from typing import Any

from flask import Flask

from auth import API
from database.connection import execute
from settings import Settings
from webhooks.outbox import LAGS, delete_old_attempts
from webhooks.pages import add_pages
from webhooks.schema import schema
from webhooks.sender import Sender
from webhooks.views import blueprint


class Lags:
    """A collector of the changes that each webhook is behind, and of its failed tries."""

    def collect(self) -> Iterator[Any]:
        """Yield the metrics."""
        from prometheus_client.core import GaugeMetricFamily

        rows = execute(LAGS).fetchall()
        names = {"lag_changes": "Changes that the webhook is behind.", "failures": "Failed tries of its next message."}
        for index, (name, about) in enumerate(names.items(), 1):
            metric = GaugeMetricFamily(f"cardfile_webhook_{name}", about, labels=["webhook"])
            for row in rows:
                metric.add_metric([row[0]], row[index])
            yield metric


def init_webhooks(app: Flask, settings: Settings) -> None:
    """Add the endpoints under /api/v1/webhooks, and the sender, which the server starts."""
    sender = app.extensions["webhooks"] = Sender(app, settings)
    app.extensions["background"].append(sender)
    app.extensions["last_use"].cleanings.append(delete_old_attempts)
    app.extensions.setdefault("collectors", []).append(Lags())
    app.extensions.setdefault("schemas", {})["webhooks"] = schema
    app.after_request(sender.note_response)
    app.register_blueprint(blueprint, url_prefix=API)
    add_pages(app)

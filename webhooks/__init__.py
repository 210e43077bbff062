"""Webhooks: the change log, sent to URLs as signed messages (Standard Webhooks 1.0.0)."""

from pathlib import Path
from typing import Any

from flask import Flask

from auth import API
from database.connection import execute
from settings import Settings
from webhooks import pages, views
from webhooks.outbox import LAGS
from webhooks.schema import schema
from webhooks.sender import Sender


class Lags:
    """A collector of the lag and the failures of each webhook."""

    def collect(self) -> list[Any]:
        """Return the metrics."""
        from prometheus_client.core import GaugeMetricFamily as Gauge

        lag = Gauge("cardfile_webhook_lag_changes", "Changes that were not yet delivered.", labels=["webhook"])
        failures = Gauge("cardfile_webhook_failures", "Failed attempts to send the next message.", labels=["webhook"])
        for webhook_id, changes, failed in execute(LAGS).fetchall():
            lag.add_metric([webhook_id], changes)
            failures.add_metric([webhook_id], failed)
        return [lag, failures]


def init_webhooks(app: Flask, settings: Settings) -> None:
    """Add the endpoints under /api/v1/webhooks, the sender, which the server starts, and pages, if there are others."""
    sender = app.extensions["webhooks"] = Sender(app, settings)
    app.extensions["background"].append(sender)
    app.extensions.setdefault("collectors", []).append(Lags())
    app.extensions.setdefault("schemas", {})["webhooks"] = schema
    app.extensions.setdefault("guides", []).append(Path(__file__).with_name("guide.md").read_text("utf-8"))
    app.after_request(sender.note_response)
    app.register_blueprint(views.blueprint, url_prefix=API)
    if "settings_pages" in app.extensions:
        app.extensions["settings_pages"]["webhooks"] = ("Webhooks", "webhook_pages.show_webhooks")
        app.register_blueprint(pages.blueprint, url_prefix="/settings/webhooks")

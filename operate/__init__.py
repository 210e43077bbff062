"""Operation: health, metrics, rate limits, CORS, proxies; check, copy and restore; erasure and retention."""

from functools import partial

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from api.resources import ENDPOINTS
from auth import API, public, requires
from operate.cors import init_cors
from operate.erasure import forget
from operate.health import healthz, readyz
from operate.metrics import init_metrics
from operate.rate_limit import init_rate_limit
from operate.retention import blank_old_data
from settings import Settings


def init_operation(app: Flask, settings: Settings) -> None:
    """Register the endpoints of probes, metrics and erasure, and what the settings turn on."""
    init_proxies(app, settings)
    init_rate_limit(app, settings)
    init_cors(app, settings)
    init_metrics(app, settings)
    app.add_url_rule("/healthz", view_func=public(healthz))
    app.add_url_rule("/readyz", view_func=public(readyz))
    if settings.keep_changes:
        app.extensions["last_use"].cleanings.append(partial(blank_old_data, settings.keep_changes))
    for each in ENDPOINTS.values():
        view = requires("admin")(partial(forget, each))
        app.add_url_rule(f"{API}/{each.name}/<row_id>/forget", f"forget_{each.singular}", view, methods=["POST"])


def init_proxies(app: Flask, settings: Settings) -> None:
    """Trust the X-Forwarded headers of the number of proxies in the settings; by default, ignore the headers."""
    if count := settings.proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, count, count, count, x_prefix=count)  # type: ignore[method-assign]

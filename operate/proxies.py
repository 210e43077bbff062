"""`PROXIES`: the client's address, and the public URL of a request, from the headers of trusted proxies."""

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from settings import Settings


def init_proxies(app: Flask, settings: Settings) -> None:
    """Trust the X-Forwarded headers of the number of proxies in the settings; by default, ignore the headers."""
    count = settings.proxies
    if count:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=count, x_proto=count, x_host=count, x_prefix=count
        )
